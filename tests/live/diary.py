"""What a client reports: one JSON object a request, written by the client itself. Rows are held against it."""

from __future__ import annotations

import os
import pwd
import time
from enum import StrEnum
from pathlib import Path

import msgspec


class Result(StrEnum):
    """How it went, as the client saw it."""

    DONE = "done"
    """The destination's own answer came whole."""
    REFUSED = "refused"
    """The proxy answered with a refusal or an error of its own."""
    CUT = "cut"
    """Another party ended it: reset, closed, or no answer."""
    ABORTED = "aborted"
    """The client left after it had asked."""
    NOTHING_ASKED = "nothing_asked"
    """A connection on which no request was ever whole."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request, or one connection without any. Times are seconds since 1970."""

    client: str
    pid: int
    user: str
    command_line: str
    connection: str
    """The client's name for the connection, so that two on the same port are distinguished."""
    opened: float
    """Before the connection was asked for."""
    connected: float
    """After it was there."""
    at: float
    """Before the request was sent."""
    ended: float
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    result: Result
    proxied: bool = True
    method: str = ""
    host: str = ""
    port: int = 0
    url: str = ""
    """Of a request that was not CONNECT."""
    inside: str = ""
    """TLS name sent within the tunnel."""
    status: int = 0


class Diary:
    """A client's log, a line an entry. May be written to by several threads."""

    def __init__(self, path: Path, client: str) -> None:
        self._file = path.open("ab", buffering=0)
        self._own = {
            "client": client,
            "pid": os.getpid(),
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "command_line": command_line_of("self"),
        }

    def write(self, **facts: object) -> None:
        """Add one; what is reported overrules what is known of the client itself."""
        entry = msgspec.convert({"ended": time.time(), **self._own, **facts}, Entry)
        self._file.write(msgspec.json.encode(entry) + b"\n")


def command_line_of(pid: int | str) -> str:
    """A process's words with spaces between them."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    return words.replace(b"\0", b" ").decode()


def read(path: Path) -> list[Entry]:
    """All entries of a log."""
    decode = msgspec.json.Decoder(Entry).decode
    return [decode(line) for line in path.read_bytes().splitlines()]
