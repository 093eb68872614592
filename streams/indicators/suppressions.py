"""The suppressions in force at a moment of the log: does one of them hide this alert?"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Micros
from schemas.suppressions import Suppression
from streams.indicators.validity import TemporalIndex


class SuppressionSet:
    """Suppressions as of any moment of the log. They are looked through one by one: people write them, so they are few."""

    def __init__(self) -> None:
        self._index_by_time: TemporalIndex[Suppression] = TemporalIndex()

    def __len__(self) -> int:
        return len(self._index_by_time)

    @property
    def empty(self) -> bool:
        """Nothing at all in it, past ones neither."""
        return self._index_by_time.empty

    def put(self, suppression: Suppression, since_ms: int = 0) -> None:
        """It is in force for log times from then on, in place of an earlier one of the same id; said again it is no news."""
        if self._index_by_time.holds(suppression.id, suppression):
            return
        self.remove(suppression.id, since_ms)
        self._index_by_time.put(suppression.id, suppression, since_ms)

    def remove(self, id: str, since_ms: int = 0) -> None:
        """It is in force for log times before then only."""
        for _ in self._index_by_time.end(id, since_ms):
            pass

    def forget(self, before_ms: int) -> None:
        """Let go what ended before this log time."""
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
        """The suppression that hides such an alert: of several the one with the longest time, then by id."""
        found = [
            entry.value
            for entry in self._index_by_time
            if entry.since_ms <= logged_ms < entry.to_ms
            and entry.value.matches(kind, device, groups, domain, hosts, indicator_id, at)
        ]
        return max(found, key=lambda one: (one.until, one.id), default=None)
