"""The interface of a sink, and its errors.

SinkError
├── SinkBusy        unreachable or overloaded: retry the same write later
├── SinkRefused     an operator must act (table missing, login wrong); the message describes how
└── RowsRefused     these rows cannot be stored; others can
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SinkError(Exception):
    """A write that failed."""


class SinkBusy(SinkError):
    """A temporary failure: the rows are valid, and the same write may succeed later."""


class SinkRefused(SinkError):
    """A failure that an operator must resolve, as the message describes. The rows are valid and must be kept."""


class RowsRefused(SinkError):
    """A failure because some of these rows cannot be stored."""


class Sink(Protocol):
    """A destination of rows."""

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Write all rows or raise a SinkError; repeated writes with the same token to a table count as one.

        Each element of `rows` holds one or more rows as JSON lines, without the last newline. `again` means that an
        earlier write with this token may have been started: the sink then verifies that the rows are stored, unless
        the token alone proves it.
        """
        ...

    def close(self) -> None:
        """Close files and connections; completed writes are durable already."""
        ...
