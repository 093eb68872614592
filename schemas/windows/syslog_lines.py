"""Windows events as lines of syslog: Snare's columns, and NXLog's values in the structured data of RFC 5424."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_SNARE = b"MSWinEventLog"
_SNARE_COLUMN = re.compile(r"\t|#011")
_SNARE_COLUMNS = 13
"""From criticality to the text; a number of its own may follow."""
_SNARE_TIME = "%a %b %d %H:%M:%S %Y %z"
"""Snare's own has no zone."""
_NXLOG = b"[NXLOG@14506 "
_NXLOG_LINE = re.compile(
    r"<\d{1,3}>\d{1,2} (\S{1,40}) (\S{1,255}) (\S{1,48}) \S{1,128} \S{1,32} "
    r"\[NXLOG@14506((?: [^\s=\"]{1,64}=\"(?:[^\"\\]|\\.)*+\")++)\]"
)
_NXLOG_VALUE = re.compile(r" ([^\s=\"]{1,64})=\"((?:[^\"\\]|\\.)*+)\"")
_ESCAPED = re.compile(r"\\([\"\\\]])")


def is_line(raw: bytes) -> bool:
    """Whether a line is one of these."""
    return _SNARE in raw or _NXLOG in raw


def flat(raw: bytes) -> dict[str, Any]:
    """The event as NXLog writes it in JSON, its text as `Message`; {} where it is none after all."""
    text = raw.decode("utf-8", "replace")
    return _snare(text) if _SNARE in raw else _nxlog(text)


def _snare(text: str) -> dict[str, Any]:
    columns = _SNARE_COLUMN.split(text.partition("MSWinEventLog")[2])[1:]
    if len(columns) < _SNARE_COLUMNS:
        return {}
    channel, time, number, provider, computer, shown = (columns[at] for at in (1, 3, 4, 5, 9, 12))
    try:
        logged = datetime.strptime(f"{' '.join(time.split())} +0000", _SNARE_TIME).isoformat()  # noqa: DTZ007  # it has %z
    except ValueError:
        logged = time
    return {
        "EventID": number,
        "SourceName": provider if "-" in provider else "",
        "Channel": channel,
        "Hostname": computer,
        "EventTime": logged,
        "Message": shown,
    }


def _nxlog(text: str) -> dict[str, Any]:
    line = _NXLOG_LINE.match(text)
    if line is None:
        return {}
    values = {name: _ESCAPED.sub(r"\1", value) for name, value in _NXLOG_VALUE.findall(line[4])}
    provider = line[3].replace("_", " ")
    return {"Message": text[line.end() :], **values, "Hostname": line[2], "SourceName": provider, "EventTime": line[1]}
