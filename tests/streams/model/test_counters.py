"""Counters: their entries, their labels and the metrics that are declared for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from schemas.events import Reason
from schemas.metrics import BOOK
from schemas.tables import GapKind, ResolvedBy, UnresolvedReason
from streams.model.counters import Count, Counters, Left, LogOutcome, entry_of, parts_of
from streams.model.device import DeviceState

LABELS: Mapping[Count, type[StrEnum]] = {
    Count.REJECTED: Reason,
    Count.RESOLVED: ResolvedBy,
    Count.UNRESOLVED: UnresolvedReason,
    Count.LEFT: Left,
    Count.PROXY_LOG: LogOutcome,
    Count.GAPS: GapKind,
}


def test_metrics_are_of_counters() -> None:
    """Each metric of the book belongs to a counter, and has a label if and only if the counter has one."""
    assert set(BOOK) <= set(Count)
    for name, metric in BOOK.items():
        assert bool(metric.labels) == (Count(name) in {*LABELS, Count.IGNORED}), name


def test_entries_of_sums_and_labels() -> None:
    """Counts add up by entry; a counter's total covers all labels, and not those of a counter with a longer name."""
    counts = Counters()
    counts.count(entry_of(Count.GAPS, GapKind.LOSS), 2)
    counts.count(entry_of(Count.GAPS, GapKind.SILENCE))
    counts.count(entry_of(Count.GAPS_FILLED), 5)
    counts.count(entry_of(Count.LATE), 0)
    counts.merge({"gaps:loss": 1})

    assert counts == {"gaps:loss": 3, "gaps:silence": 1, "gaps_filled": 5}
    assert (counts.total(Count.GAPS), counts.total(Count.LATE), counts[Count.GAPS_FILLED]) == (4, 0, 5)
    assert [parts_of(entry) for entry in counts] == [("gaps", "loss"), ("gaps", "silence"), ("gaps_filled", "")]


def test_state_has_plain_entries() -> None:
    """The state holds the counters as a map from text, as it did before they had a type."""
    state = DeviceState()
    state.counts.count(entry_of(Count.RESOLVED, ResolvedBy.CONNECT))

    assert msgspec.to_builtins(state)[DeviceState.__struct_fields__.index("counts")] == {"resolved:connect": 1}
    assert all(type(entry) is str for entry in state.counts)
    assert json.loads(json.dumps(state.counts)) == {"resolved:connect": 1}
