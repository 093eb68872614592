"""Tinyproxy's log: constructed lines, those of the recorded file, and the requests that are found in them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.clock import parse_micros
from schemas.events import Parsed, ProxyLogged
from schemas.parsers.proxies.tinyproxy import parse
from schemas.parsers.proxies.tinyproxy_requests import Requests

DATA = Path(__file__).parents[3] / "data"
REAL = gzip.decompress((DATA / "proxylogs/tinyproxy-sample.log.gz").read_bytes()).splitlines()
DAY = "2026-11-24T"
CHANGED = parse_micros(f"{DAY}23:59:59Z")
A, B = "192.0.2.1", "192.0.2.2"


def dates(stamp: str) -> int:
    """All lines are of one day, in UTC; one of another day has no certain time."""
    return parse_micros(f"{DAY}{stamp[7:]}Z") if stamp.startswith("Nov 24 ") else 0


def read(lines: Iterable[bytes], framing: Requests | None = None) -> list[Parsed]:
    """What becomes of a file's lines."""
    framing = framing or Requests(dates)
    return [parse(made) for line in lines for made in framing.take(line, 0)]


def requests(lines: Iterable[bytes], framing: Requests | None = None) -> list[ProxyLogged]:
    """The requests among it."""
    return [one for one in read(lines, framing) if isinstance(one, ProxyLogged)]


Reported = tuple[str, str, int, str]


def reported(lines: Iterable[bytes], framing: Requests | None = None) -> list[Reported]:
    """Who asked for what, when, and what became of it."""
    return [(one.client_ip, one.target, one.started, str(one.decision)) for one in requests(lines, framing)]


def served(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Clients and hosts."""
    return [(one.client_ip, one.host) for one in requests(lines)]


def joined(lines: Iterable[bytes]) -> bytes:
    """The last of the lines as it is given on: with those of its request."""
    framing = Requests(dates)
    return [made for line in lines for made in framing.take(line, 0)][-1]


@dataclass
class Log:
    """Writes as tinyproxy does, a second a line."""

    pid: int = 7
    level: str = "CONNECT"
    second: int = 0

    def __call__(self, message: str) -> bytes:
        self.second += 1
        stamp = f"Nov 24 {10 + self.second // 3600}:{self.second // 60 % 60:02d}:{self.second % 60:02d}"
        return f"{self.level:9} {stamp} [{self.pid}]: {message}".encode()

    def connect(self, descriptor: int, client: str) -> bytes:
        return self(f"Connect (file descriptor {descriptor}): {client}")

    def request(self, descriptor: int, target: str, method: str = "CONNECT") -> bytes:
        return self(f"Request (file descriptor {descriptor}): {method} {target} HTTP/1.1")

    def left(self, descriptor: int) -> bytes:
        return self(f"read_request_line: Client (file descriptor: {descriptor}) closed socket before read.")

    def established(self, descriptor: int, host: str) -> bytes:
        return self(f'Established connection to host "{host}" using file descriptor {descriptor}.')

    def closed(self, client: int, server: int) -> bytes:
        return self(f"Closed connection between local client (fd:{client}) and remote client (fd:{server})")

    def detail(self, host: str) -> bytes:
        return self(f"No upstream proxy for {host}")

    def whole(self, client: str, host: str, descriptor: int = 6) -> list[bytes]:
        """All that level `Info` reports of a request."""
        return [
            self.connect(descriptor, client),
            self.request(descriptor, f"{host}:443"),
            self.detail(host),
            self.established(descriptor + 1, host),
            self.closed(descriptor, descriptor + 1),
        ]
