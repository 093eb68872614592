"""Who waits to be sent: each alert's versions in a line of their own, and what may be committed. Pure, for one thread.

    message ──► line of its AlertId ──► take: the first of a line, one line at a time ──► done
                                                                     │
    committable: the lowest offset of a partition that is not done, or the one after the last read

So versions of one alert go out in the order of the topic, whatever happens to other alerts. With coalescing a line holds
two at most: the first that waits, or is under way, and the newest. The ones between are superseded and done at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sinks.forward.alert import ForwardedAlert

Line = tuple[int, str]
"""Partition and AlertId."""


@dataclass(slots=True, eq=False)
class Item:
    """One message that is to be sent."""

    partition: int
    offset: int
    timestamp_ms: int
    raw: bytes
    alert: ForwardedAlert | None
    """None for what cannot be read: it goes to the rejects topic."""
    why: str = ""
    """Why it cannot be read."""
    abandoned: bool = False
    """Its partition went: whoever has it reads the message again."""

    @property
    def line(self) -> Line:
        """What must stay in order among itself."""
        # No AlertId has a blank in it.
        return self.partition, self.alert.AlertId if self.alert is not None else f"offset {self.offset}"

    @property
    def version(self) -> int:
        """Of the alert."""
        return self.alert.Version if self.alert is not None else 0


@dataclass(slots=True)
class _Mark:
    next_offset: int
    outstanding: set[int] = field(default_factory=set)

    @property
    def committable(self) -> int:
        return min(self.outstanding, default=self.next_offset)


class AlertQueues:
    """Messages read and not done."""

    def __init__(self, *, coalesce: bool) -> None:
        self.waiting = 0
        """Messages held, those under way included."""
        self.bytes = 0
        """Of these."""
        self._coalesce = coalesce
        self._lines: dict[Line, deque[Item]] = {}
        self._ready: deque[Line] = deque()
        self._marks: dict[int, _Mark] = {}

    def begin(self, partition: int, offset: int) -> None:
        """A partition is ours; its next message should be this one."""
        self._marks[partition] = _Mark(offset)

    def expected(self, partition: int) -> int | None:
        """Offset of the next message; None for a partition that is not ours."""
        mark = self._marks.get(partition)
        return mark.next_offset if mark else None

    def skip(self, partition: int, offset: int) -> None:
        """This message was read, and there is nothing to send."""
        self._marks[partition].next_offset = offset + 1

    def add(self, item: Item) -> bool:
        """Put a message into its line; whether one was superseded: by this, or this one by what is there."""
        mark = self._marks[item.partition]
        mark.next_offset = item.offset + 1
        line = self._lines.get(item.line)
        if line is None:
            self._lines[item.line] = line = deque()
            self._ready.append(item.line)
        elif self._coalesce and item.version <= line[-1].version:
            return True
        replaced = line.pop() if self._coalesce and len(line) > 1 else None
        if replaced is not None:
            self._off(replaced)
        line.append(item)
        mark.outstanding.add(item.offset)
        self.waiting += 1
        self.bytes += len(item.raw)
        return replaced is not None

    def take(self) -> Item | None:
        """The first of the next line of which nothing is under way; None when there is none."""
        return self._lines[self._ready.popleft()][0] if self._ready else None

    def done(self, item: Item) -> None:
        """It was sent, or put aside for good; the next of its line may go."""
        if item.abandoned:
            return
        line = self._lines[item.line]
        assert line[0] is item, "the first of a line is done before the others"
        line.popleft()
        self._off(item)
        if line:
            self._ready.append(item.line)
        else:
            del self._lines[item.line]

    def leave(self, partition: int) -> int:
        """The partition is not ours any more; gives how many of its messages are left to another."""
        self._marks.pop(partition, None)
        left = [item for line, items in self._lines.items() if line[0] == partition for item in items]
        for item in left:
            item.abandoned = True
            self._off(item)
        self._lines = {line: items for line, items in self._lines.items() if line[0] != partition}
        self._ready = deque(line for line in self._ready if line[0] != partition)
        return len(left)

    def committable(self) -> Iterator[tuple[int, int]]:
        """Partition, and the offset before which everything is done."""
        for partition, mark in self._marks.items():
            yield partition, mark.committable

    def _off(self, item: Item) -> None:
        self.waiting -= 1
        self.bytes -= len(item.raw)
        if mark := self._marks.get(item.partition):
            mark.outstanding.discard(item.offset)
