"""The ClickHouse engine as a process of its own, with ClickHouse's HTTP interface before it on loopback.

    python -P -m unproxy.local.servers.engine --folder DIR --port N

It is for the laptop and the tests: sink, queries, console and a user's own tools meet the same endpoint as in
production. It has one user, `default`, whose password is in `DIR/secret`, and no TLS; it is no server for a fleet. A data
folder can be open in one process only.

What a statement may do is limited twice: by ClickHouse's grants (`access.xml`, beside this file), and by the kernel where
it has Landlock (`confinement.py`).
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
"""Of our environment; a statement could read the rest of it, and people keep secrets there."""
_SYSTEM_FILES = (
    *("/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"),
    *("/dev/random", "/dev/urandom", "/sys/devices/system", "/sys/fs/cgroup"),
    *("/proc/cpuinfo", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/sys"),
)
"""What Python and the library read of the system: code, time zones, randomness, and how large the machine is."""


class Engine(Service):
    """A ClickHouse engine in a folder."""

    name = "clickhouse"

    @property
    def url(self) -> str:
        """The address for clients; the same again after a restart."""
        return f"http://{HOST}:{self.port}"

    @property
    def host(self) -> str:
        """The address in `url`."""
        return HOST

    def settings(self, database: str, *, timeout_secs: float = 30.0) -> ClickHouseSettings:
        """Return the settings of a client of this engine, login included."""
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
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog=f"python -P -m {_MODULE}", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder of data and secret; made when missing")
    parser.add_argument("--port", type=int, required=True, help=f"port on {HOST}")
    given = parser.parse_args()
    folder = given.folder.absolute()
    # The library takes a config.xml of the current folder for its own.
    os.chdir(Path(__file__).parent)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    data = folder / "data"
    temporary = data / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    # The library opens an empty engine in a temporary folder when it is imported.
    os.environ["TMPDIR"] = str(temporary)
    secret = secret_of(folder)
    # Before the library is loaded: threads that run already would stay unconfined.
    if not confine(read=_needed_files(), write=[data, Path("/dev/null")], port=given.port):
        log.warning("kernel has no Landlock: statements with INTO OUTFILE or FROM INFILE can reach the user's files")
    # Only here, so that a process that merely starts this one need not load the engine (370 MB).
    from unproxy.local.servers.front import serve

    return serve(data, given.port, secret)


def _needed_files() -> Iterator[Path]:
    yield from map(Path, (*_SYSTEM_FILES, f"/proc/{os.getpid()}", sys.prefix, sys.base_prefix))
    yield from (Path(entry) for entry in sys.path if entry)


if __name__ == "__main__":
    sys.exit(main())
