"""Windows events as Winlogbeat, Elastic Agent, Wazuh, NXLog, Fluent Bit, Vector, Azure Monitor, syslog and others ship them.

Sysmon 3 and the Windows Filtering Platform's 5156 and 5157 give connections, Sysmon 1 and 5 processes, Defender's 1125 and 1126
verdicts, its 5007 the change of the protection mode. The shapes are recognised by content (`shippers.py`). Inbound
connections are those of another machine, and UDP has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from schemas.address import split_url
from schemas.clock import iso_micros, parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import (
    Action,
    ConnectionOpened,
    Ignored,
    ModeChanged,
    ModeEvidence,
    Parsed,
    Process,
    ProcessStarted,
    ProcessVerdict,
    ProtectionMode,
    Reason,
    Reject,
    flow_of,
)
from schemas.parsers.common.memoize import read_once
from schemas.parsers.common.rejects import FAULTS, otherwise, reject_of
from schemas.parsers.common.values import PID_MAX, PORT_MAX, file_name, maybe_number, needed, number, short, text
from schemas.parsers.windows.common_schema import ecs_process, ecs_values
from schemas.parsers.windows.record import FilteredConnection, Record, Shown, Source, SysmonConnection, SysmonProcess
from schemas.parsers.windows.shippers import claims, read, split

SECURITY = Sensor("security", SensorKind.ENDPOINT, (ConnectionOpened,), clock_rank=50)
SYSMON = Sensor("sysmon", SensorKind.ENDPOINT, (ConnectionOpened, ProcessStarted), clock_rank=60)
DEFENDER = Sensor("defender", SensorKind.ENDPOINT, (ProcessVerdict, ModeChanged))

KNOWN: dict[Source, frozenset[int]] = {
    "sysmon": frozenset({*range(1, 30), 255}),
    "security": frozenset({5031, *range(5150, 5160)}),
    "defender": frozenset({1006, 1116, 1117, 1121, 1122, 5007, 5013}),
}
"""Event numbers that are counted separately if they are not used; all others of a source are counted as `other`."""
INBOUND = frozenset({"%%14592", "inbound"})
OUTBOUND = frozenset({"%%14593", "outbound"})
TCP = frozenset({"tcp", "6"})
MODES = {0: ProtectionMode.OFF, 1: ProtectionMode.BLOCK, 2: ProtectionMode.AUDIT}
PROTECTION_SETTING = "enablenetworkprotection"
HASH_CHARS = {"sha1": 40, "sha256": 64, "md5": 32}
REMEMBERED_CHARS_MAX = 512
"""Longest path and user in characters for which the process, and the hashes of its file, are cached."""
GUID_CHARS_MAX = 64
NO_GUID = "00000000-0000-0000-0000-000000000000"

_PID_IN_MESSAGE = re.compile(r"Process ?I[dD]:\s{1,8}(\d{1,10})\b")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]+")


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        record = read(raw)
        return HANDLERS.get((record.source, record.event_id), _ignored)(record)
    except msgspec.ValidationError as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)
    except FAULTS as error:
        return reject_of(error, raw)


def _ignored(record: Record, why: str = "") -> Ignored:
    source = record.source
    if source == "other":
        return Ignored(record.device, record.at, "other")
    kind = str(record.event_id) if record.event_id in KNOWN[source] else "other"
    return Ignored(record.device, record.at, f"{source}_{kind}{why}")


def _sysmon_connection(record: Record) -> Parsed:
    """Read an established connection."""
    values = record.values(SysmonConnection)
    if values.SourceIp is None and record.ecs:
        values = ecs_values(record.ecs)
    if values.Protocol not in TCP and needed(values.Protocol, "Protocol").lower() not in TCP:
        return _ignored(record, "_not_tcp")
    if values.Initiated != "true":  # the most common case
        initiated = needed(values.Initiated, "Initiated").lower()
        if initiated == "false":
            return _ignored(record, "_inbound")
        if initiated != "true":
            raise ValueError(f"Initiated is {initiated[:40]!r}, neither true nor false")
    flow = flow_of(
        needed(values.SourceIp, "SourceIp"),
        _port(values.SourcePort, "SourcePort"),
        needed(values.DestinationIp, "DestinationIp"),
        _port(values.DestinationPort, "DestinationPort"),
    )
    pid = text(values.ProcessId) or _pid_in_message(record)
    process = _process(pid, text(values.Image), text(values.User), text(values.ProcessGuid))
    time = text(values.UtcTime) or record.logged
    at = parse_micros(time)
    event_id = f"sysmon/3/{flow.local_port}/{time}"
    return ConnectionOpened(record.device, at, flow, at, at, 0, False, process, event_id, SYSMON.name)


def _sysmon_process(record: Record) -> Parsed:
    """Parse Sysmon's record of a process: its start, with all details, or its end."""
    values = record.values(SysmonProcess)
    if values.Image is None and record.ecs:
        values = ecs_process(record.ecs)
    pid = text(values.ProcessId) or _pid_in_message(record)
    if not pid:
        return _ignored(record, "_without_pid")
    time = text(values.UtcTime) or record.logged
    at = parse_micros(time)
    ends = record.event_id == 5
    guid = text(values.ProcessGuid)
    image = text(values.Image)
    if (ends or not image) and not _plain_guid(guid):
        return _ignored(record, "_without_guid")
    process = _process(pid, image, text(values.User), guid)
    if not ends:
        hashes = text(values.Hashes)
        process = Process(
            process.pid,
            process.name,
            process.path,
            short(text(values.CommandLine)),
            at,
            process.account,
            process.domain,
            "",
            maybe_number(values.ParentProcessId, "ParentProcessId", PID_MAX),
            short(file_name(text(values.ParentImage))),
            *(_remembered_hashes(hashes) if len(hashes) <= REMEMBERED_CHARS_MAX else _hashes(hashes)),
            process.guid,
        )
    event_id = f"sysmon/{record.event_id}/{pid}/{time}"
    return ProcessStarted(record.device, at, process, at if ends else 0, event_id, SYSMON.name)


