"""Windows events in plain text: Snare's columns, NXLog's structured data (RFC 5424), and the text of Splunk's forwarder.

Splunk's text has several lines, so it occurs only in envelopes (`_raw`, `event`).
"""

from __future__ import annotations

import re
from datetime import datetime
from itertools import islice
from typing import Any

from schemas.parsers.common.quoting import INSIDE, QUOTED, unescaped
from schemas.parsers.windows.event_xml import VALUES_MAX

_SNARE = b"MSWinEventLog"
_SNARE_COLUMN = re.compile(r"\t|#011")
_SNARE_COLUMNS = 13
"""Number of columns from criticality to the text; a number of Snare's may follow."""
_SNARE_TIME = "%a %b %d %H:%M:%S %Y %z"
"""Format of the time in Snare's lines, with a zone added, as they have none."""
_NXLOG = b"[NXLOG@14506 "
_NXLOG_LINE = re.compile(
    r"<\d{1,3}>\d{1,2} (\S{1,40}) (\S{1,255}) (\S{1,48}) \S{1,128} \S{1,32} "
    rf"\[NXLOG@14506((?: [^\s=\"]{{1,64}}={QUOTED})++)\]"
)
_NXLOG_VALUE = re.compile(rf" ([^\s=\"]{{1,64}})=\"({INSIDE})\"")
_SPLUNK = b"\nEventCode="
_SPLUNK_TIME = "%m/%d/%Y %I:%M:%S %p %z"


def is_line(raw: bytes) -> bool:
    """Return whether a line has one of these formats."""
    return _SNARE in raw or _NXLOG in raw or _SPLUNK in raw


def flat(raw: bytes) -> dict[str, Any]:
    """Convert an event to the form of NXLog's JSON, with its text as `Message`; {} if it is not an event."""
    text = raw.decode("utf-8", "replace")
    if _SNARE in raw:
        return _snare(text)
    return _nxlog(text) if _NXLOG in raw else _splunk(text)


def _snare(text: str) -> dict[str, Any]:
    columns = _SNARE_COLUMN.split(text.partition("MSWinEventLog")[2], _SNARE_COLUMNS + 1)[1:]
    if len(columns) < _SNARE_COLUMNS:
        return {}
    channel, time, number, provider, computer, shown = (columns[at] for at in (1, 3, 4, 5, 9, 12))
    return {
        "EventID": number,
        "SourceName": provider if "-" in provider else "",
        "Channel": channel,
        "Hostname": computer,
        "EventTime": _as_utc(time, _SNARE_TIME),
        "Message": shown,
    }


def _nxlog(text: str) -> dict[str, Any]:
    line = _NXLOG_LINE.match(text)
    if line is None:
        return {}
    found = islice(_NXLOG_VALUE.finditer(line[4]), VALUES_MAX)
    values = {value[1]: unescaped(value[2], '"]') for value in found}
    provider = line[3].replace("_", " ")
    return {"Message": text[line.end() :], **values, "Hostname": line[2], "SourceName": provider, "EventTime": line[1]}


def _splunk(text: str) -> dict[str, Any]:
    head, _, shown = text.replace("\r\n", "\n").partition("\nMessage=")
    time, *lines = head.split("\n", VALUES_MAX)
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    if not values.get("LogName") or not shown:
        return {}
    return {
        "EventID": values.get("EventCode"),
        "SourceName": values.get("SourceName", ""),
        "Channel": values["LogName"],
        "Hostname": values.get("ComputerName", ""),
        "EventTime": _as_utc(time, _SPLUNK_TIME),
        "Message": shown,
    }


def _as_utc(time: str, form: str) -> str:
    """Return a time without zone as UTC."""
    try:
        return datetime.strptime(f"{' '.join(time.split())} +0000", form).isoformat()  # noqa: DTZ007  # it has %z
    except ValueError:
        return time
