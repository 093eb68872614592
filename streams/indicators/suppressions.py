"""Suppressions valid at a log time, and the lookup of the one that hides an alert."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Micros
from schemas.suppressions import Suppression
from streams.indicators.validity import TemporalIndex


class SuppressionSet:
    """Suppressions as of any log time. The search is linear, as suppressions are written by hand and few."""

    def __init__(self) -> None:
        self._index_by_time: TemporalIndex[Suppression] = TemporalIndex()

    def __len__(self) -> int:
        return len(self._index_by_time)

    @property
    def empty(self) -> bool:
        """Return whether the set holds no suppressions, including past ones."""
        return self._index_by_time.empty

    def put(self, suppression: Suppression, since_ms: int = 0) -> None:
        """Make a suppression valid from log time `since_ms` on, in place of an earlier one with the same id.

        A suppression equal to the current one changes nothing.
        """
        if self._index_by_time.holds(suppression.id, suppression):
            return
        self.remove(suppression.id, since_ms)
        self._index_by_time.put(suppression.id, suppression, since_ms)

    def remove(self, id: str, since_ms: int = 0) -> None:
        """End the validity of a suppression at log time `since_ms`."""
        for _ in self._index_by_time.end(id, since_ms):
            pass

    def forget(self, before_ms: int) -> None:
        """Evict suppressions that ended at or before this log time."""
        for _ in self._index_by_time.forget(before_ms):
            pass

    def find(
        self,
        kind: str,
        device: str,
        groups: Sequence[str],
        domain: str,
        hosts: Sequence[str],
        indicator_id: str,
        at: Micros,
        logged_ms: int,
    ) -> Suppression | None:
        """Return the suppression that hides an alert, else None; of several, the one that lasts longest, then the highest id."""
        found = [
            entry.value
            for entry in self._index_by_time
            if entry.since_ms <= logged_ms < entry.to_ms
            and entry.value.matches(kind, device, groups, domain, hosts, indicator_id, at)
        ]
        return max(found, key=lambda one: (one.until, one.id), default=None)
