"""Queues of alerts to send, one per AlertId, and the offsets that may be committed. Pure; not thread-safe.

    message ──► queue of its AlertId ──► take: the first message of the next queue ──► done

    committable: a partition's lowest offset that is not done; without one, the offset after the last message read

Versions of one alert are sent in the order of the topic, independently of other alerts: a queue has only one message
under way at a time. With coalescing, a queue holds at most two messages: the first, which waits or is under way, and
the newest. Versions in between are superseded and count as done at once.
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
    """One message to send."""

    partition: int
    offset: int
    timestamp_ms: int
    raw: bytes
    alert: ForwardedAlert | None
    """None for a message that cannot be read; it goes to the rejects topic."""
    why: str = ""
    """Why the message cannot be read."""
    abandoned: bool = False
    """Whether its partition was revoked; the next owner then reads the message again."""

    @property
    def line(self) -> Line:
        """Key of the queue in which messages keep their order."""
        # An AlertId contains no blank, so the two kinds of key never collide.
        return self.partition, self.alert.AlertId if self.alert is not None else f"offset {self.offset}"

    @property
    def version(self) -> int:
        """Version of the alert; 0 if it cannot be read."""
        return self.alert.Version if self.alert is not None else 0


@dataclass(slots=True)
class _Mark:
    next_offset: int
    outstanding: set[int] = field(default_factory=set)

    @property
    def committable(self) -> int:
        return min(self.outstanding, default=self.next_offset)


class AlertQueues:
    """The messages that were read and are not done, in queues."""

    def __init__(self, *, coalesce: bool) -> None:
        self.waiting = 0
        """Number of messages held, including those under way."""
        self.bytes = 0
        """Bytes of the messages held."""
        self._coalesce = coalesce
        self._lines: dict[Line, deque[Item]] = {}
        self._ready: deque[Line] = deque()
        self._marks: dict[int, _Mark] = {}

    def begin(self, partition: int, offset: int) -> None:
        """Add an assigned partition, whose next message should have this offset."""
        self._marks[partition] = _Mark(offset)

    def expected(self, partition: int) -> int | None:
        """Return the expected offset of a partition's next message; None if the partition is not assigned."""
        mark = self._marks.get(partition)
        return mark.next_offset if mark else None

    def skip(self, partition: int, offset: int) -> None:
        """Record that a message was read and is not sent."""
        self._marks[partition].next_offset = offset + 1

    def add(self, item: Item) -> bool:
        """Append a message to its queue; return whether it superseded another or was itself superseded."""
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
        """Return the first message of the next queue that has none under way; None if there is no such queue."""
        return self._lines[self._ready.popleft()][0] if self._ready else None

    def done(self, item: Item) -> None:
        """Remove a message that was sent or rerouted; the next message of its queue may then be taken."""
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
        """Remove a revoked partition with its messages; return their number. The next owner reads them again."""
        self._marks.pop(partition, None)
        left = [item for line, items in self._lines.items() if line[0] == partition for item in items]
        for item in left:
            item.abandoned = True
            self._off(item)
        self._lines = {line: items for line, items in self._lines.items() if line[0] != partition}
        self._ready = deque(line for line in self._ready if line[0] != partition)
        return len(left)

    def committable(self) -> Iterator[tuple[int, int]]:
        """Yield each partition with the offset to commit: all messages before it are done."""
        for partition, mark in self._marks.items():
            yield partition, mark.committable

    def _off(self, item: Item) -> None:
        self.waiting -= 1
        self.bytes -= len(item.raw)
        if mark := self._marks.get(item.partition):
            mark.outstanding.discard(item.offset)
