"""A worker with the real pipeline and one more dialect, lines of which end the process: settings as JSON on stdin.

Lines of `stubborn` are those of `sockets`, but `hang` keeps a Python loop busy, `hang in C` keeps all threads
from running, `exhaust` takes memory until the process is killed, and splitting `envelope` into lines does not end.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace

from schemas.events import Parsed
from schemas.parsers import dialects
from schemas.settings import Settings
from streams.worker.app import run
from streams.worker.guards import watchdog

STUBBORN = "stubborn"
CHUNK_BYTES = 8 << 20
CHUNKS_MAX = 400
"""Some 3 GB: a test in which the process is not killed must not take the machine with it."""
STUCK_SECS_MAX = 10.0


def hang() -> None:
    """Never return, while other threads run."""
    while True:
        pass


def parse(line: bytes) -> Parsed:
    """Read a line, or never return."""
    if line == b"hang":
        hang()
    elif line == b"hang in C":
        re.match(rb"(a+)+$", b"a" * 60 + b"b")
    elif line == b"exhaust":
        print("exhausting", flush=True)
        taken = [b"x" * CHUNK_BYTES for _ in range(CHUNKS_MAX)]
        assert not taken, "the process was not killed"
    return dialects()["sockets"].parse(line)


def split(line: bytes) -> list[bytes]:
    """Take an envelope apart, or never return."""
    if line == b"envelope":
        hang()
    return [line]


if __name__ == "__main__":
    dialects()[STUBBORN] = replace(dialects()["sockets"], name=STUBBORN, parse=parse, split=split)
    watchdog.STUCK_SECS_MAX = STUCK_SECS_MAX
    run(Settings.model_validate_json(sys.stdin.read()))
