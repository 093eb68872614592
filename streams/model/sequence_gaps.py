"""Gaps in the sequence numbers of a sensor's lines: detection, filling, and restarts of the numbering.

A producer numbers the lines of each device, dialect and sensor from 1. A message carries the number of its first line and its
number of lines (`producers/publish/publisher.py`), so it covers [seq, seq + lines):

    message                                  meaning
    begins where the previous one ended      nothing is missing
    begins later                             the lines between the two messages are missing: a gap
    begins earlier, with newer lines         the producer lost its position and numbers from the start again: a restart
    begins earlier, otherwise                a repeat or a late message: it fills the gaps that it covers

The lines are newer if the time of each one exceeds the times of all lines so far by more than the allowed disorder. The
distinction between a restart and a repeat depends on event times only, never on arrival times. Lines before the first
observed message are unknown, not missing.

A gap is identified by its first number and only shrinks from its end. The rest behind a filled part becomes a gap of its own.
Therefore the same gaps remain open for any order of messages.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.events import Micros
from schemas.tables import GapKind, GapStatus

GAPS_MAX = 64
"""Open gaps kept per sensor. Beyond it the oldest is evicted; its row stays open, even if the gap is filled later."""


class Gap(msgspec.Struct, array_like=True, gc=False):
    """Range of missing lines."""

    start: int
    """Number of the first missing line."""
    end: int
    """Number of the first line after the gap."""
    after: Micros
    """Time of the latest event before the gap; 0 if unknown."""
    before: Micros
    """Time of the first event after the gap; 0 if unknown."""
    found_ms: int
    """Log time at which the gap was found, in milliseconds."""


class Sensor(msgspec.Struct, array_like=True, gc=False):
    """Reporting state of one sensor of a device."""

    expected: int = 0
    """Number of the next line; 0 while the sensor does not number its lines."""
    newest: Micros = 0
    """Time of the latest event in the lines before `expected`."""
    restarts: int = 0
    """Number of restarts of the numbering so far."""
    gaps: list[Gap] = []
    """Open gaps, sorted by number."""
    first: Micros = 0
    last: Micros = 0
    """`first` and `last`: times of the first and latest event in the current bucket of coverage (`streams.rows.presence`)."""
    outdated: bool = False
    """The bucket's emitted row is out of date."""
    emitted_early: bool = False
    """The row of this bucket was emitted early because the sensor was quiet."""


class Received(NamedTuple):
    """Sequence numbers and times of one message."""

    seq: int
    """Number of the first line; 0 for unnumbered lines."""
    lines: int
    first: Micros
    last: Micros
    """`first` and `last`: times of the first and latest event; 0 if no line contains a time."""
    logged_ms: int
    """Log time of the message, in milliseconds."""


class Change(NamedTuple):
    """New or changed gap."""

    kind: GapKind
    status: GapStatus
    gap: Gap
    new: bool = True
    """The gap did not exist before."""


class Changes(NamedTuple):
    """Changes that one message caused."""

    changes: list[Change]
    lines: int
    """Change in the number of missing lines; negative if lines arrived."""
    forgotten: int
    """Number of open gaps that were evicted."""


NOTHING = Changes([], 0, 0)


def apply_numbers(sensor: Sensor, received: Received, lateness: Micros) -> Changes:
    """Apply a message's sequence numbers and return the changes; `lateness` is the allowed disorder in microseconds."""
    seq, end, expected = received.seq, received.seq + received.lines, sensor.expected
    if not expected or seq == expected:
        changes = NOTHING
    elif seq > expected:
        changes = _open(sensor, received)
    elif received.first > sensor.newest + lateness:
        changes = _restart(sensor, received)
    else:
        changes = _fill(sensor, received) if sensor.gaps else NOTHING
        if end <= expected:
            return changes
    sensor.expected = end
    sensor.newest = max(sensor.newest, received.last)
    return changes


def _open(sensor: Sensor, received: Received) -> Changes:
    """Open a gap between the expected number and the first number of the message."""
    gap = Gap(sensor.expected, received.seq, *_around(sensor.newest, received.first), received.logged_ms)
    sensor.gaps.append(gap)
    return Changes([Change(GapKind.LOSS, GapStatus.OPEN, gap)], gap.end - gap.start, _forget(sensor, GAPS_MAX))


def _restart(sensor: Sensor, received: Received) -> Changes:
    """Restart the numbering. The open gaps are evicted and their rows stay open: lines with old numbers no longer arrive."""
    sensor.restarts += 1
    gap = Gap(sensor.expected, received.seq, *_around(sensor.newest, received.first), received.logged_ms)
    return Changes([Change(GapKind.RESTART, GapStatus.CLOSED, gap)], 0, _forget(sensor, 0))


def _forget(sensor: Sensor, kept: int) -> int:
    """Evict the oldest gaps, so that at most `kept` remain; return the number of evicted ones."""
    over = max(0, len(sensor.gaps) - kept)
    sensor.gaps = sensor.gaps[over:]
    return over


def _fill(sensor: Sensor, received: Received) -> Changes:
    """Fill the gaps that the message covers. A gap that is covered in part shrinks, is split, or both."""
    seq, end = received.seq, received.seq + received.lines
    kept: list[Gap] = []
    changes: list[Change] = []
    lines = 0
    for gap in sensor.gaps:
        if gap.end <= seq or end <= gap.start:
            kept.append(gap)
            continue
        lines -= min(gap.end, end) - max(gap.start, seq)
        if gap.start < seq:
            left = Gap(gap.start, seq, *_around(gap.after, received.first or gap.before), gap.found_ms)
            kept.append(left)
            changes.append(Change(GapKind.LOSS, GapStatus.OPEN, left, False))
        else:
            none = Gap(gap.start, gap.start, gap.after, gap.before, gap.found_ms)
            changes.append(Change(GapKind.LOSS, GapStatus.FILLED, none, False))
        if end < gap.end:
            right = Gap(end, gap.end, *_around(received.last or gap.after, gap.before), gap.found_ms)
            kept.append(right)
            changes.append(Change(GapKind.LOSS, GapStatus.OPEN, right))
    sensor.gaps = kept
    return Changes(changes, lines, _forget(sensor, GAPS_MAX))


def _around(after: Micros, before: Micros) -> tuple[Micros, Micros]:
    """Return the times before and after a gap in ascending order: lines may be out of order. A time of 0 is unknown."""
    return (min(after, before), max(after, before)) if after and before else (after, before)
