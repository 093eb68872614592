"""The ClickHouse engine as a process of its own, with ClickHouse's HTTP interface before it on loopback.

    python -m unproxy.embedded.engine --data DIR --port N

It is for the laptop and the tests: sink, queries, console and a user's own tools meet the same endpoint as in
production. It knows no users and no TLS, and is no server for a fleet. A data folder can be open in one process only.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from unproxy.embedded.service import HOST, EmbeddedError, Service

_MODULE = "unproxy.embedded.engine"


class Engine(Service):
    """A ClickHouse engine in a folder."""

    name = "clickhouse"

    @property
    def url(self) -> str:
        """Where clients find it; the same again after a restart."""
        return f"http://{HOST}:{self.port}"

    @property
    def host(self) -> str:
        """The address in `url`."""
        return HOST

    def _is_ours(self, command: list[str]) -> bool:
        return _MODULE in command and str(self._data) in command

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        if importlib.util.find_spec("chdb") is None:
            raise EmbeddedError("the engine (chdb) is missing; install it with: pip install 'unproxy[embedded]'")
        # Found wherever this very package lies, installed or not.
        ours = str(Path(__file__).absolute().parents[2])
        paths = os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", _MODULE, "--data", str(self._data), "--port", str(port)]
        return command, {**os.environ, "PYTHONPATH": paths}

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
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data; made when missing")
    parser.add_argument("--port", type=int, required=True, help=f"port on {HOST}")
    given = parser.parse_args()
    # Only here, so that whoever merely starts the process need not load the engine (370 MB).
    from unproxy.embedded.front import serve

    return serve(given.data, given.port)


if __name__ == "__main__":
    sys.exit(main())
