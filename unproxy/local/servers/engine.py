"""The ClickHouse engine in its own process, behind ClickHouse's HTTP interface on loopback.

    python -P -m unproxy.local.servers.engine --folder DIR --port N

It is for one machine and for the tests: sink, queries, console and the user's own tools use the same interface as in
production. It has one user, `default`, whose password is in `DIR/secret`. It has no TLS, so it is no server for a fleet.
Only one process can have a data folder open.

Statements are restricted twice: by ClickHouse's grants (`access.xml`, beside this file), and by the kernel if it has
Landlock (`confinement.py`).
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from schemas.settings import ClickHouseSettings
from unproxy.local.servers.child import module_command, python_path
from unproxy.local.servers.confinement import confine
from unproxy.local.servers.secret import secret_of
from unproxy.local.servers.service import HOST, EmbeddedError, Service

log = logging.getLogger(__name__)

_MODULE = "unproxy.local.servers.engine"
_KEPT_VARIABLES = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_CONF")
"""The only environment variables that the engine gets: statements can read them, and others may hold secrets."""
_SYSTEM_FILES = (
    *("/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"),
    *("/dev/random", "/dev/urandom", "/sys/devices/system", "/sys/fs/cgroup"),
    *("/proc/cpuinfo", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/sys"),
)
"""Files of the system that Python and the library read: code, time zones, random numbers, size of the machine."""


class Engine(Service):
    """A ClickHouse engine in a folder."""

    name = "clickhouse"

    @property
    def url(self) -> str:
        """The URL for clients; it stays the same after a restart."""
        return f"http://{HOST}:{self.port}"

    @property
    def host(self) -> str:
        """The address in `url`."""
        return HOST

    def settings(self, database: str, *, timeout_secs: float = 30.0) -> ClickHouseSettings:
        """Return the settings of a client of this engine, including the login."""
        return ClickHouseSettings(url=self.url, database=database, password=self.secret, timeout_secs=timeout_secs)

    def _is_ours(self, command: list[str]) -> bool:
        return _MODULE in command and str(self.folder) in command

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        if importlib.util.find_spec("chdb") is None:
            raise EmbeddedError("the engine (chdb) is missing; install it with: pip install 'unproxy[embedded]'")
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        command = module_command(_MODULE, "--folder", str(self.folder), "--port", str(port))
        return command, {**kept, "PYTHONPATH": python_path(os.environ)}

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().read() == b"Ok.\n"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code if the server cannot start."""
    parser = argparse.ArgumentParser(prog=f"python -P -m {_MODULE}", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder of data and secret; made when missing")
    parser.add_argument("--port", type=int, required=True, help=f"port on {HOST}")
    given = parser.parse_args()
    folder = given.folder.absolute()
    # The library would use a config.xml in the current folder, so leave the user's folder. It also looks for
    # access.xml in the current folder.
    os.chdir(Path(__file__).parent)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    data = folder / "data"
    temporary = data / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    # The library opens an empty engine in a temporary folder when it is imported.
    os.environ["TMPDIR"] = str(temporary)
    secret = secret_of(folder)
    # Confine the process before the library is loaded: threads that run already would stay unconfined.
    if not confine(read=_needed_files(), write=[data, Path("/dev/null")], port=given.port):
        log.warning("kernel has no Landlock: statements with INTO OUTFILE or FROM INFILE can reach the user's files")
    # This import is here so that a process that only starts the engine does not load the library (370 MB).
    from unproxy.local.servers.front import serve

    return serve(data, given.port, secret)


def _needed_files() -> Iterator[Path]:
    yield from map(Path, (*_SYSTEM_FILES, f"/proc/{os.getpid()}", sys.prefix, sys.base_prefix))
    yield from (Path(entry) for entry in sys.path if entry)


if __name__ == "__main__":
    sys.exit(main())
