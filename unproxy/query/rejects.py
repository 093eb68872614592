"""Rejects in the table, by reason and dialect: their number, first and latest time, and an example."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unproxy.output import printable
from unproxy.query.client import TIME, Client
from unproxy.query.times import readable

RAW_CHARS_SHOWN = 160
DETAIL_CHARS_SHOWN = 300
NAMES_SHOWN = 20

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection of rejects; an empty field selects all. `limit` is the number of groups by reason and dialect."""

    reason: str = ""
    dialect: str = ""
    device: str = ""
    since: str = ""
    limit: int = 100


_CONDITIONS = {
    "reason": "Reason = {reason:String}",
    "dialect": "Dialect = {dialect:String}",
    "device": "Device = {device:String}",
    "since": f"RejectedAt >= {TIME % 'since'}",
}


def stored(client: Client, wanted: Selection) -> Sequence[Row]:
    """Return a row for each reason and dialect, the most frequent first, with the latest reject as an example."""
    asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name))}
    conditions = " AND ".join(_CONDITIONS[name] for name in asked) or "1"
    latest = (
        "argMax(tuple(Device, Detail, substring(RawBase64, 1, 400), length(RawBase64)), tuple(RejectedAt, RecordId))"
    )
    rows = client.rows(
        f"SELECT Reason, Dialect, count() AS Count, uniqExact(Device) AS Devices, min(RejectedAt) AS FirstTime, "
        f"max(RejectedAt) AS LastTime, {latest} AS Example FROM Rejects WHERE {conditions} "
        "GROUP BY Reason, Dialect ORDER BY Count DESC, Reason, Dialect LIMIT {limit:UInt64}",
        {**asked, "limit": wanted.limit},
    )
    return [_readable(row) for row in rows]


def kinds(client: Client) -> str:
    """Return a text that lists the dialects and devices with rejects; "" if there are no rejects."""
    (row,) = client.rows(
        f"SELECT groupUniqArray({NAMES_SHOWN})(Dialect) AS dialects, groupUniqArray({NAMES_SHOWN})(Device) AS devices "
        "FROM Rejects"
    )
    if not row["dialects"]:
        return ""
    named = {of: ", ".join(sorted(printable(name) or f"no {of[:-1]}" for name in names)) for of, names in row.items()}
    return f"there are some of dialects: {named['dialects']}; of devices: {named['devices']}"


def _readable(row: Row) -> Row:
    device, detail, begin, length = row["Example"]
    raw = base64.b64decode(begin)
    text = raw.decode("utf-8", "backslashreplace")[:RAW_CHARS_SHOWN]
    known = {name: value for name, value in row.items() if name != "Example"}
    return {
        **known,
        "ExampleDevice": device,
        "ExampleDetail": detail,
        "ExampleRaw": printable(text),
        "ExampleBytes": length // 4 * 3,
    }


def lines(row: Row) -> list[str]:
    """Return a row of `stored` as lines of text: number, times, and the error and the beginning of the example."""
    count, devices = row["Count"], row["Devices"]
    return [
        f"{printable(row['Reason'])}  {printable(row['Dialect']) or 'no dialect'}  {count:,} line{_s(count)} of {devices:,}"
        f" device{_s(devices)}  {readable(row['FirstTime'], 19)} to {readable(row['LastTime'], 19)}",
        f"    {printable(row['ExampleDetail'])[:DETAIL_CHARS_SHOWN]}",
        f"    {printable(row['ExampleDevice']) or 'no device'}: {row['ExampleRaw']}",
    ]


def _s(count: int) -> str:
    return "" if count == 1 else "s"
