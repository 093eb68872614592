"""Formats that are recognised but not supported: what each lacks, and what to collect instead.

A line in such a format is rejected as `unsupported` if no dialect claims it, or if its declared dialect cannot read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from schemas.events import Reason, Reject
from schemas.parsers.common.carriers import carried_again

_FAST = re.compile(
    r"\d\d/\d\d(?:/\d\d(?:\d\d)?)?-\d\d:\d\d:\d\d\.\d{1,6}\s++(?:\[\w{1,16}\]\s++)?\[\*\*\]\s++\[\d{1,10}:\d{1,10}:\d{1,10}\]\s"
)
_PRIORITY = "(?:Emergency|Alert|Critical|Error|Warning|Notice|Informational|Debug)"
_FALCO = re.compile(rf"\d\d:\d\d:\d\d\.\d{{9}}(?:[+-]\d{{4}})?: {_PRIORITY} ")
_FALCO_JSON = re.compile(rf'"priority": ?"{_PRIORITY}"')


def _is_fast(text: str) -> bool:
    """Return whether a line has the format of fast.log.

    Time, optional action of inline mode, signature ids between `**`, as in Snort.
    """
    return _FAST.match(text) is not None


def _is_falco(text: str) -> bool:
    """Return whether a line is of Falco: JSON with rule, priority and output, or text with nanoseconds and priority."""
    if text[:1] == "{":
        return '"rule":' in text and '"output":' in text and _FALCO_JSON.search(text) is not None
    return _FALCO.match(text) is not None


UNSUPPORTED: dict[str, tuple[Callable[[str], bool], str]] = {
    "Suricata's fast.log": (
        _is_fast,
        "it has a rule and a packet's addresses, but neither the request nor a flow id, so it names no destination; "
        "read eve.json in its place (docs/dialects/suricata.md)",
    ),
    "Falco": (
        _is_falco,
        "its fields are those that each rule chooses to print, so connections and processes are there for some rules only; "
        "collect connections with `unproxy sensor`, or read Tetragon (docs/dialects/README.md)",
    ),
}
"""For each unsupported format the function that recognises a line without its carrier, and the reason with the advice."""


def unsupported(raw: bytes) -> Reject | None:
    """Return the reject for a line of a format that is not supported; None for any other line. Never raises."""
    text = carried_again(raw).text
    for name, (is_theirs, why) in UNSUPPORTED.items():
        if is_theirs(text):
            return Reject(Reason.UNSUPPORTED, f"{name} is not supported: {why}", raw)
    return None
