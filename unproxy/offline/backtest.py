"""Backtest: the alerts that recorded lines would have raised with other indicators, and how the alerts of two lists differ.

Each list of indicators has its own pipeline, and all pipelines get the same messages, so a difference comes from the lists
alone. Without Kafka there is no log time: an indicator is valid for all events before its expiry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.tables import Alert
from unproxy.output import printable
from unproxy.query.alerts import HOSTS_SHOWN, counted, indicator, outcome
from unproxy.query.times import readable

if TYPE_CHECKING:
    from streams.pipeline import Output, Pipeline

_decode = msgspec.json.Decoder(Alert).decode


class Judge:
    """A pipeline with one list of indicators, and the latest version of each alert that it raised.

    The number of alerts is not limited.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._latest: dict[str, Alert] = {}

    def keep(self, made: Output) -> None:
        """Keep the alerts in an output of the pipeline."""
        for _, encoded in made.alerts:
            alert = _decode(encoded)
            known = self._latest.get(alert.AlertId)
            if known is None or alert.Version >= known.Version:
                self._latest[alert.AlertId] = alert

    @property
    def alerts(self) -> list[Alert]:
        """The latest version of each alert that is not withdrawn, in the order of their first requests."""
        return sorted((alert for alert in self._latest.values() if alert.Count), key=_order)


class Fate(StrEnum):
    """How an alert changes if one list of indicators replaces another."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"
    SAME = "same"


class Difference(NamedTuple):
    """An alert with the new list and its counterpart with the old list; None if there is none."""

    new: Alert | None
    old: Alert | None

    @property
    def fate(self) -> Fate:
        """How the alert changes."""
        if self.new is None or self.old is None:
            return Fate.NEW if self.old is None else Fate.GONE
        return Fate.SAME if _decided(self.new) == _decided(self.old) else Fate.CHANGED


def differences(new: Iterable[Alert], old: Iterable[Alert]) -> list[Difference]:
    """Return every alert of either list, paired with its counterpart.

    A counterpart has the same AlertId. Of the other alerts, two are counterparts if they have the same device, domain and
    day, and each list has only one such alert: then only its kind has changed.
    """
    mine, theirs = {alert.AlertId: alert for alert in new}, {alert.AlertId: alert for alert in old}
    pairs = [Difference(mine[name], theirs[name]) for name in mine.keys() & theirs.keys()]
    come = _by_day(alert for name, alert in mine.items() if name not in theirs)
    gone = _by_day(alert for name, alert in theirs.items() if name not in mine)
    for day in come.keys() | gone.keys():
        some, others = come.get(day, []), gone.get(day, [])
        if len(some) == len(others) == 1:
            pairs.append(Difference(some[0], others[0]))
        else:
            pairs += [Difference(alert, None) for alert in some]
            pairs += [Difference(None, alert) for alert in others]
    return sorted(pairs, key=lambda pair: _order(_shown(pair)))


def line(alert: Alert) -> str:
    """Return an alert as one line."""
    row = msgspec.structs.asdict(alert)
    until = "" if alert.LastTime == alert.FirstTime else f" to {readable(alert.LastTime)}"
    parts = [
        f"{readable(alert.FirstTime)}{until}",
        f"{alert.Kind:12}",
        f"{alert.Severity:6}",
        alert.DeviceName,
        f"{alert.DestinationDomain} ({', '.join(alert.DestinationHosts[:HOSTS_SHOWN])})",
        counted(row),
        outcome(row),
        indicator(row),
        alert.Title,
    ]
    return printable("  ".join(part for part in parts if part))


_SIGNS = {Fate.NEW: "+", Fate.GONE: "-", Fate.CHANGED: "~", Fate.SAME: "="}


def difference_line(pair: Difference) -> str:
    """Return a difference as one line: + new, - gone, ~ changed, = the same."""
    was = f"  (was: {', '.join(_was(pair.new, pair.old))})" if pair.new is not None and pair.old is not None else ""
    return f"{_SIGNS[pair.fate]} {line(_shown(pair))}{was if pair.fate is Fate.CHANGED else ''}"


def difference_json(pair: Difference) -> bytes:
    """Return a difference as JSON."""
    return msgspec.json.encode({"Change": pair.fate, "New": pair.new, "Old": pair.old})


def _was(new: Alert, old: Alert) -> Iterator[str]:
    if new.Kind != old.Kind:
        yield old.Kind
    if new.Severity != old.Severity:
        yield old.Severity
    if new.Count != old.Count:
        yield counted(msgspec.structs.asdict(old))
    if _stands_on(new) != _stands_on(old):
        yield printable(indicator(msgspec.structs.asdict(old))) or "no indicator"


def _decided(alert: Alert) -> tuple[object, ...]:
    """Return the fields of an alert that indicators decide."""
    return alert.Kind, alert.Severity, alert.Count, _stands_on(alert)


def _stands_on(alert: Alert) -> tuple[str, str, str]:
    return alert.IndicatorId, alert.IndicatorAction, alert.IndicatorMatch


def _by_day(alerts: Iterable[Alert]) -> dict[tuple[str, str, str], list[Alert]]:
    found: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in alerts:
        found.setdefault((alert.DeviceId, alert.DestinationDomain, alert.FirstTime[:10]), []).append(alert)
    return found


def _shown(pair: Difference) -> Alert:
    shown = pair.new or pair.old
    assert shown is not None, "a difference is between two alerts, one of which there is"
    return shown


def _order(alert: Alert) -> tuple[str, str, str, str]:
    return alert.FirstTime, alert.DeviceName, alert.DestinationDomain, alert.Kind
