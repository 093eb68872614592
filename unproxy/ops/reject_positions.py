"""Which rejects are wanted, which can be replayed at all, and which were replayed already. Pure.

What was replayed is remembered for each choice of reason and dialect by itself: one fix mends one kind of line, and the
others wait for theirs. It stands where Kafka keeps a group's offsets: the offset is that of replays of everything, what
goes beyond it for a narrower choice is in the commit's metadata.

A line that its sender may not write (`not_allowed`) is not part of everything: it is replayed only when its reason is
named, as no fix makes it right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.events import Reason
from schemas.parsers.recognition import AUTO

ANY = "*"
METADATA_CHARS_MAX = 4_000
"""Kafka takes 4,096 bytes (offset.metadata.max.bytes)."""


class Rejected(NamedTuple):
    """One message on the topic of rejects."""

    partition: int
    offset: int
    rejected_ms: int
    reason: str
    detail: str
    dialect: str
    device: bytes
    raw: bytes
    cut: bool
    """Even that topic had no room for the whole of it."""
    keyed: bool = False
    """The line is about `device`, whatever it calls it."""
    claims: bytes = b""
    """What its sender may report, from the header of its message."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rejects to replay."""

    reason: str = ANY
    dialect: str = ANY
    device: str = ""
    since_ms: int = 0

    @property
    def is_whole(self) -> bool:
        """All of a reason and dialect: only then does a position define what was replayed."""
        return not (self.device or self.since_ms)

    def fits(self, rejected: Rejected) -> bool:
        """Return whether this reject is selected."""
        return (
            self.reason in (ANY, rejected.reason)
            and self.dialect in (ANY, rejected.dialect)
            and (not self.device or rejected.device.decode("utf-8", "replace") in (self.device, self.device.lower()))
            and rejected.rejected_ms >= self.since_ms
        )


def why_left(rejected: Rejected, wanted: Wanted = Wanted()) -> str:
    """Return why it is not replayed; "" if it is."""
    if rejected.reason == Reason.NOT_ALLOWED and wanted.reason != Reason.NOT_ALLOWED:
        return (
            f"its sender may not write it; to publish it all the same, name its reason: --reason {Reason.NOT_ALLOWED}"
        )
    if rejected.reason == Reason.NOT_DELIVERABLE and rejected.dialect in ("", "unproxy"):
        return "rows or alerts, not a sensor's line: too large for their topic, or refused by the sink"
    if not rejected.dialect:
        return "its dialect is unknown"
    if rejected.dialect == AUTO:
        return (
            "no dialect claimed it, so its device is unknown; give its file to `unproxy produce` under a dialect's name"
        )
    # The producer keeps only the beginning of what is too large for Kafka, with the hash of the whole.
    begun = rejected.reason == Reason.TOO_LONG and ", sha256 " in rejected.detail
    if begun or rejected.cut or rejected.reason == Reason.NOT_DELIVERABLE:
        return "only its beginning was kept"
    return "" if rejected.raw.strip() else "there is nothing in it"


@dataclass(slots=True)
class Replayed:
    """Up to which offset the rejects of one partition were replayed, for each choice of reason and dialect."""

    marks: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def read(cls, offset: int, metadata: str) -> Replayed:
        """Parse the committed offset and metadata; a negative offset is none."""
        marks = {(ANY, ANY): offset} if offset > 0 else {}
        try:
            for reason, dialect, mark in msgspec.json.decode(metadata or "[]", type=list[tuple[str, str, int]]):
                marks[reason, dialect] = mark
        except msgspec.MsgspecError:
            pass  # the group's offsets were reset by hand; the offset is valid all the same
        return cls(marks)

    def written(self) -> tuple[int, str]:
        """Return offset and metadata to commit. Without room for all marks the lowest are dropped: replayed again."""
        everything = self.marks.get((ANY, ANY), 0)
        narrow = sorted(
            (mark, *choice)
            for choice, mark in self.marks.items()
            if mark > everything or choice[0] == Reason.NOT_ALLOWED
        )
        while True:
            text = msgspec.json.encode([(reason, dialect, mark) for mark, reason, dialect in narrow]).decode()
            if len(text.encode()) <= METADATA_CHARS_MAX:
                return everything, text
            del narrow[0]

    def before(self, reason: str, dialect: str) -> int:
        """Return the offset before which all rejects of a reason and dialect were replayed; each may be ANY."""
        reasons = (reason,) if reason == Reason.NOT_ALLOWED else (reason, ANY)
        return max(self.marks.get((one, kind), 0) for one in reasons for kind in (dialect, ANY))

    def has(self, rejected: Rejected) -> bool:
        """Return whether this reject was replayed already."""
        return rejected.offset < self.before(rejected.reason, rejected.dialect)

    def advance(self, wanted: Wanted, offset: int) -> None:
        """Record that all selected rejects before this offset were replayed."""
        choice = wanted.reason, wanted.dialect
        self.marks[choice] = max(offset, self.marks.get(choice, 0))
