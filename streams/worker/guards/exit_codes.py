"""Exit codes of a worker that ends itself to avoid loss, and the order of steps that makes this safe.

A kill -9 at any moment costs a second read of some messages and nothing else, because of the order within a batch:

1. read messages, acknowledging nothing;
2. pass them to the pure pipeline;
3. send all outputs and wait until Kafka has every one;
4. write the state, which includes the input's offset, to the changelog; once Kafka has all of it, to the local store;
5. only then acknowledge the input.

So the safe reaction to any fault is to end the process. Each guard does so with an exit code of its own. The supervisor
(`unproxy up`, systemd, compose) starts the worker again.

    guard                detects                                          exit code
    lease.py             the partitions may belong to another worker      75
    watchdog.py          input waits, nothing is committed, Kafka is up   76
    watchdog.py          Kafka is up, the own partitions get no ticks     76
    watchdog.py          a stop that does not end                         77
    watchdog.py          no thread runs any more, its own included        1
    continuity.py        messages before the current one are missing      78
    commits.py           a commit beyond the handled messages             none: the commit is limited
    disk.py              the local state's disk is full or damaged        70
    reject_guard.py      too many lines are rejected (if so configured)   79
    here                 anything unexpected                              70

The exit uses `os._exit` instead of `sys.exit`: Faust acknowledges the current messages when an exception leaves an agent.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

from common.process_exit import STALLED, leave


class Exit(IntEnum):
    """The reason why a worker ended itself, as its exit code."""

    DONE = 0
    UNEXPECTED = 70
    LEASE_LOST = 75
    STALLED = STALLED
    STOP_HANGS = 77
    HOLE = 78
    REJECTS = 79


def end(code: Exit, why: str) -> NoReturn:
    """End the process at once, from any thread: no finalizer and no acknowledgement runs after this."""
    leave(code, "worker", why)
