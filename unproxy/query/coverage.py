"""The coverage of a device: by which sensors it was seen, which lines are missing, and why connections are unresolved.

The sources are the tables DeviceCoverage, SensorGaps and DeviceNetworkEvents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.clock import LATEST, MICROS, iso_micros, parse_micros
from schemas.events import Micros
from schemas.tables import COVERAGE_SECS, GapKind
from unproxy.output import printable
from unproxy.query.client import OF_DEVICE, TIME, Client
from unproxy.query.times import readable
from unproxy.query.unresolved import QUESTION, Unresolved, unresolved

QUIET: Micros = COVERAGE_SECS * MICROS
"""Shortest silence, in microseconds, that shows: the rows of coverage have no finer resolution."""
MINUTE: Micros = 60 * MICROS
STRETCHES_SHOWN = 10
NAME_CHARS_MAX = 60

Row = Mapping[str, Any]
Span = tuple[Micros, Micros]


class Verdict(StrEnum):
    """Whether a device was seen by one sensor, or by all its sensors."""

    SEEN = "seen"
    PARTLY = "partly seen"
    NOT = "not seen"


@dataclass(frozen=True, slots=True)
class SensorPresence:
    """The presence of one sensor of the device."""

    dialect: str
    sensor: str
    stretches: Sequence[Span]
    """Spans, within the requested time, in which it reported without a silence of `QUIET` or more."""
    gaps: Sequence[Row]
    """Its rows of SensorGaps in the requested time."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """The coverage of a device from `since` to `until`; `silences` are the rows of SensorGaps about the device."""

    device: str
    since: Micros
    until: Micros
    presences: Sequence[SensorPresence] = field(default_factory=list)
    silences: Sequence[Row] = field(default_factory=list)
    unresolved: Sequence[Unresolved] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The verdict of the device: that of all its sensors if they agree, else partly; not seen without a sensor."""
        verdicts = {presence.verdict for presence in self.presences}
        return verdicts.pop() if len(verdicts) == 1 else Verdict.PARTLY if verdicts else Verdict.NOT


def ask(client: Client, device: str, since: Micros, until: Micros) -> Answer | None:
    """Return the coverage of a device; None if it is unknown. Bounds of 0 are the first and the last time of the device."""
    named = {"device": device}
    sensors = client.rows(_SENSORS, named)
    if not sensors:
        return None
    bounds = since, until
    since = since or min(parse_micros(row["first"]) for row in sensors)
    until = until or max(parse_micros(row["last"]) for row in sensors)
    # A connection may begin after the last line that the coverage counts, so bounds of 0 do not limit the connections.
    begun = {"since": iso_micros(bounds[0]), "until": iso_micros(bounds[1] or LATEST)}
    asked = {
        **named,
        "since": iso_micros(since),
        "until": iso_micros(until),
        "before": iso_micros(max(0, since - 2 * QUIET)),
        "behind": iso_micros(until + 2 * QUIET),
    }
    found = client.rows(_COVERAGE, asked), client.rows(_GAPS, asked), client.rows(QUESTION, {**named, **begun})
    return answer(device, since, until, sensors, *found)


def answer(
    device: str,
    since: Micros,
    until: Micros,
    sensors: Iterable[Row],
    coverage: Iterable[Row],
    gaps: Sequence[Row],
    connections: Iterable[Row] = (),
) -> Answer:
    """Return the coverage that the rows of the tables show; `connections` is the result of `QUESTION`."""
    spans_of: dict[tuple[str, str], list[Span]] = {(row["Dialect"], row["Sensor"]): [] for row in sensors}
    for row in coverage:
        spans = spans_of.setdefault((row["Dialect"], row["Sensor"]), [])
        spans.append((parse_micros(row["FirstTime"]), parse_micros(row["LastTime"])))
    presences = []
    for (dialect, sensor), spans in sorted(spans_of.items()):
        missing = [row for row in gaps if (row["Dialect"], row["Sensor"]) == (dialect, sensor)]
        within = [(a, b) for a, b in stretches(spans) if a < until and b >= since]
        whole = any(a <= since and b >= until for a, b in within)
        verdict = Verdict.NOT if not within else Verdict.SEEN if whole and not missing else Verdict.PARTLY
        clipped = [(max(a, since), min(b, until)) for a, b in within]
        presences.append(SensorPresence(dialect, sensor, clipped, missing, verdict))
    silences = [row for row in gaps if row["Kind"] == GapKind.SILENCE]
    return Answer(device, since, until, presences, silences, unresolved(connections))