def _plain_guid(written: str) -> str:
    """Return Sysmon's process GUID in one spelling for all shippers; "" if it is missing."""
    return _remembered_guid(written) if len(written) <= GUID_CHARS_MAX else ""


@lru_cache(maxsize=8_192)
def _remembered_guid(written: str) -> str:
    guid = written.strip("{}").lower()
    return guid if guid != NO_GUID and _GUID.fullmatch(guid) else ""


def _hashes(written: str) -> tuple[str, str, str]:
    """Return SHA-1, SHA-256 and MD5 from `SHA1=…,MD5=…,SHA256=…,IMPHASH=…`; "" for each that Sysmon does not compute."""
    found = {}
    for one in written.lower().split(",")[:8]:
        name, _, value = one.strip().partition("=")
        if len(value) == HASH_CHARS.get(name) and _HEX.fullmatch(value):
            found[name] = value
    return found.get("sha1", ""), found.get("sha256", ""), found.get("md5", "")


_remembered_hashes = lru_cache(maxsize=8_192)(_hashes)


def _filtered_connection(record: Record) -> Parsed:
    """Parse an attempt that the Windows Filtering Platform permitted or blocked; its outcome is unknown."""
    values = record.values(FilteredConnection)
    if values.Protocol not in TCP and needed(values.Protocol, "Protocol").lower() not in TCP:
        return _ignored(record, "_not_tcp")
    if values.Direction not in OUTBOUND:  # the most common case
        direction = needed(values.Direction, "Direction").lower()
        if direction in INBOUND:
            return _ignored(record, "_inbound")
        if direction not in OUTBOUND:
            raise ValueError(f"Direction is {direction[:40]!r}, neither %%14592 nor %%14593")
    flow = flow_of(
        needed(values.SourceAddress, "SourceAddress"),
        _port(values.SourcePort, "SourcePort"),
        needed(values.DestAddress, "DestAddress"),
        _port(values.DestPort, "DestPort"),
    )
    # Older NXLog wrote the event log's PID as `ProcessID`, newer NXLog as `ExecutionProcessID`.
    nxlog_of_old = values.SourceModuleType not in (None, msgspec.UNSET) and values.ExecutionProcessID is None
    pid = text(values.ProcessId) or ("" if nxlog_of_old else text(values.ProcessID)) or _pid_in_message(record)
    process = _process(pid, text(values.Application), "")
    at = parse_micros(record.logged)
    event_id = f"security/{record.event_id}/{flow.local_port}/{record.logged}"
    return ConnectionOpened(
        record.device, at, flow, at, 0, 0, record.event_id == 5157, process, event_id, SECURITY.name
    )


def _verdict(record: Record) -> Parsed:
    values = _named_values(record)
    url = needed(values.get("destination"), "Destination")
    host, port = split_url(url)
    if not host:
        raise ValueError(f"Destination {url[:80]!r} names no host")
    detected = text(values.get("detectiontime"))
    at = parse_micros(detected) if detected.endswith("Z") else record.at
    return ProcessVerdict(
        record.device,
        at,
        Action.BLOCKED if record.event_id == 1126 else Action.AUDITED,
        _process("", text(values.get("processname")), text(values.get("user"))),
        host,
        port,
        short(url),
        "",
        "",
        f"defender/{record.event_id}/{host}/{iso_micros(at)}",
        DEFENDER.name,
    )


