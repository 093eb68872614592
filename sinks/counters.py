"""What writers count, by table; plain integers that the metrics page reads from its own thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Written:
    """What became of batches, by table. Every table is there from the start, so that reading never meets a change."""

    rows: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    rows_refused: Counter[str] = field(default_factory=Counter)
    rows_left: Counter[str] = field(default_factory=Counter)
    """Their partition went to another sink before they were written."""

    @classmethod
    def of(cls, tables: Iterable[str]) -> Written:
        """Nothing yet, of these tables."""
        names = list(tables)
        return cls(*(zeros(names) for _ in range(5)))

    def __add__(self, other: Written) -> Written:
        """Both together."""
        return Written(
            _sum(self.rows, other.rows),
            _sum(self.batches, other.batches),
            _sum(self.retries, other.retries),
            _sum(self.rows_refused, other.rows_refused),
            _sum(self.rows_left, other.rows_left),
        )


def zeros(names: Iterable[str]) -> Counter[str]:
    """A counter that knows its labels."""
    return Counter(dict.fromkeys(names, 0))


def _sum(one: Counter[str], other: Counter[str]) -> Counter[str]:
    both = Counter(one)
    both.update(other)  # `+` would leave out what is still zero
    return both
