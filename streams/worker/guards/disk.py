"""The guard of the local state's disk: on a failure it ends the worker with a reason, and every restart is safe.

The local state is a copy: the changelog holds everything in it.
A damaged folder is put aside and recovered from the changelog. On a full disk the worker ends and is restarted until there is
room. Neither loses data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.lease import put_aside

FULL = ("No space left on device", "Disk quota exceeded")
DAMAGED = ("Corruption:", "IO error: No such file")
"""Beginnings of RocksDB's messages; its errors have no types of their own."""
TOUCHES = ("_open_for_partition", "persisted_offset", "set_persisted_offset", "apply_changelog_batch")
"""Faust's methods that access the store; on errors in some of them Faust would only warn and continue."""


def blame_disk(error: BaseException, data_dir: Path) -> None:
    """End the process if an error comes from a full disk or a damaged folder; return for other errors."""
    text = str(error)
    if any(words in text for words in FULL):
        end(Exit.UNEXPECTED, f"the disk of worker.data_dir {data_dir} is full, make room there; nothing is lost")
    if any(words in text for words in DAMAGED):
        put_aside(data_dir)
        end(Exit.UNEXPECTED, f"the state in worker.data_dir {data_dir} is damaged; the next start takes it from Kafka")


def watch_store(store: Any, data_dir: Path) -> None:
    """Pass the errors of a Faust store to `blame_disk` before Faust handles them."""
    for name in TOUCHES:
        setattr(store, name, _watched(getattr(store, name), data_dir))


def _watched(touch: Callable[..., Any], data_dir: Path) -> Callable[..., Any]:
    def touched(*args: Any, **kwargs: Any) -> Any:
        try:
            return touch(*args, **kwargs)
        except Exception as error:
            blame_disk(error, data_dir)
            raise

    return touched
