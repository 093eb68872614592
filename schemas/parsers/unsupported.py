"""Formats that are recognised and not read: what each of them lacks, and what to collect in its place.

A line of one is rejected as `unsupported` if no dialect claims it, or if the dialect that it is read as cannot read it.
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
    """Time, an action of the inline mode or none, and a signature's ids between stars, as Snort writes it too."""
    return _FAST.match(text) is not None


def _is_falco(text: str) -> bool:
    """JSON with a rule, its priority and its output; text with the time in nanoseconds and the priority."""
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
"""By the format's name: what recognises a line without its carrier, and why it is not read with what to do."""


def unsupported(raw: bytes) -> Reject | None:
    """Return the reject for a line of a format that is not supported; None for any other line. Never raises."""
    text = carried_again(raw).text
    for name, (is_theirs, why) in UNSUPPORTED.items():
        if is_theirs(text):
            return Reject(Reason.UNSUPPORTED, f"{name} is not supported: {why}", raw)
    return None
