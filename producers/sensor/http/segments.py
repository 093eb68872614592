"""One direction of a TCP connection put in order: pure, and bounded. What comes twice is taken once, the first of it.

Places are counted from the first byte of the connection, or from the first that was seen. They are computed from sequence numbers
(RFC 9293 section 3.4) by the furthest that was seen, so that bodies of any length may be passed over. An urgent byte is left out:
what a program reads does not contain it (RFC 6093 section 4; Linux, unless the program sets SO_OOBINLINE).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import itemgetter

from schemas.events import Micros

EARLY_SEGMENTS_MAX = 64
EARLY_BYTES_MAX = 512 * 1024
"""Of segments that wait for one before them, each with `SEGMENT_BYTES`."""
SEGMENT_BYTES = 256
"""What a segment that waits takes beside its content: many that hold a byte each are no way around the bounds."""
WINDOW_BYTES_MAX = 1 << 26
"""64 MiB: what is further away from all that was seen is not of this connection, or very much was missed."""
URGENT_MAX = 8
"""Urgent bytes that are known before they are taken; further ones stay in the stream."""
_SEQUENCE = 1 << 32
_BY_PLACE = itemgetter(0)


class Segments:
    """What is wanted next, and what came before it was."""

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
        """When the first of those came that wait."""
        self._want = self._seen = self._taken_to = 0
        self._early: list[tuple[int, bytes, int]] = []
        self._urgent: list[int] = []
        self.urgents = 0
        """Urgent bytes so far. Whether one before another is left out depends on when the receiver reads."""

    @property
    def has_early(self) -> bool:
        """Some wait for one before them."""
        return bool(self._early)

    @property
    def is_full(self) -> bool:
        """More wait than may."""
        return len(self._early) > EARLY_SEGMENTS_MAX or self.early_bytes > EARLY_BYTES_MAX

    def put(self, at: Micros, seq: int, content: bytes, cut: int, urgent: int = 0) -> bool:
        """Take a segment, `cut` bytes of its end left out, and of its bytes the one with the number `urgent`, from 1, urgent.

        False where it is too far away to be of this connection.
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
        """What follows on what was taken before: bytes, whether a segment begins with them, how many at its end are missing.

        The next ones are worked out after `pass_over`.
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
        """Of the missing bytes at the end of what was taken last, whether some are wanted; they are not any more."""
        end = self._taken_to + missing
        is_wanted, self._want = self._want < end, max(self._want, end)
        return is_wanted

    def pass_over(self, count: int) -> None:
        """So many bytes, urgent ones not counted, need not be seen."""
        begin, self._want = self._want, self._want + count
        for place in self._urgent:
            self._want += begin <= place < self._want

    def skip_to_early(self) -> None:
        """What is wanted will not come."""
        if self._early:
            self._want = max(self._want, self._early[0][0])

    def drop_early(self) -> None:
        """None of those is wanted any more."""
        self._early.clear()
        self.early_bytes = 0

    def _know_urgent(self, place: int) -> None:
        if place < self._taken_to or place in self._urgent:
            return
        self._urgent = sorted([one for one in self._urgent if one >= self._taken_to] + [place])[:URGENT_MAX]
        self.urgents += 1
        # Of what need not be seen it is one byte more.
        self._want += place < self._want

    def _without_urgent(self, content: bytes, begin: int) -> bytes:
        for place in reversed(self._urgent):
            if 0 <= place - begin < len(content):
                content = content[: place - begin] + content[place - begin + 1 :]
        return content
