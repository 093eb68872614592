"""What a sink promises, how it says no, and where all sinks are found.

    SinkError
    ├── SinkBusy        away or overloaded: write the same again later
    ├── SinkRefused     a person must act (table missing, login wrong): the message says how
    └── RowsRefused     these very rows cannot be stored; others can

Adding a sink is adding a module here that declares `SINK = Entry(name, Config, open)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol


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


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind of sink: its name, the class of its settings, and how to open one."""

    name: str
    config: type[Any]
    open: Callable[[Any], Sink]


@cache
def sinks() -> dict[str, Entry]:
    """Every kind of sink by name."""
    found: dict[str, Entry] = {}
    for module in pkgutil.iter_modules(importlib.import_module("sinks").__path__):
        entry = getattr(importlib.import_module(f"sinks.{module.name}"), "SINK", None)
        if entry is None:
            continue
        assert isinstance(entry, Entry), f"sinks/{module.name}.py: SINK must be an Entry"
        assert entry.name not in found, f"two sinks are called {entry.name}"
        found[entry.name] = entry
    return found
