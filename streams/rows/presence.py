"""Presence of a device: coverage by its sensors, gaps in their line numbers, and silence.

- **Coverage**: one row per sensor and five-minute bucket, from the first to the latest event in the bucket. The row is
  emitted when the bucket begins, when the next one begins, and once or twice while the sensor is quiet. The table merges
  these rows by minimum and maximum. Late and repeated lines are therefore included, and only the current bucket is kept.
- **Gaps** in the sensors' line numbers are in `streams.model.sequence_gaps`.
- **Silence**: each device has a baseline, its longest recent quiet time. Recurring quiet times count; a single outage does
  not. The baseline fades within weeks. A device is silent when it is quiet for twice its baseline and for `silence_secs`.
  Quiet time is measured both by the log, with ticks, and on the device's own clock. A device that was cut off and reports
  everything later does not count as silent. Neither does a device whose clock was set.

Only the content of the log decides, so a replay of the log gives the same rows.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from schemas.settings import CorrelationSettings
from schemas.tables import GapKind, GapStatus
from streams.model.device import NEVER, SENSORS_MAX, Device, Facts
from streams.model.sequence_gaps import Heard, Sensor, count
from streams.rows.emitter import Emitter
from streams.rows.network_events import encode
from streams.rows.presence_rows import BUCKET, coverage_row, gap_row, silence_row

HUSH: Micros = 10 * MICROS
"""Quiet time of a sensor after which the coverage of its current bucket is emitted."""
FADES: Micros = 7 * 86_400 * MICROS
"""Time over which a baseline fades."""


class Presence:
    """Producer of presence rows from the messages of devices."""

    def __init__(self, settings: CorrelationSettings, emitter: Emitter) -> None:
        self._emitter = emitter
        self._lateness = int(settings.lateness_secs * MICROS)
        self._silence = int(settings.silence_secs * MICROS)

    def hear(self, device: Device, dialect: str, name: str, heard: Heard) -> None:
        """Record a device's lines of one message; `heard.seq` is 0 for unnumbered lines."""
        times = self._believed(device)
        if times:
            heard = heard._replace(first=min(times), last=max(times))
        elif not heard.seq:
            return
        key = f"{dialect}\0{name}"
        sensor = device.sensors.get(key) or self._meet(device, key)
        device.touched_sensors[key] = None
        if heard.seq:
            self._number(device, key, sensor, heard)
        if times:
            self._see(device, key, sensor, heard, times)
            self._speak(device, heard)
            device.facts.heard, device.facts.heard_ms = device.facts.now, heard.logged_ms
        device.quiet_due = self._due(device)

    def be_quiet(self, device: Device, passed: Micros, logged_ms: int) -> None:
        """Emit what is due after the device sent nothing for `passed` microseconds of log time."""
        for key in sorted(device.sensors):
            sensor = device.sensors[key]
            if sensor.untold and passed >= (BUCKET if sensor.hushed else HUSH):
                self._tell(device, key, sensor)
                sensor.hushed = True
                device.touched_sensors[key] = None
        facts = device.facts
        if facts.heard and not facts.silent_ms and passed >= self._limit(facts):
            facts.silences += 1
            facts.silent_ms = logged_ms
            self._count(device, "silent")
            self._count(device, f"gaps:{GapKind.SILENCE}")
            self._say(device, GapStatus.OPEN, 0)
        device.quiet_due = self._due(device)

    def finish(self, device: Device) -> None:
        """Emit all pending coverage of a device, as at the end of a recording."""
        for key in sorted(device.sensors):
            if device.sensors[key].untold:
                self._tell(device, key, device.sensors[key])

    def remember(self, device: Device) -> None:
        """Schedule the presence check of a device that was restored from its state entries."""
        device.quiet_due = self._due(device)

    @staticmethod
    def _believed(device: Device) -> list[Micros]:
        """Return the times of the current lines without those ahead of the device's clock, which did not follow them."""
        times, now = device.times, device.facts.now
        if not times or max(times) <= now:
            return times
        return [at for at in times if at <= now]

    def _meet(self, device: Device, key: str) -> Sensor:
        """Register a new sensor; at `SENSORS_MAX` forget the one with the oldest latest event."""
        if len(device.sensors) >= SENSORS_MAX:
            oldest = min(device.sensors, key=lambda known: (device.sensors[known].last, known))
            left = device.sensors.pop(oldest)
            device.touched_sensors[oldest] = None
            self._count(device, "gaps_forgotten", len(left.gaps))
            if left.untold:
                self._tell(device, oldest, left)
        sensor = device.sensors[key] = Sensor()
        return sensor

    def _number(self, device: Device, key: str, sensor: Sensor, heard: Heard) -> None:
        changes, lines, forgotten = count(sensor, heard, self._lateness)
        if not changes:
            return
        for change in changes:
            if change.new:
                self._count(device, f"gaps:{change.kind}")
            elif change.status is GapStatus.FILLED:
                self._count(device, "gaps_filled")
            self._emitter.output.sensor_gaps.append(encode(gap_row(device, key, sensor, change)))
        self._count(device, "gap_lines", lines)
        self._count(device, "gaps_forgotten", forgotten)

    def _see(self, device: Device, key: str, sensor: Sensor, heard: Heard, times: list[Micros]) -> None:
        """Record that a sensor reported events at these times."""
        if heard.first // BUCKET == heard.last // BUCKET:
            self._see_span(device, key, sensor, heard.first, heard.last)
            return
        buckets: dict[int, list[Micros]] = {}
        for at in times:
            buckets.setdefault(at // BUCKET, []).append(at)
        for _, some in sorted(buckets.items()):
            self._see_span(device, key, sensor, min(some), max(some))

    def _see_span(self, device: Device, key: str, sensor: Sensor, first: Micros, last: Micros) -> None:
        """Record a time span within one bucket."""
        bucket, current = last // BUCKET, sensor.last // BUCKET
        if sensor.last and bucket == current:
            if first < sensor.first or last > sensor.last:
                sensor.first, sensor.last = min(first, sensor.first), max(last, sensor.last)
                sensor.untold = True
        elif bucket > current or device.facts.now // BUCKET < current:
            if sensor.untold:
                self._tell(device, key, sensor)
            sensor.first, sensor.last, sensor.hushed = first, last, False
            self._tell(device, key, sensor)
        else:
            self._emitter.output.coverage.append(encode(coverage_row(device, key, first, last)))

    def _tell(self, device: Device, key: str, sensor: Sensor) -> None:
        self._emitter.output.coverage.append(encode(coverage_row(device, key, sensor.first, sensor.last)))
        sensor.untold = False

    def _speak(self, device: Device, heard: Heard) -> None:
        """End or record a silence before the device's current message, and update its baseline."""
        facts = device.facts
        if not (facts.heard_ms and heard.logged_ms):
            return  # first message of the device, or no log
        passed = max(0, heard.logged_ms - facts.heard_ms) * 1000
        own = heard.first - facts.heard
        quiet, limit = min(passed, own), self._limit(facts)
        if facts.silent_ms:
            self._count(device, "silent", -1)
            if own < limit:
                self._count(device, "gaps_filled")
            self._say(device, GapStatus.CLOSED if own >= limit else GapStatus.FILLED, heard.first)
            facts.silent_ms = 0
        elif quiet >= limit:  # no tick arrived in between
            facts.silences += 1
            facts.silent_ms = heard.logged_ms
            self._count(device, f"gaps:{GapKind.SILENCE}")
            self._say(device, GapStatus.CLOSED, heard.first)
            facts.silent_ms = 0
        facts.baseline -= facts.baseline * min(passed, FADES) // FADES
        facts.baseline = max(facts.baseline, min(quiet, 2 * limit))

    def _say(self, device: Device, status: GapStatus, until: Micros) -> None:
        self._emitter.output.sensor_gaps.append(encode(silence_row(device, status, until)))

    def _limit(self, facts: Facts) -> Micros:
        return max(self._silence, 2 * facts.baseline)

    def _due(self, device: Device) -> Micros:
        """Return the quiet time in microseconds after which something is due."""
        facts = device.facts
        due = self._limit(facts) if facts.heard and not facts.silent_ms else NEVER
        for sensor in device.sensors.values():
            if sensor.untold:
                due = min(due, BUCKET if sensor.hushed else HUSH)
        return due

    @staticmethod
    def _count(device: Device, what: str, by: int = 1) -> None:
        if by:
            counts = device.facts.counts
            counts[what] = counts.get(what, 0) + by
