"""Rules for devices and destinations: groups and modes from the settings, indicators, suppressions.

One object serves all pipelines of a worker. The log's timestamp of the current message (`logged_ms`) determines what is valid,
not the time at which this process received a change. Every worker and every replay therefore decides alike.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase, translate

from schemas.clock import MICROS
from schemas.events import Micros, ProtectionMode
from schemas.settings import ProtectionSettings
from schemas.suppressions import Suppression
from streams.alerts.message import alert
from streams.indicators.index import IndicatorSet, Match
from streams.indicators.suppressions import SuppressionSet
from streams.model.device import Device
from streams.model.protection import HIT_EVENT_IDS_MAX, AlertState, Hit

HITS_MAX = 64
"""Maximum number of hits stored separately per connection or destination; further ones are counted with the last."""
HIT_REQUESTS_MAX = 64


class Policy:
    """Indicators and suppressions valid at the log's time, and the protection settings."""

    def __init__(
        self,
        settings: ProtectionSettings | None = None,
        indicators: IndicatorSet | None = None,
        suppressions: SuppressionSet | None = None,
    ) -> None:
        settings = settings or ProtectionSettings()
        self.indicators = indicators if indicators is not None else IndicatorSet()
        self.suppressions = suppressions if suppressions is not None else SuppressionSet()
        self.alert_gap: Micros = int(settings.alert_gap_secs * MICROS)
        self.logged_ms = 0
        """The log's timestamp of the current message, milliseconds since 1970; 0 without a log."""
        sensors = (entry if "@" in entry else f"{entry}@*" for entry in settings.verdict_sensors)
        self._verdict_sensors = re.compile("|".join(map(translate, sensors)) or r"(?!)")
        self._patterns = [entry.partition("=")[::2] for entry in settings.groups]
        modes = (entry.rpartition("=")[::2] for entry in settings.modes)
        self._modes = [(who.strip() if who.strip()[:1] == "@" else who.strip().lower(), mode) for who, mode in modes]

    def accepts_verdicts(self, dialect: str, sensor: str) -> bool:
        """Return whether the worker accepts verdicts and modes from a sensor without a grant."""
        return self._verdict_sensors.match(f"{dialect}@{sensor}") is not None

    def groups_of(self, device: Device) -> tuple[str, ...]:
        """Return the groups of a device from the settings."""
        if device.groups_in is None:
            name = device.name.lower()
            found = (group.strip() for group, pattern in self._patterns if fnmatchcase(name, pattern.strip().lower()))
            device.groups_in = tuple(dict.fromkeys(found))
        return device.groups_in

    def mode_of(self, device: Device) -> ProtectionMode | None:
        """Return the device's mode from the settings; None if they have none.

        An entry for the device's name has precedence over entries for its groups, earlier groups and entries over later ones.
        """
        groups = [f"@{group}" for group in self.groups_of(device)]
        for who in (device.name.lower(), *groups):
            for named, mode in self._modes:
                if named == who:
                    return ProtectionMode(mode)
        return None

    def match(
        self, device: Device, host: str, port: int, url: str, ip: str, at: Micros, *, encrypted: bool
    ) -> tuple[Match, ...]:
        """Return the indicators that match a request of this device, in the order of precedence.

        An indicator must be valid at the log's time (`logged_ms`) and not expired at the request's time `at` (microseconds).
        `encrypted` means that only host and port are known.
        """
        if self.indicators.empty:
            return ()
        return self.indicators.match(host, port, url, ip, encrypted, at, self.logged_ms, self.groups_of(device))

    def message(self, device: Device, state: AlertState) -> object:
        """Return the message of an alert, with the suppression that hides it, if any."""
        suppression: Suppression | None = None
        if not self.suppressions.empty:
            indicator = state.indicator.id if state.indicator is not None else ""
            suppression = self.suppressions.find(
                state.kind,
                device.name,
                self.groups_of(device),
                state.domain,
                state.hosts,
                indicator,
                state.last,
                self.logged_ms,
            )
        return alert(device, state, suppression)


def note_hit(
    hits: list[Hit],
    matches: tuple[Match, ...],
    host: str,
    port: int,
    at: Micros,
    event_id: str,
    request: int = 0,
    sensor: str = "",
) -> None:
    """Count a request under the indicators that matched it and the kind of sensor that reported it."""
    hit = Hit([(match.indicator, match.partial) for match in matches], host, port, at, at, sensor=sensor)
    for known in hits:
        if known.sensor == sensor and known.means == hit.means:
            hit = known
            break
    else:
        if len(hits) >= HITS_MAX:
            hit = hits[-1]
        else:
            hits.append(hit)
    hit.count += 1
    hit.first, hit.last = min(hit.first, at), max(hit.last, at)
    if event_id:
        hit.event_ids = sorted({*hit.event_ids, event_id})[:HIT_EVENT_IDS_MAX]
    if request:
        hit.requests = [*hit.requests, request][-HIT_REQUESTS_MAX:]
