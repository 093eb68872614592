"""A histogram in plain integers: how many values fell into which bucket. The exporter reads it when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


class Histogram:
    """Counts values into buckets that are fixed from the start; a value at a bound belongs below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        assert bounds, "a histogram needs bounds"
        assert list(bounds) == sorted(set(bounds)), "bounds grow"
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values in each bucket; the last one is for what is beyond all bounds."""
        self.total = 0.0
        """Sum of all values."""

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them together; there is at least one, and their bounds are the same."""
    first, *others = histograms
    whole = Histogram(first.bounds)
    for one in (first, *others):
        assert one.bounds == whole.bounds, "only what is counted alike can be added"
        whole.counts = [mine + its for mine, its in zip(whole.counts, one.counts, strict=True)]
        whole.total += one.total
    return whole
