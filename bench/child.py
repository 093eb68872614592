"""Processes of the bench's own that end with it, whenever it is interrupted."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

END_SECS_MAX = 20.0


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a session of its own, so that Ctrl-C reaches it only through us; ended when the block is left."""
    process = None
    try:
        with _unbroken():
            process = subprocess.Popen(command, start_new_session=True, **options)
        yield process
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(END_SECS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _unbroken() -> Iterator[None]:
    """An interrupt within is raised at the end: a process that was just started would be left without owner."""
    asked: list[int] = []
    before = {wanted: signal.getsignal(wanted) for wanted in (signal.SIGINT, signal.SIGTERM)}
    for wanted in before:
        signal.signal(wanted, lambda signum, _frame: asked.append(signum))
    try:
        yield
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)
    if asked:
        raise KeyboardInterrupt
