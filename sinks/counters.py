"""Counters of the writers, by table: plain integers that the metrics page reads from its own thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from common.histogram import Histogram, merged
from schemas import metrics
from schemas.metrics import Metric


@dataclass(slots=True)
class Written:
    """Results of batches, by table.

    All tables are present from the start, so that no mapping changes its size while another thread reads it.
    """

    rows: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    rows_refused: Counter[str] = field(default_factory=Counter)
    rows_left: Counter[str] = field(default_factory=Counter)
    """Rows whose partition was assigned to another sink before they were written."""
    batch_rows: dict[str, Histogram] = field(default_factory=dict)
    latency_secs: dict[str, Histogram] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Iterable[str]) -> Written:
        """Return counters of these tables, all zero."""
        names = list(tables)
        histograms = _empty(metrics.SINK_BATCH_ROWS, names), _empty(metrics.SINK_LATENCY, names)
        return cls(zeros(names), zeros(names), zeros(names), zeros(names), zeros(names), *histograms)

    def __add__(self, other: Written) -> Written:
        """Return the sum of both."""
        return Written(
            _sum(self.rows, other.rows),
            _sum(self.batches, other.batches),
            _sum(self.retries, other.retries),
            _sum(self.rows_refused, other.rows_refused),
            _sum(self.rows_left, other.rows_left),
            _merged(self.batch_rows, other.batch_rows),
            _merged(self.latency_secs, other.latency_secs),
        )


def zeros(names: Iterable[str]) -> Counter[str]:
    """Return a counter with these labels, all zero."""
    return Counter(dict.fromkeys(names, 0))


def _sum(one: Counter[str], other: Counter[str]) -> Counter[str]:
    both = Counter(one)
    both.update(other)  # `+` would drop labels that are still zero
    return both


def _empty(metric: Metric, names: Iterable[str]) -> dict[str, Histogram]:
    return {name: Histogram(metric.buckets) for name in names}


def _merged(one: dict[str, Histogram], other: dict[str, Histogram]) -> dict[str, Histogram]:
    both = {name: [some[name] for some in (one, other) if name in some] for name in one | other}
    return {name: merged(histograms) for name, histograms in both.items()}