def stretches(spans: Iterable[Span]) -> list[Span]:
    """Return the spans, sorted; spans with less than `QUIET` between them are merged."""
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first - joined[-1][1] < QUIET:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


_SENSORS = (
    f"SELECT Dialect, Sensor, min(FirstTime) AS first, max(LastTime) AS last FROM DeviceCoverage WHERE {OF_DEVICE} "
    "GROUP BY Dialect, Sensor"
)
_COVERAGE = (
    f"SELECT Dialect, Sensor, FirstTime, LastTime FROM DeviceCoverage WHERE {OF_DEVICE} "
    f"AND Bucket >= {TIME % 'before'} AND Bucket < {TIME % 'behind'}"
)
# A silence that lasts has no ToTime yet. If lines have no time, the gap counts at the time of its detection.
_GAPS = (
    f"SELECT * FROM SensorGaps WHERE {OF_DEVICE} AND coalesce(FromTime, DetectedAt) < {TIME % 'until'} "
    f"AND ((Kind = 'silence' AND ToTime IS NULL) OR coalesce(ToTime, DetectedAt) >= {TIME % 'since'}) "
    "ORDER BY FromTime, FromSeq, RecordId"
)


def lines(found: Answer) -> list[str]:
    """Return the coverage as lines of text."""
    lines_ = [f"{found.device} from {_clock(found.since)} to {_clock(found.until)} (UTC): {found.verdict}"]
    names = [f"{presence.dialect} {presence.sensor}".rstrip() for presence in found.presences]
    width = min(max(map(len, names), default=0), NAME_CHARS_MAX)
    for name, presence in zip(names, found.presences, strict=True):
        times = [f"{_clock(a)} to {_clock(b)}" for a, b in presence.stretches[:STRETCHES_SHOWN]]
        more = len(presence.stretches) - len(times)
        lines_.append(
            f"  {name:{width}}  {presence.verdict:11}  {', '.join(times)}{f', +{more} more' if more else ''}".rstrip()
        )
        lines_ += [f"    {gap_line(row)}" for row in presence.gaps]
    lines_ += [f"  {gap_line(row)}" for row in found.silences]
    lines_ += [f"  {one.in_words()}" for one in found.unresolved]
    return [printable(line) for line in lines_]


def gap_line(row: Row) -> str:
    """Return a row of SensorGaps as text."""
    place = f"between {_shown(row['FromTime'])} and {_shown(row['ToTime'])}"
    if row["Kind"] == GapKind.SILENCE:
        end = f"to {_shown(row['ToTime'])}" if row["ToTime"] else "on, it still is"
        return f"silent from {_shown(row['FromTime'])} {end}"
    if row["Kind"] == GapKind.RESTART:
        return f"numbering began again {place}: what was lost then is not known"
    count = row["LinesMissing"]
    return f"{count:,} line{'s' if count != 1 else ''} missing {place}"


def as_objects(found: Answer) -> list[dict[str, Any]]:
    """Return the coverage as an object for JSON per sensor; each object repeats the facts about the device."""
    return [
        {
            "DeviceName": found.device,
            "From": iso_micros(found.since),
            "To": iso_micros(found.until),
            "DeviceVerdict": found.verdict,
            "Dialect": presence.dialect,
            "Sensor": presence.sensor,
            "Verdict": presence.verdict,
            "Seen": [[iso_micros(a), iso_micros(b)] for a, b in presence.stretches],
            "Gaps": [
                {name: row[name] for name in ("Kind", "Status", "FromTime", "ToTime", "LinesMissing")}
                for row in [*presence.gaps, *found.silences]
            ],
            "Unresolved": [one.as_object() for one in found.unresolved],
        }
        for presence in found.presences
    ]


def _clock(at: Micros) -> str:
    return _shown(iso_micros(at))


def _shown(at: str | None) -> str:
    return readable(at) if at else "an unknown time"
