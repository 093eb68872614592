"""A histogram of plain integers: the number of values per bucket. The exporter reads it per scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


class Histogram:
    """Counts of values in fixed buckets; upper bounds are inclusive."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        assert bounds, "a histogram needs bounds"
        assert list(bounds) == sorted(set(bounds)), "bounds grow"
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Number of values in each bucket; the last bucket holds those above all bounds."""
        self.total = 0.0
        """Sum of all values."""

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of at least one histogram; all have the same bounds."""
    first, *others = histograms
    whole = Histogram(first.bounds)
    for one in (first, *others):
        assert one.bounds == whole.bounds, "only what is counted alike can be added"
        whole.counts = [mine + its for mine, its in zip(whole.counts, one.counts, strict=True)]
        whole.total += one.total
    return whole
