"""What becomes of the worker when the disk under its local state fails: it ends, in words, and can always begin again.

The local state is a copy: everything in it is on the changelog, too.
So a damaged folder is put aside and recovered from the changelog, and on a full disk the worker is started again and
again until there is room; neither loses anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.lease import put_aside

FULL = ("No space left on device", "Disk quota exceeded")
DAMAGED = ("Corruption:", "IO error: No such file")
"""How RocksDB's messages begin; its errors have no type of their own."""
TOUCHES = ("_open_for_partition", "persisted_offset", "set_persisted_offset", "apply_changelog_batch")
"""Faust's own ways to the store, from some of which it would only warn and go on."""


def blame_disk(error: BaseException, data_dir: Path) -> None:
    """End the process when the disk is to blame for an error; return when it is not."""
    text = str(error)
    if any(words in text for words in FULL):
        end(Exit.UNEXPECTED, f"the disk of worker.data_dir {data_dir} is full, make room there; nothing is lost")
    if any(words in text for words in DAMAGED):
        put_aside(data_dir)
        end(Exit.UNEXPECTED, f"the state in worker.data_dir {data_dir} is damaged; the next start takes it from Kafka")


def watch_store(store: Any, data_dir: Path) -> None:
    """Have the errors of a Faust store looked at before Faust sees them."""
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