def _setting(record: Record) -> Parsed:
    """Parse a change of a setting; a removed value means that the mode is off."""
    values = _named_values(record)
    before, after = (_mode(text(values.get(name))) for name in ("oldvalue", "newvalue"))
    if before is None and after is None:
        return _ignored(record)
    at = record.at
    event_id = f"defender/5007/{iso_micros(at)}"
    return ModeChanged(
        record.device, at, after or ProtectionMode.OFF, event_id, DEFENDER.name, before, ModeEvidence.DEFENDER_SETTING
    )


def _mode(setting: str) -> ProtectionMode | None:
    r"""Return the mode in `HKLM\...\EnableNetworkProtection = 0x1`; None for any other setting."""
    name, _, value = setting.rpartition("=")
    if name.rpartition("\\")[2].strip().lower() != PROTECTION_SETTING:
        return None
    mode = MODES.get(int(value.strip()[:10], 16))
    if mode is None:
        raise ValueError(f"{setting[-80:]!r} is no mode of network protection that we know")
    return mode


def _named_values(record: Record) -> dict[str, Any]:
    """Return Defender's values by name. The names have spaces, which shippers keep, remove or replace by underscores."""
    return {name.replace(" ", "").replace("_", "").lower(): value for name, value in record.all_values().items()}


def _port(written: object, name: str) -> int:
    if written.__class__ is str and len(written) <= 5 and written.isdigit():  # the most common case
        port = int(written)
        if 0 < port <= PORT_MAX:
            return port
    if written.__class__ is int and 0 < written <= PORT_MAX:  # where a shipper writes numbers
        return written
    port = number(needed(written, name), name, PORT_MAX)
    if not port:
        raise ValueError(f"TCP with {name} 0")
    return port


def _pid_in_message(record: Record) -> str:
    """Return the PID from the text of an event without values; "" if there is none."""
    if record.beside is None and b"Message" not in record.data:
        return ""
    found = _PID_IN_MESSAGE.search(text(record.values(Shown).Message))
    return found[1] if found is not None else ""


def _process(pid: str, path: str, user: str, guid: str = "") -> Process:
    r"""Return a process by its path as given (`C:\...`, `\device\harddiskvolume2\...`, `/...`) and its user, `DOMAIN\name`."""
    is_short = len(path) + len(user) + len(guid) <= REMEMBERED_CHARS_MAX
    return _remembered_process(pid, path, user, guid) if is_short else _process_of(pid, path, user, guid)


def _process_of(pid: str, path: str, user: str, guid: str) -> Process:
    name = file_name(path)
    domain, _, account = user.rpartition("\\")
    return Process(
        maybe_number(pid, "PID", PID_MAX),
        short(name),
        short(path) if name != path else "",
        account=short(account),
        domain=short(domain),
        guid=_plain_guid(guid),
    )


_remembered_process = lru_cache(maxsize=8_192)(_process_of)


HANDLERS: dict[tuple[Source, int], Callable[[Record], Parsed]] = {
    ("sysmon", 1): _sysmon_process,
    ("sysmon", 3): _sysmon_connection,
    ("sysmon", 5): _sysmon_process,
    ("security", 5156): _filtered_connection,
    ("security", 5157): _filtered_connection,
    ("defender", 1125): _verdict,
    ("defender", 1126): _verdict,
    ("defender", 5007): _setting,
}
"""Handlers of the used events."""


_read_once = read_once(read)
written_at = otherwise(0)(lambda raw: _read_once(raw).at)
device_of = otherwise("")(lambda raw: _read_once(raw).device)

DIALECT = Dialect(
    "winlog",
    parse,
    written_at,
    device_of,
    title="Windows events (Winlogbeat, Elastic Agent, Wazuh, NXLog, Fluent Bit, Vector, Splunk, Azure tables, Event XML)",
    gives="Sysmon 3 and WFP 5156 / 5157: the connection with process and PID, of Sysmon with user; Sysmon 1 / 5: the process, "
    "with command line, hashes, parent and user; Defender 1125 / 1126: verdicts without port or PID; 5007: the protection mode.",
    claims=claims,
    sensors=(SYSMON, SECURITY, DEFENDER),
    split=split,
    own_marks=(b"SourceIp", b"SourceAddress", b"Source Address", b"sourceIp", b"sourceAddress", b'"source"'),
)
