"""Decides which rejects are selected, which can be replayed, and which were replayed already. Pure.

The offset up to which rejects were replayed is recorded separately for each selection of reason and dialect, because a
fix makes one kind of line readable, and the other kinds wait for another fix. The record is committed in Kafka as the
offset of a consumer group: the offset is that of replays of all kinds; higher offsets of narrower selections are in the
metadata of the commit.

A line that its sender may not write (`not_allowed`) is not part of a replay of all kinds: it is replayed only if its
reason is named, because no fix makes it valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.events import Reason
from schemas.parsers.recognition import AUTO

ANY = "*"
METADATA_CHARS_MAX = 4_000
"""Largest size of the metadata in bytes; Kafka accepts 4,096 (offset.metadata.max.bytes)."""


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
    """Whether only the beginning of the line was kept, because it was too large for the topic of rejects."""
    keyed: bool = False
    """Whether the line is about `device`, even if it names another device."""
    claims: bytes = b""
    """Value of the header `claims` of its message: what the line's sender may report; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of rejects to replay; `since_ms` is in milliseconds since 1970."""

    reason: str = ANY
    dialect: str = ANY
    device: str = ""
    since_ms: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all rejects of the reason and dialect are selected, without a filter by device or time.

        Only then can an offset record which rejects were replayed.
        """
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
    """Return why a selected reject is not replayed; "" if it is replayed."""
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
    # Of a line that is too large for Kafka, the producer keeps only the beginning, and the hash of the whole line.
    begun = rejected.reason == Reason.TOO_LONG and ", sha256 " in rejected.detail
    if begun or rejected.cut or rejected.reason == Reason.NOT_DELIVERABLE:
        return "only its beginning was kept"
    return "" if rejected.raw.strip() else "there is nothing in it"


@dataclass(slots=True)
class Replayed:
    """The offsets up to which the rejects of one partition were replayed, by selection of reason and dialect."""

    marks: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def read(cls, offset: int, metadata: str) -> Replayed:
        """Return the marks in a committed offset and its metadata; a negative offset means that nothing is committed."""
        marks = {(ANY, ANY): offset} if offset > 0 else {}
        try:
            for reason, dialect, mark in msgspec.json.decode(metadata or "[]", type=list[tuple[str, str, int]]):
                marks[reason, dialect] = mark
        except msgspec.MsgspecError:
            pass  # an operator has reset the group's offsets; the offset is valid
        return cls(marks)

    def written(self) -> tuple[int, str]:
        """Return the offset and the metadata to commit.

        If the metadata has no room for all marks, the lowest are dropped, and their rejects are replayed again.
        """
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
