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
from streams.model.counters import Count, entry_of
from streams.model.device import NEVER, SENSORS_MAX, Device, DeviceState
from streams.model.sequence_gaps import Received, Sensor, apply_numbers
from streams.rows.emitter import Emitter
from streams.rows.network_events import encode
from streams.rows.presence_rows import BUCKET, coverage_row, gap_row, silence_row

HUSH: Micros = 10 * MICROS
"""Quiet time of a sensor after which the coverage of its current bucket is emitted, in microseconds."""
FADES: Micros = 7 * 86_400 * MICROS
"""Time over which a baseline fades, in microseconds."""


class Presence:
    """Producer of presence rows from the messages of devices."""

    def __init__(self, settings: CorrelationSettings, emitter: Emitter) -> None:
        self._emitter = emitter
        self._lateness = int(settings.lateness_secs * MICROS)
        self._silence = int(settings.silence_secs * MICROS)

    def observe(self, device: Device, dialect: str, name: str, received: Received) -> None:
        """Record a device's lines of one message; `received.seq` is 0 for unnumbered lines."""
        times = self._plausible_times(device)
        if times:
            received = received._replace(first=min(times), last=max(times))
        elif not received.seq:
            return
        key = f"{dialect}\0{name}"
        sensor = device.sensors.get(key) or self._register(device, key)
        device.touched_sensors[key] = None
        if received.seq:
            self._number(device, key, sensor, received)
        if times:
            self._see(device, key, sensor, received, times)
            self._end_silence(device, received)
            device.state.reported_at, device.state.reported_ms = device.state.event_time, received.logged_ms
        device.quiet_due = self._due(device)

    def pass_quiet_time(self, device: Device, passed: Micros, logged_ms: int) -> None:
        """Emit the coverage and silence that are due after the device sent nothing for `passed` microseconds of log time."""
        for key in sorted(device.sensors):
            sensor = device.sensors[key]
            if sensor.outdated and passed >= (BUCKET if sensor.emitted_early else HUSH):
                self._emit_coverage(device, key, sensor)
                sensor.emitted_early = True
                device.touched_sensors[key] = None
        state = device.state
        if state.reported_at and not state.silent_ms and passed >= self._limit(state):
            state.silences += 1
            state.silent_ms = logged_ms
            device.state.counts.count(entry_of(Count.SILENT))
            device.state.counts.count(entry_of(Count.GAPS, GapKind.SILENCE))
            self._emit_silence(device, GapStatus.OPEN, 0)
        device.quiet_due = self._due(device)

    def finish(self, device: Device) -> None:
        """Emit all pending coverage of a device, as at the end of a recording."""
        for key in sorted(device.sensors):
            if device.sensors[key].outdated:
                self._emit_coverage(device, key, device.sensors[key])

    def remember(self, device: Device) -> None:
        """Schedule the presence check of a device that was restored from its state entries."""
        device.quiet_due = self._due(device)

    @staticmethod
    def _plausible_times(device: Device) -> list[Micros]:
        """Return the times of the current lines that are not ahead of the device's clock, which ignored such times."""
        times, now = device.times, device.state.event_time
        if not times or max(times) <= now:
            return times
        return [at for at in times if at <= now]

    def _register(self, device: Device, key: str) -> Sensor:
        """Register a new sensor; at `SENSORS_MAX` forget the one with the oldest latest event."""
        if len(device.sensors) >= SENSORS_MAX:
            oldest = min(device.sensors, key=lambda known: (device.sensors[known].last, known))
            left = device.sensors.pop(oldest)
            device.touched_sensors[oldest] = None
            device.state.counts.count(entry_of(Count.GAPS_FORGOTTEN), len(left.gaps))
            if left.outdated:
                self._emit_coverage(device, oldest, left)
        sensor = device.sensors[key] = Sensor()
        return sensor

    def _number(self, device: Device, key: str, sensor: Sensor, received: Received) -> None:
        changes, lines, forgotten = apply_numbers(sensor, received, self._lateness)
        if not changes:
            return
        for change in changes:
            if change.new:
                device.state.counts.count(entry_of(Count.GAPS, change.kind))
            elif change.status is GapStatus.FILLED:
                device.state.counts.count(entry_of(Count.GAPS_FILLED))
            self._emitter.output.sensor_gaps.append(encode(gap_row(device, key, sensor, change)))
        device.state.counts.count(entry_of(Count.GAP_LINES), lines)
        device.state.counts.count(entry_of(Count.GAPS_FORGOTTEN), forgotten)

    def _see(self, device: Device, key: str, sensor: Sensor, received: Received, times: list[Micros]) -> None:
        """Record that a sensor reported events at these times."""
        if received.first // BUCKET == received.last // BUCKET:
            self._see_span(device, key, sensor, received.first, received.last)
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
                sensor.outdated = True
        elif bucket > current or device.state.event_time // BUCKET < current:
            if sensor.outdated:
                self._emit_coverage(device, key, sensor)
            sensor.first, sensor.last, sensor.emitted_early = first, last, False
            self._emit_coverage(device, key, sensor)
        else:
            self._emitter.output.coverage.append(encode(coverage_row(device, key, first, last)))

    def _emit_coverage(self, device: Device, key: str, sensor: Sensor) -> None:
        self._emitter.output.coverage.append(encode(coverage_row(device, key, sensor.first, sensor.last)))
        sensor.outdated = False

    def _end_silence(self, device: Device, received: Received) -> None:
        """End or record a silence before the device's current message, and update its baseline."""
        state = device.state
        if not (state.reported_ms and received.logged_ms):
            return  # first message of the device, or no log
        passed = max(0, received.logged_ms - state.reported_ms) * 1000
        own = received.first - state.reported_at
        quiet, limit = min(passed, own), self._limit(state)
        if state.silent_ms:
            device.state.counts.count(entry_of(Count.SILENT), -1)
            if own < limit:
                device.state.counts.count(entry_of(Count.GAPS_FILLED))
            self._emit_silence(device, GapStatus.CLOSED if own >= limit else GapStatus.FILLED, received.first)
            state.silent_ms = 0
        elif quiet >= limit:  # no tick arrived in between
            state.silences += 1
            state.silent_ms = received.logged_ms
            device.state.counts.count(entry_of(Count.GAPS, GapKind.SILENCE))
            self._emit_silence(device, GapStatus.CLOSED, received.first)
            state.silent_ms = 0
        state.baseline -= state.baseline * min(passed, FADES) // FADES
        state.baseline = max(state.baseline, min(quiet, 2 * limit))

    def _emit_silence(self, device: Device, status: GapStatus, until: Micros) -> None:
        self._emitter.output.sensor_gaps.append(encode(silence_row(device, status, until)))

    def _limit(self, state: DeviceState) -> Micros:
        return max(self._silence, 2 * state.baseline)

    def _due(self, device: Device) -> Micros:
        """Return the quiet time, in microseconds, after which the next row is due."""
        state = device.state
        due = self._limit(state) if state.reported_at and not state.silent_ms else NEVER
        for sensor in device.sensors.values():
            if sensor.outdated:
                due = min(due, BUCKET if sensor.emitted_early else HUSH)
        return due
