"""Counters of a device: what was read and what became of it.

A counter's entry is its name, or name and label separated by a colon (`resolved:connect`). Entries are part of the stored
state. `schemas.metrics.BOOK` declares the metric of each name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

from schemas.events import Reason
from schemas.tables import GapKind, ResolvedBy, UnresolvedReason

Entry = NewType("Entry", str)


class Count(StrEnum):
    """What is counted."""

    READ = "read"
    PARSED = "parsed"
    IGNORED = "ignored"
    REJECTED = "rejected"
    CONNECTIONS = "connections"
    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    LATE = "late"
    """Connections that are late evidence of a departed one; they are not among `CONNECTIONS`."""
    LEFT = "left"
    ROWS = "rows"
    VERDICT_ROWS = "verdict_rows"
    PROXY_LOG = "proxy_lines"
    PROXIES_NOT_LEARNT = "proxies_not_learnt"
    PROCESSES_FORGOTTEN = "processes_forgotten"
    DEPARTED_FORGOTTEN = "departed_forgotten"
    GAPS = "gaps"
    GAPS_FILLED = "gaps_filled"
    GAPS_FORGOTTEN = "gaps_forgotten"
    GAP_LINES = "gap_lines"
    SILENT = "silent"
    DEVICES_EVICTED = "devices_evicted"
    # Counts of the whole partition, which `Pipeline.book` computes and no device stores.
    WAITING = "waiting"
    DEVICES = "devices"
    DEVICES_NEAR_BOUND = "devices_near_bound"
    KEPT = "kept"
    DEPARTED = "departed"


class Left(StrEnum):
    """Why a connection left the state."""

    ENDED = "ended"
    IDLE = "idle"
    TOO_MANY = "too_many"


class LogOutcome(StrEnum):
    """What became of an access-log entry."""

    JOINED = "joined"
    NO_DESTINATION = "no_destination"
    NO_CONNECTION = "no_connection"
    AMBIGUOUS = "ambiguous"
    TOO_MANY = "too_many"


Label = ResolvedBy | UnresolvedReason | Reason | GapKind | Left | LogOutcome | str
"""Type of labels; parsers name the kinds of ignored lines."""


def entry_of(what: Count, label: Label = "") -> Entry:
    """Return the entry of a counter, with its label if it has one."""
    return Entry(f"{what}:{label}" if label else f"{what}")


def parts_of(entry: str) -> tuple[str, str]:
    """Return the name and the label of an entry; the label is "" if there is none."""
    name, _, label = entry.partition(":")
    return name, label


class Counters(dict[str, int]):
    """Counts by entry; an entry that was never counted is 0."""

    def __missing__(self, entry: str) -> int:
        return 0

    def count(self, entry: Entry, by: int = 1) -> None:
        """Add to an entry; adding 0 creates none."""
        if by:
            self[entry] += by

    def merge(self, other: Mapping[str, int]) -> None:
        """Add all counts of another device or partition."""
        for entry, count in other.items():
            self[entry] += count

    def total(self, what: Count) -> int:
        """Return the sum over all labels of a counter."""
        return sum(count for entry, count in self.items() if parts_of(entry)[0] == what)
