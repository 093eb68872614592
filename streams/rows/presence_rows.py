"""Rows of a device's presence: sensor coverage, gaps and silence (`streams.rows.presence`)."""

from __future__ import annotations

from schemas.clock import LATEST, MICROS, iso_micros
from schemas.events import Micros
from schemas.tables import COVERAGE_SECS, Coverage, GapKind, GapStatus, SensorGap
from streams.assess.assessment import identity
from streams.model.device import Device
from streams.model.sequence_gaps import Change, Sensor

BUCKET: Micros = COVERAGE_SECS * MICROS
VERSION_MAX = 1 << 48
"""Upper bound of the number of missing lines. The version of a gap is this minus the number, so it grows as the gap shrinks."""


def coverage_row(device: Device, key: str, first: Micros, last: Micros) -> Coverage:
    """Return the coverage row of a sensor in a bucket; `key` is its dialect and name."""
    dialect, _, name = key.partition("\0")
    bucket = iso_micros(last - last % BUCKET)
    return Coverage(
        DeviceId=device.name,
        DeviceName=device.name,
        Dialect=dialect,
        Sensor=name,
        Bucket=bucket,
        FirstTime=iso_micros(first),
        LastTime=iso_micros(last),
        RecordId=identity(device.name, key, bucket),
    )


def gap_row(device: Device, key: str, sensor: Sensor, change: Change) -> SensorGap:
    """Return the row of a gap that opened or shrank, or of a restarted numbering."""
    kind, status, gap, _ = change
    dialect, _, name = key.partition("\0")
    restarted = kind is GapKind.RESTART
    missing = gap.end - gap.start
    return SensorGap(
        DeviceId=device.name,
        DeviceName=device.name,
        Kind=kind,
        Status=status,
        FromTime=_time(gap.after),
        ToTime=_time(gap.before),
        Dialect=dialect,
        Sensor=name,
        LinesMissing=None if restarted else missing,
        FromSeq=gap.start,
        ToSeq=gap.end,
        DetectedAt=_logged(gap.found_ms),
        RecordId=identity(device.name, key, kind, str(sensor.restarts), "" if restarted else str(gap.start)),
        Version=1 if restarted else VERSION_MAX - missing,
    )


def silence_row(device: Device, status: GapStatus, until: Micros) -> SensorGap:
    """Return the row of a device's silence; `until` is 0 while it lasts."""
    state = device.state
    return SensorGap(
        DeviceId=device.name,
        DeviceName=device.name,
        Kind=GapKind.SILENCE,
        Status=status,
        FromTime=_time(state.reported_at),
        ToTime=_time(until),
        Dialect="",
        Sensor="",
        LinesMissing=None,
        FromSeq=None,
        ToSeq=None,
        DetectedAt=_logged(state.silent_ms),
        RecordId=identity(device.name, GapKind.SILENCE, str(state.reported_at), str(state.silences)),
        Version=1 if status is GapStatus.OPEN else 2,
    )


def _time(at: Micros) -> str | None:
    return iso_micros(at) if at else None


def _logged(at_ms: int) -> str:
    """Return a log timestamp (milliseconds) as text, clamped to the valid range: producers may set any value."""
    return iso_micros(min(max(0, at_ms * 1000), LATEST))
