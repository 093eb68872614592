"""Groups recorded lines into the messages that a producer would have made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streams.pipeline import Message

if TYPE_CHECKING:
    from producers.sources.source import Line

GROUPS_MAX = 1_000
"""Largest number of devices with an open message; for another one, the oldest message is closed."""


class Grouping:
    """Groups consecutive lines of one device and dialect into messages of at most `lines_max` lines."""

    def __init__(self, lines_max: int) -> None:
        self._lines_max = lines_max
        self._open: dict[str, tuple[bool, list[Line]]] = {}
        self._offset = 0

    def add(self, line: Line, device: str, from_line: bool) -> Iterator[Message]:
        """Add a line; yield the messages that it completes. `from_line` as in `Devices.of`."""
        if device in self._open:
            its, waiting = self._open[device]
            if its != from_line or waiting[0].dialect != line.dialect or len(waiting) >= self._lines_max:
                yield self._close(device)
        elif len(self._open) >= GROUPS_MAX:
            yield self._close(next(iter(self._open)))
        self._open.setdefault(device, (from_line, []))[1].append(line)

    def drain(self) -> Iterator[Message]:
        """Yield the messages that are not complete yet."""
        for device in list(self._open):
            yield self._close(device)

    def _close(self, device: str) -> Message:
        from_line, lines = self._open.pop(device)
        self._offset += 1
        return Message(
            offset=self._offset,
            logged_ms=0,  # there is no log: only the events' own times count
            key=device.encode("utf-8", "replace"),
            value=b"\n".join(line.value for line in lines),
            dialect=lines[0].dialect,
            keyed=from_line,
        )
