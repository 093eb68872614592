"""What a sink promises, and how it refuses.

SinkError
├── SinkBusy        away or overloaded: write the same again later
├── SinkRefused     a person must act (table missing, login wrong): the message says how
└── RowsRefused     these very rows cannot be stored; others can
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SinkError(Exception):
    """A write did not happen."""


class SinkBusy(SinkError):
    """Not now: nothing is wrong with the rows, the same write may succeed later."""


class SinkRefused(SinkError):
    """Not like this: a person must act, and the message says what to do. The rows are fine and must be kept."""


class RowsRefused(SinkError):
    """Something in these rows cannot be stored."""


class Sink(Protocol):
    """Where rows go."""

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Write rows whole, or raise a SinkError; writing the same token to a table again is writing it once.

        Each element is one or more rows as JSON lines, without the last newline. `again` says that this write may have
        been begun before: where a token alone does not prove that the rows are there, look.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; what was written is safe already."""
        ...
