"""Windows events as Winlogbeat, Elastic Agent, NXLog, Datadog, Azure Monitor, evtx_dump or syslog ship them.

Sysmon 3 and the Windows Filtering Platform's 5156 and 5157 give connections, Defender's 1125 and 1126 verdicts, its 5007 the
change of the protection mode. The shapes are told apart by content (`schemas.windows.shippers`). Inbound connections are
those of another machine, and UDP has none.
"""

from __future__ import annotations

import re

import msgspec

from schemas.address import canonical_host, split_authority
from schemas.clock import iso_micros
from schemas.events import (
    TEXT_CHARS_MAX,
    Action,
    ConnectionOpened,
    Dialect,
    Ignored,
    Micros,
    ModeChanged,
    ModeEvidence,
    Parsed,
    Process,
    ProcessVerdict,
    ProtectionMode,
    Reason,
    Reject,
    flow_of,
)
from schemas.windows.event_xml import Malformed
from schemas.windows.record import Missing, Record, Source, Values, micros, needed, number, text
from schemas.windows.shippers import ecs_values, read

PORT_MAX = 65_535
PID_MAX = 2**32
KNOWN = {
    Source.SYSMON: frozenset({*range(1, 30), 255}),
    Source.SECURITY: frozenset({5031, *range(5150, 5160)}),
    Source.DEFENDER: frozenset({1006, 1116, 1117, 1121, 1122, 5007, 5013}),
}
"""Events that are counted by their number when they hold nothing for us; all others of a source are `other`."""
INBOUND = frozenset({"%%14592", "inbound"})
OUTBOUND = frozenset({"%%14593", "outbound"})
TCP = frozenset({"tcp", "6"})
MODES = {0: ProtectionMode.OFF, 1: ProtectionMode.BLOCK, 2: ProtectionMode.AUDIT}
PROTECTION_SETTING = "enablenetworkprotection"

_PID_IN_MESSAGE = re.compile(r"Process ?I[dD]:\s{1,8}(\d{1,10})\b")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Malformed)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        return _event(read(raw))
    except Missing as error:
        return Reject(Reason.INCOMPLETE, str(error), raw)
    except msgspec.ValidationError as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)
    except _UNREADABLE as error:
        return Reject(Reason.MALFORMED, str(error) or type(error).__name__, raw)
    except (ValueError, OverflowError) as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)


def _event(record: Record) -> Parsed:
    match record.source, record.event_id:
        case Source.SYSMON, 3:
            return _sysmon_connection(record)
        case Source.SECURITY, 5156 | 5157:
            return _filtered_connection(record)
        case Source.DEFENDER, 1125 | 1126:
            return _verdict(record)
        case Source.DEFENDER, 5007:
            return _setting(record)
    return _ignored(record)


def _ignored(record: Record, why: str = "") -> Ignored:
    source = record.source
    if source is Source.OTHER:
        return Ignored(record.device, record.at, "other")
    kind = str(record.event_id) if record.event_id in KNOWN[source] else "other"
    return Ignored(record.device, record.at, f"{source}_{kind}{why}")


def _sysmon_connection(record: Record) -> Parsed:
    """Sysmon tells of a connection once it is established."""
    values = record.values()
    if record.ecs and "SourceIp" not in values:
        values = ecs_values(record.ecs)
    if needed(values, "Protocol").lower() not in TCP:
        return _ignored(record, "_not_tcp")
    initiated = needed(values, "Initiated").lower()
    if initiated == "false":
        return _ignored(record, "_inbound")
    if initiated != "true":
        raise ValueError(f"Initiated is {initiated[:40]!r}, neither true nor false")
    at = record.at
    return _opened(record, values, ("SourceIp", "SourcePort", "DestinationIp", "DestinationPort"), at, "Image", at)


def _filtered_connection(record: Record) -> Parsed:
    """The Windows Filtering Platform lets a connection be tried, or stops it; what came of it, it does not tell."""
    values = record.values()
    if needed(values, "Protocol").lower() not in TCP:
        return _ignored(record, "_not_tcp")
    direction = needed(values, "Direction").lower()
    if direction in INBOUND:
        return _ignored(record, "_inbound")
    if direction not in OUTBOUND:
        raise ValueError(f"Direction is {direction[:40]!r}, neither %%14592 nor %%14593")
    return _opened(
        record, values, ("SourceAddress", "SourcePort", "DestAddress", "DestPort"), 0, "Application", record.at
    )


def _opened(
    record: Record, values: Values, ends: tuple[str, str, str, str], established: Micros, program: str, at: Micros
) -> ConnectionOpened:
    local_ip, local_port, remote_ip, remote_port = (needed(values, end) for end in ends)
    flow = flow_of(local_ip, _port(local_port), remote_ip, _port(remote_port))
    return ConnectionOpened(
        record.device,
        at,
        flow,
        at,
        established,
        0,
        record.event_id == 5157,
        _process(_pid(record, values), text(values, program), text(values, "User")),
        f"{record.source}/{record.event_id}/{flow.local_port}/{iso_micros(at)}",
    )


