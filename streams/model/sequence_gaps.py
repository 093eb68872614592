"""What of a sensor's numbered lines has not come: gaps open, are filled, and the numbering may begin anew.

A producer numbers the lines of each device, dialect and sensor from 1; a message says its first line's number and how many it
has (`producers/publish/publisher.py`). So a message covers [seq, seq + lines):

    begins where the last one ended      nothing is missing
    begins later                         what lies between is missing: a gap
    begins earlier, lines as old         sent again, or late: it fills the gaps it covers, and nothing else happens
    begins earlier, all lines newer      the producer counts anew, as its position was lost: a restart

Lines are newer when all of them are later, by more than lines may be out of order, than every line that was numbered before.
So a restart is told from a repeat by what the lines say, and never by when they came. What came before the first message
that was seen is unknown, not missing.

A gap is named by its first number, and it only ever shrinks from its end: what is left behind a part that came is a gap of
its own. So in whatever order messages come, the same gaps are open in the end.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.events import Micros
from schemas.tables import GapKind, GapStatus

GAPS_MAX = 64
"""Open gaps remembered per sensor. Beyond it the oldest is forgotten: it is shown for ever, though it may be filled."""


class Gap(msgspec.Struct, array_like=True, gc=False):
    """Lines that have not come."""

    start: int
    end: int
    """Number of the first line behind it."""
    after: Micros
    """Latest event before it; 0 when unknown."""
    before: Micros
    """First event after it; 0 when unknown."""
    found_ms: int
    """The log's time when it was noticed."""


class Sensor(msgspec.Struct, array_like=True, gc=False):
    """What was heard of one sensor of a device."""

    expected: int = 0
    """Number of the next line; 0 while it does not number its lines."""
    newest: Micros = 0
    """Latest event of the lines before that."""
    restarts: int = 0
    gaps: list[Gap] = []
    """Open ones, by number."""
    first: Micros = 0
    last: Micros = 0
    """The time that is being covered: first and latest event of the current bucket (`streams.rows.presence`)."""
    untold: bool = False
    """The bucket's row does not say all of it."""
    hushed: bool = False
    """Its row left in this bucket because the sensor was quiet."""


class Heard(NamedTuple):
    """What a message says of its place."""

    seq: int
    lines: int
    first: Micros
    last: Micros
    """Its first and latest event; 0 where no line tells."""
    logged_ms: int


class Change(NamedTuple):
    """A gap that is new or has changed."""

    kind: GapKind
    status: GapStatus
    gap: Gap
    new: bool = True
    """It was not there before."""


class Changes(NamedTuple):
    """What a message changed."""

    changes: list[Change]
    lines: int
    """Lines that are missing now and were not before, or the other way round."""
    forgotten: int
    """Open gaps that are no longer remembered."""


NOTHING = Changes([], 0, 0)


def count(sensor: Sensor, heard: Heard, lateness: Micros) -> Changes:
    """Take a message's numbers in."""
    seq, end, expected = heard.seq, heard.seq + heard.lines, sensor.expected
    if not expected or seq == expected:
        changes = NOTHING
    elif seq > expected:
        changes = _open(sensor, heard)
    elif heard.first > sensor.newest + lateness:
        changes = _begin_anew(sensor, heard)
    else:
        changes = _fill(sensor, heard) if sensor.gaps else NOTHING
        if end <= expected:
            return changes
    sensor.expected = end
    sensor.newest = max(sensor.newest, heard.last)
    return changes


def _open(sensor: Sensor, heard: Heard) -> Changes:
    gap = Gap(sensor.expected, heard.seq, *_around(sensor.newest, heard.first), heard.logged_ms)
    sensor.gaps.append(gap)
    return Changes([Change(GapKind.LOSS, GapStatus.OPEN, gap)], gap.end - gap.start, _forget(sensor, GAPS_MAX))


def _begin_anew(sensor: Sensor, heard: Heard) -> Changes:
    """Its old numbers will not come any more: what is open stays so."""
    sensor.restarts += 1
    gap = Gap(sensor.expected, heard.seq, *_around(sensor.newest, heard.first), heard.logged_ms)
    return Changes([Change(GapKind.RESTART, GapStatus.CLOSED, gap)], 0, _forget(sensor, 0))


def _forget(sensor: Sensor, kept: int) -> int:
    """Let go of the oldest gaps; how many."""
    over = max(0, len(sensor.gaps) - kept)
    sensor.gaps = sensor.gaps[over:]
    return over


def _fill(sensor: Sensor, heard: Heard) -> Changes:
    seq, end = heard.seq, heard.seq + heard.lines
    kept: list[Gap] = []
    changes: list[Change] = []
    lines = 0
    for gap in sensor.gaps:
        if gap.end <= seq or end <= gap.start:
            kept.append(gap)
            continue
        lines -= min(gap.end, end) - max(gap.start, seq)
        if gap.start < seq:
            left = Gap(gap.start, seq, *_around(gap.after, heard.first or gap.before), gap.found_ms)
            kept.append(left)
            changes.append(Change(GapKind.LOSS, GapStatus.OPEN, left, False))
        else:
            none = Gap(gap.start, gap.start, gap.after, gap.before, gap.found_ms)
            changes.append(Change(GapKind.LOSS, GapStatus.FILLED, none, False))
        if end < gap.end:
            right = Gap(end, gap.end, *_around(heard.last or gap.after, gap.before), gap.found_ms)
            kept.append(right)
            changes.append(Change(GapKind.LOSS, GapStatus.OPEN, right))
    sensor.gaps = kept
    return Changes(changes, lines, _forget(sensor, GAPS_MAX))


def _around(after: Micros, before: Micros) -> tuple[Micros, Micros]:
    """Lines may be out of order: the gap lies between the earlier and the later of both."""
    return (min(after, before), max(after, before)) if after and before else (after, before)
