"""A dialect with a line on which a worker hangs, and which the oracle reads as the reject that it must become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from schemas.events import Parsed, Reason, Reject
from schemas.parsers import dialects
from tests.streams.worker.guards.test_worker_poison import GOOD

STUBBORN = "stubborn"
POISON = b"hang"
STALL_SECS_MAX = 12.0
"""Of workers in a run with such a line: they die of it twice."""
FIRST_PORT = 2_000


def message(number: int) -> tuple[bytes, bytes]:
    """A device for each number, and its lines: the poison between two that can be read."""
    device = b"stubborn-%d" % number
    line = GOOD.replace(b'"dev"', b'"%s"' % device)
    return device, b"\n".join([line % FIRST_PORT, POISON, line % (FIRST_PORT + 1)])


def hang(_line: bytes) -> Parsed:
    """What a worker does at the poison."""
    while True:
        pass


def reject(line: bytes) -> Parsed:
    """What must come of it."""
    return Reject(Reason.STOPS_WORKER, "", line)


def know_stubborn(at_poison: Callable[[bytes], Parsed]) -> None:
    """Have this process read the dialect, in this way where the poison comes."""
    sockets = dialects()["sockets"]

    def parse(line: bytes) -> Parsed:
        return at_poison(line) if line == POISON else sockets.parse(line)

    dialects()[STUBBORN] = replace(sockets, name=STUBBORN, parse=parse)
