"""The truth: what was really asked, and the file it is kept in, in order of time by a right clock."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from producers.simulation.connection import Connection
from producers.simulation.fleet import Profile
from producers.simulation.sockets import stamp
from schemas.clock import MICROS
from schemas.events import Micros


def request(
    connection: Connection,
    profile: Profile,
    client_ip: str,
    at: Micros,
    method: str,
    host: str,
    port: int,
    url: str,
    status: int | None,
    verdict: str,
) -> dict[str, object]:
    """One request through a proxy. All times are by the device's own clock but `at`, which is by a right one."""
    return {
        "device": profile.name,
        "client_ip": client_ip,
        "client_port": connection.port,
        "proxy_ip": connection.remote.ip,
        "proxy_port": connection.remote.port,
        "method": method,
        "host": host,
        "port": port,
        "ts": stamp(at),
        "status": status,
        "verdict": verdict,
        "proxy": connection.remote.kind,
        "url": url,
        "source": "simulation",
        "pid": connection.pid,
        "process": connection.program.name,
        "user": profile.user,
        "conn_start": stamp(connection.established),
        "at": stamp(at - profile.skew),
    }


def direct(
    connection: Connection, profile: Profile, client_ip: str, at: Micros, end: Micros, host: str
) -> dict[str, object]:
    """One connection past the proxies."""
    return {
        "device": profile.name,
        "client_ip": client_ip,
        "client_port": connection.port,
        "server_ip": connection.remote.ip,
        "server_port": connection.remote.port,
        "host": host,
        "t0": at / MICROS,
        "t1": end / MICROS,
        "pid": connection.pid,
        "process": connection.program.name,
        "at": stamp(at - profile.skew),
    }


class TruthFile:
    """Writes requests to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, truth: dict[str, object]) -> None:
        """Keep one request."""
        self._file.write(json.dumps(truth).encode() + b"\n")


def part_of(path: Path, shard: int) -> Path:
    """Where a share of the devices writes its truth until all are merged."""
    return path.with_name(f"{path.name}.part{shard}")


def merge(parts: Iterable[Path], path: Path) -> None:
    """Make one file of several, in the same order as if there had been one from the beginning; the parts are removed."""
    parts = list(parts)
    with ExitStack() as opened, path.open("wb") as file:
        files = [opened.enter_context(part.open("rb")) for part in parts]
        file.writelines(line for _, line in heapq.merge(*map(_timed, files)))
    for part in parts:
        part.unlink()


def _timed(lines: Iterable[bytes]) -> Iterator[tuple[tuple[str, str], bytes]]:
    for line in lines:
        truth = json.loads(line)
        yield (truth["at"], truth["device"]), line
