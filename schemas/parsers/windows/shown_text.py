"""The text that Event Viewer shows of an event, read by its labels.

Some shippers send that text and none of its values. Sysmon's is in English everywhere and labels each value by its name; the
filtering platform's and Defender's are read in English only. Each value stands on a line of its own, unless a shipper made one
line of it. What is labelled twice is not taken, nor then a command line: it may hold what looks like a label.
"""

from __future__ import annotations

import re

from schemas.parsers.windows.record import Source

_SYSMON = (
    "RuleName UtcTime ProcessGuid ProcessId Image FileVersion Description Product Company OriginalFileName CommandLine "
    "CurrentDirectory User LogonGuid LogonId TerminalSessionId IntegrityLevel Hashes ParentProcessGuid ParentProcessId "
    "ParentImage ParentCommandLine ParentUser Protocol Initiated SourceIsIpv6 SourceIp SourceHostname SourcePort "
    "SourcePortName DestinationIsIpv6 DestinationIp DestinationHostname DestinationPort DestinationPortName"
)
_LABELS: dict[Source, dict[str, str]] = {
    "sysmon": {name: name for name in _SYSMON.split()},
    "security": {
        "Process ID": "ProcessId",
        "Application Name": "Application",
        "Direction": "Direction",
        "Source Address": "SourceAddress",
        "Source Port": "SourcePort",
        "Destination Address": "DestAddress",
        "Destination Port": "DestPort",
        "Protocol": "Protocol",
        **{heading: heading for heading in ("Application Information", "Network Information", "Filter Information")},
    },
    "defender": {
        "Detection time": "Detection Time",
        "User": "User",
        "Destination": "Destination",
        "Process Name": "Process Name",
        "Old value": "Old Value",
        "New value": "New Value",
    },
}
"""Labels in the text of each source, and the names of their values."""
_COMMAND_LINE = "CommandLine"
EVENT_CHARS_MAX = 131_072
"""Longest text that is read: Windows limits an event to 64 KiB (EVENT_RECORD, Event Tracing for Windows)."""


def _begins_word(name: str) -> str:
    """Return a pattern for a name at the start of a word.

    It begins with the name's first letter, so that `re` skips others fast.
    """
    return rf"{name[0]}(?<!\S{name[0]}){name[1:]}"


_LABEL = {source: re.compile(rf"({'|'.join(map(_begins_word, names))}):(?!\S)") for source, names in _LABELS.items()}


def values_of(text: str, source: Source) -> dict[str, str]:
    """Return the values in a text by name; {} for an unknown source or a text that is too long."""
    labels = _LABELS.get(source)
    if labels is None or len(text) > EVENT_CHARS_MAX:
        return {}
    text = text.strip().strip('"').strip()
    found = list(_LABEL[source].finditer(text))
    if "\n" in text:
        found = [label for label in found if _begins_line(text, label.start())]
    ends = (*(label.start() for label in found[1:]), len(text))
    values: dict[str, str] = {}
    dropped = set()
    for label, end in zip(found, ends, strict=False):  # a text without labels has one end and no value
        name, value = labels[label[1]], text[label.end() : end].strip()
        if name in values:
            dropped |= {name, _COMMAND_LINE}
        values[name] = value if name == _COMMAND_LINE else value.partition("\n")[0].rstrip()
    return {name: value for name, value in values.items() if name not in dropped}


def _begins_line(text: str, at: int) -> bool:
    """Return whether only blanks are between the start of the line and this index."""
    while at and text[at - 1] in " \t":
        at -= 1
    return not at or text[at - 1] in "\r\n"