def _verdict(record: Record) -> Parsed:
    values = _named_values(record)
    url = needed(values, "destination")
    host, port = _asked(url)
    detected = text(values, "detectiontime")
    at = micros(detected) if detected.endswith("Z") else record.at
    return ProcessVerdict(
        record.device,
        at,
        Action.BLOCKED if record.event_id == 1126 else Action.AUDITED,
        _process(None, text(values, "processname"), text(values, "user")),
        host,
        port,
        url[:TEXT_CHARS_MAX],
        "",
        "",
        f"defender/{record.event_id}/{host}/{iso_micros(at)}",
    )


def _setting(record: Record) -> Parsed:
    """A value that is gone is as if it had never been set: off."""
    values = _named_values(record)
    before, after = (_mode(text(values, name)) for name in ("oldvalue", "newvalue"))
    if before is None and after is None:
        return _ignored(record)
    at = record.at
    event_id = f"defender/5007/{iso_micros(at)}"
    return ModeChanged(record.device, at, after or ProtectionMode.OFF, event_id, before, ModeEvidence.DEFENDER_SETTING)


def _mode(setting: str) -> ProtectionMode | None:
    r"""The mode in `HKLM\...\EnableNetworkProtection = 0x1`; None of any other setting."""
    name, _, value = setting.rpartition("=")
    if name.rpartition("\\")[2].strip().lower() != PROTECTION_SETTING:
        return None
    mode = MODES.get(int(value.strip()[:10], 16))
    if mode is None:
        raise ValueError(f"{setting[-80:]!r} is no mode of network protection that we know")
    return mode


def _named_values(record: Record) -> Values:
    """Defender's names have spaces, which shippers write as they are, as underscores or not at all."""
    return {name.replace(" ", "").replace("_", "").lower(): value for name, value in record.values().items()}


def _asked(url: str) -> tuple[str, int]:
    """Host and port of a URL, a host name or an address; port 0 where none is written."""
    authority = re.split(r"[/?#]", url.partition("://")[2] or url, maxsplit=1)[0]
    host, port = split_authority(authority, 0)
    if not host:
        host = canonical_host(authority.rpartition("@")[2][:TEXT_CHARS_MAX])
    if not host:
        raise ValueError(f"Destination {url[:80]!r} names no host")
    return host, port


def _port(written: str) -> int:
    port = number(written, "port", PORT_MAX)
    if not port:
        raise ValueError("TCP with port 0")
    return port


def _pid(record: Record, values: Values) -> int | None:
    """The PID of who connects, not that of who wrote the event.

    NXLog wrote the latter as `ProcessID` until it had a name of its own for it, `ExecutionProcessID`; and the former not at all,
    except in the text.
    """
    pid = text(values, "ProcessId")
    nxlog_of_old = "SourceModuleType" in values and "ExecutionProcessID" not in values
    if not pid and record.source is Source.SECURITY and not nxlog_of_old:
        pid = text(values, "ProcessID")
    if not pid:
        found = _PID_IN_MESSAGE.search(text(values, "Message"))
        pid = found[1] if found is not None else ""
    return number(pid, "PID", PID_MAX) if pid else None


def _process(pid: int | None, path: str, user: str) -> Process:
    r"""A process from its path as given (`C:\...` or `\device\harddiskvolume2\...`) and its user, `DOMAIN\name`."""
    name = path.replace("\\", "/").rpartition("/")[2]
    domain, _, account = user.rpartition("\\")
    return Process(
        pid,
        name[:TEXT_CHARS_MAX],
        path[:TEXT_CHARS_MAX] if name != path else "",
        account=account[:TEXT_CHARS_MAX],
        domain=domain[:TEXT_CHARS_MAX],
    )


def written_at(raw: bytes) -> Micros:
    """When the event happened; shippers deliver events of one machine in that order."""
    try:
        return read(raw).at
    except (*_UNREADABLE, ValueError, OverflowError):
        return 0


def device_of(raw: bytes) -> str:
    """The computer that the event is of, not the collector."""
    try:
        return read(raw).device
    except (*_UNREADABLE, ValueError, OverflowError):
        return ""


DIALECT = Dialect(
    "winlog",
    parse,
    written_at,
    device_of,
    title="Windows events (Winlogbeat, Elastic Agent, NXLog, Datadog, Azure tables, evtx_dump, Event XML)",
    gives="Sysmon 3 and WFP 5156 / 5157: the connection with process and PID, of Sysmon with user; Defender 1125 / 1126: "
    "verdicts without port or PID; 5007: the protection mode.",
)
