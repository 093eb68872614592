"""Reassembly of one direction of a TCP connection: pure and bounded. Of duplicate bytes the first copy is used.

Offsets count from the first byte of the connection, or from the first one observed. They are computed from sequence numbers
(RFC 9293 section 3.4) relative to the highest offset observed, so that bodies of any length can be skipped. An urgent byte is
removed, because the data that a program reads does not contain it (RFC 6093 section 4; Linux, unless SO_OOBINLINE is set).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import itemgetter

from schemas.events import Micros

EARLY_SEGMENTS_MAX = 64
EARLY_BYTES_MAX = 512 * 1024
"""Maximum bytes of segments that wait for a predecessor, including `SEGMENT_BYTES` each."""
SEGMENT_BYTES = 256
"""Bytes that are added to the size of each waiting segment, so that many one-byte segments cannot evade the bounds."""
WINDOW_BYTES_MAX = 1 << 26
"""64 MiB. A segment further away from the observed data belongs to another connection, or much data was missed."""
URGENT_MAX = 8
"""Maximum number of pending urgent bytes. Further ones stay in the stream."""
_SEQUENCE = 1 << 32
_BY_PLACE = itemgetter(0)


class Segments:
    """The next expected offset, and the segments that arrived early."""

    __slots__ = (
        "_early",
        "_seen",
        "_taken_to",
        "_urgent",
        "_want",
        "early_bytes",
        "early_since",
        "first_seq",
        "urgents",
    )

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.early_bytes = 0
        self.early_since: Micros = 0
        """Arrival time of the first waiting segment."""
        self._want = self._seen = self._taken_to = 0
        self._early: list[tuple[int, bytes, int]] = []
        self._urgent: list[int] = []
        self.urgents = 0
        """Number of urgent bytes so far. With several, the receiver's timing decides whether an earlier one is removed."""

    @property
    def has_early(self) -> bool:
        """Return whether segments wait for a predecessor."""
        return bool(self._early)

    @property
    def is_full(self) -> bool:
        """Return whether the waiting segments exceed a bound."""
        return len(self._early) > EARLY_SEGMENTS_MAX or self.early_bytes > EARLY_BYTES_MAX

    def put(self, at: Micros, seq: int, content: bytes, cut: int, urgent: int = 0) -> bool:
        """Add a segment that lacks `cut` bytes at its end; `urgent` is the position of its urgent byte from 1, 0 for none.

        Returns False if the segment is too far away to belong to this connection.
        """
        further = (seq - self.first_seq - self._seen) % _SEQUENCE
        if further >= _SEQUENCE // 2:
            further -= _SEQUENCE
        if abs(further) > WINDOW_BYTES_MAX:
            return False
        begin = self._seen + further
        end = begin + len(content) + cut
        self._seen = max(self._seen, end)
        if urgent:
            self._know_urgent(begin + urgent - 1)
        if end > self._want:
            if not self._early:
                self.early_since = at
            insort(self._early, (begin, content, cut), key=_BY_PLACE)
            self.early_bytes += len(content) + SEGMENT_BYTES
        return True

    def taken(self) -> Iterator[tuple[bytes, bool, int]]:
        """Yield the next bytes in order, whether a segment begins with them, and the number of bytes missing at its end.

        The generator is lazy: calls of `pass_over` between two steps take effect.
        """
        while self._early and self._early[0][0] <= self._want:
            begin, content, cut = self._early.pop(0)
            self.early_bytes -= len(content) + SEGMENT_BYTES
            end = begin + len(content) + cut
            if end <= self._want:
                continue
            fresh = content[self._want - begin :]
            if self._urgent:
                fresh = self._without_urgent(fresh, self._want)
            is_begin = begin == self._want
            self._want = self._taken_to = max(self._want, begin + len(content))
            yield fresh, is_begin, end - self._want

    def lacks(self, missing: int) -> bool:
        """Return whether bytes missing at the end of the last taken segment are still expected, and skip them."""
        end = self._taken_to + missing
        is_wanted, self._want = self._want < end, max(self._want, end)
        return is_wanted

    def pass_over(self, count: int) -> None:
        """Skip `count` expected bytes, not counting urgent ones."""
        begin, self._want = self._want, self._want + count
        for place in self._urgent:
            self._want += begin <= place < self._want

    def skip_to_early(self) -> None:
        """Skip the missing bytes up to the first waiting segment."""
        if self._early:
            self._want = max(self._want, self._early[0][0])

    def drop_early(self) -> None:
        """Drop the waiting segments."""
        self._early.clear()
        self.early_bytes = 0

    def _know_urgent(self, place: int) -> None:
        if place < self._taken_to or place in self._urgent:
            return
        self._urgent = sorted([one for one in self._urgent if one >= self._taken_to] + [place])[:URGENT_MAX]
        self.urgents += 1
        # An urgent byte in the skipped range extends it by one byte.
        self._want += place < self._want

    def _without_urgent(self, content: bytes, begin: int) -> bytes:
        for place in reversed(self._urgent):
            if 0 <= place - begin < len(content):
                content = content[: place - begin] + content[place - begin + 1 :]
        return content
