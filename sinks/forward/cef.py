"""An alert as a line of CEF (Common Event Format, version 0). Pure.

    CEF:0|unproxy|unproxy|VERSION|KIND|NAME|SEVERITY|externalId=… cn1=… cn1Label=AlertVersion act=blocked …

The most informative fields come first. A field that does not fit into the line's limit is omitted as a whole, with its
label. The line then contains the number of omitted fields.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from schemas.clock import parse_micros
from schemas.indicators import Severity
from sinks.forward.alert import ForwardedAlert

CEF_SEVERITY: dict[str, int] = {Severity.INFORMATIONAL: 1, Severity.LOW: 3, Severity.MEDIUM: 6, Severity.HIGH: 8}
"""CEF severities (0 to 10) of the alerts' severities; CEF calls 0 to 3 low, 4 to 6 medium, 7 and 8 high."""
SEVERITY_UNKNOWN = 6
"""CEF severity of an alert with an unknown severity."""

NAME_BYTES_MAX = 120
"""Largest size, in bytes of UTF-8, of a kind or a title in the header; the rest is cut off."""
_CUT = " cn2={} cn2Label=FieldsLeftOut"
_CUT_BYTES = len(_CUT.format(99))

_HEAD = str.maketrans({"\\": "\\\\", "|": "\\|"})
_EXTENSION = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r"})
_LINE_BREAKS = re.compile(r"[\r\n]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")


def cef(alert: ForwardedAlert, version: str, bytes_max: int) -> bytes:
    """Return the alert as a CEF line of at most `bytes_max` bytes; `version` is the version of this program."""
    head = [
        "CEF:0", "unproxy", "unproxy", _in_head(version), _cut(alert.Kind or "unknown"),
        _cut(alert.Title or f"unproxy {alert.Kind}".strip()),
        str(CEF_SEVERITY.get(alert.Severity, SEVERITY_UNKNOWN)),
    ]  # fmt: skip
    line = "|".join(head).encode() + b"|"
    room = bytes_max - len(line) - _CUT_BYTES
    kept: list[bytes] = []
    left_out = 0
    for field in map(str.encode, _fields(alert)):
        if len(field) + 1 <= room:
            kept.append(field)
            room -= len(field) + 1
        else:
            left_out += 1
    return line + b" ".join(kept) + (_CUT.format(left_out).encode() if left_out else b"")


def sentence(alert: ForwardedAlert) -> str:
    """Return a sentence that describes the alert for a person."""
    process = alert.InitiatingProcessFileName or "an unknown process"
    what = f"{process} on {alert.DeviceName}: {alert.Kind or 'alert'}, {alert.DestinationDomain}"
    times = "withdrawn" if not alert.Count else "once" if alert.Count == 1 else f"{alert.Count} times"
    return f"{what}, {times}"


def _fields(alert: ForwardedAlert) -> Iterator[str]:
    """Yield each non-empty field with its label, so that both are kept or omitted together."""
    for key, value in _standard(alert):
        if value not in ("", None):
            yield f"{key}={_in_extension(str(value))}"
    for key, label, value in _custom(alert):
        if value:
            yield f"{key}={_in_extension(value)} {key}Label={label}"


def _standard(alert: ForwardedAlert) -> Iterator[tuple[str, object]]:
    host = alert.DestinationHosts[0] if alert.DestinationHosts else ""
    yield "externalId", alert.AlertId
    yield "act", alert.Outcome
    yield "cnt", alert.Count
    yield "start", _millis(alert.FirstTime)
    yield "end", _millis(alert.LastTime)
    yield "dvchost", alert.DeviceName
    yield "deviceExternalId", alert.DeviceId
    yield "suser", alert.InitiatingProcessAccountName
    yield "sproc", alert.InitiatingProcessFileName
    yield "spid", alert.InitiatingProcessId
    yield "dhost", host
    yield "dst", host if _ip_version(host) == 4 else ""
    yield "dpt", alert.DestinationPort
    yield "destinationDnsDomain", alert.DestinationDomain
    yield "cat", alert.Category
    yield "msg", sentence(alert)
    yield "filePath", alert.InitiatingProcessFolderPath
    yield "fileHash", alert.InitiatingProcessSHA256
    yield "reason", alert.RecommendedAction


def _custom(alert: ForwardedAlert) -> Iterator[tuple[str, str, str]]:
    host = alert.DestinationHosts[0] if alert.DestinationHosts else ""
    proxy = f"{alert.ProxyIP}:{alert.ProxyPort or ''} {alert.ProxyName}".strip(" :") if alert.ProxyIP else ""
    yield "cn1", "AlertVersion", str(alert.Version)
    yield "c6a3", "DestinationIPv6", host if _ip_version(host) == 6 else ""
    yield "cs1", "Proxy", proxy
    yield "cs2", "ProtectionMode", alert.ProtectionMode
    yield "cs3", "Indicator", f"{alert.IndicatorAction} {alert.IndicatorValue}".strip()
    yield "cs4", "DestinationHosts", ",".join(alert.DestinationHosts) if len(alert.DestinationHosts) > 1 else ""
    yield "flexString1", "Techniques", ",".join(alert.Techniques)
    yield "cs5", "CommandLine", alert.InitiatingProcessCommandLine
    yield "cs6", "Query", alert.Query


def _cut(text: str) -> str:
    return _in_head(text.encode()[:NAME_BYTES_MAX].decode("utf-8", "ignore"))


def _millis(text: str) -> int | None:
    try:
        return parse_micros(text) // 1_000
    except ValueError:
        return None


def _ip_version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def _in_head(text: str) -> str:
    return _CONTROL.sub(" ", _LINE_BREAKS.sub(" ", text)).translate(_HEAD)


def _in_extension(text: str) -> str:
    return _CONTROL.sub(" ", text).translate(_EXTENSION)
