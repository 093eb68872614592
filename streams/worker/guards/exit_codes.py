"""How the worker ends itself when going on could lose something, and the order of steps that makes this safe.

At every moment a kill -9 costs a re-read and nothing else, because of the order within a batch:

1. read messages, acknowledging nothing;
2. let the pure pipeline decide;
3. send all outputs and wait until Kafka has every one;
4. write the state, with the input's offset in it: to the changelog, and once it has everything to the local store;
5. only then acknowledge the input.

So ending the process is always right when something is not as it should be, and each guard does so with an exit code of
its own. Whatever runs the worker (`unproxy up`, systemd, compose) starts it again.

    guard                watches                                          exit code
    lease.py             our partitions may belong to somebody else       75
    watchdog.py          input waits, nothing is committed, Kafka is up   76
    watchdog.py          Kafka is up, nobody ticks in our partitions      76
    watchdog.py          a stop that does not end                         77
    watchdog.py          no thread gets on any more, itself included      1
    continuity.py        messages between the last one and this are gone  78
    commits.py           what is committed was handled                    none: the commit is cut
    disk.py       the disk under the local state is full, damaged  70
    reject_guard.py      too many lines are rejected (if it is so set)    79
    here                 anything unexpected                              70

`os._exit` and not `sys.exit`: Faust acknowledges what was at hand when an agent is left by an exception.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

from common.process_exit import STALLED, leave


class Exit(IntEnum):
    """Why a worker ended itself, as its exit code."""

    DONE = 0
    UNEXPECTED = 70
    LEASE_LOST = 75
    STALLED = STALLED
    STOP_HANGS = 77
    HOLE = 78
    REJECTS = 79


def end(code: Exit, why: str) -> NoReturn:
    """Leave at once, from any thread: no finalizer and no acknowledgement runs after this."""
    leave(code, "worker", why)
