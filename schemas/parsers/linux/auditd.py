"""Linux's audit log (auditd, audisp-syslog, LAUREL): calls of connect(), after their records were joined (`audit.py`).

A record of connect() contains the process and the remote address, but not the local port. It can therefore not be assigned to a
connection, and together with a network sensor every connection would appear twice. So these calls are only counted, as
`connect_without_port`.
"""

from __future__ import annotations

import re

from schemas.clock import LATEST
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import Ignored, Micros, Parsed, Reason, Reject
from schemas.parsers.linux import laurel
from schemas.parsers.linux.audit import JOINED, AuditEvents, Head, at, device, head, is_report

SENSOR = Sensor("auditd", SensorKind.ENDPOINT, ())

# fmt: off
CONNECT = {
    # For each architecture (linux/audit.h) the number of connect() and, if it exists, of socketcall().
    b"c000003e": (b"42", b""),        # x86-64
    b"40000003": (b"362", b"102"),    # i386
    b"c00000b7": (b"203", b""),       # AArch64
    b"40000028": (b"283", b"102"),    # ARM
    b"c0000015": (b"328", b"102"),    # ppc64le
    b"80000015": (b"328", b"102"),    # ppc64
    b"80000016": (b"362", b"102"),    # s390x
    b"c00000f3": (b"203", b""),       # RISC-V
    b"c0000102": (b"203", b""),       # LoongArch
}
# fmt: on
RECORDS_MAX = 4_096
"""Maximum number of records of an event that are read; a joined event has fewer (`schemas.parsers.linux.audit`)."""
SOCKETCALL_CONNECT = b"3"  # SYS_CONNECT, linux/net.h
AF_INET, AF_INET6 = 2, 10

_CALL = re.compile(
    rb" arch=([0-9a-fA-F]{1,8})(?: per=[0-9a-fA-F]{1,16})? syscall=([0-9]{1,10})"
    rb"(?: (?:success|exit)=[^ ]*){0,2} a0=([0-9a-fA-F]{1,16})"
)
_SADDR = re.compile(rb" saddr=([0-9a-fA-F]*)")


def parse(raw: bytes) -> Parsed:
    """Parse one event, or one record of it."""
    known = _known(raw)
    if known is None:
        return Reject(Reason.MALFORMED, "no type and msg=audit(time:serial)", raw)
    when = at(known)
    if when > LATEST:
        return Reject(Reason.BAD_VALUE, "time is outside 1970 to 2200", raw)
    if (event := laurel.read(raw)) is not None:
        return Ignored(device(known), when, _laurel(event))
    records = {one.kind: record for record in raw.split(JOINED, RECORDS_MAX) if (one := head(record)) is not None}
    if b"SYSCALL" not in records:
        return Ignored(device(known), when, "part" if b"SOCKADDR" in records else "other")
    called = _CALL.search(records[b"SYSCALL"])
    if called is None:
        return Reject(Reason.INCOMPLETE, "SYSCALL without arch, syscall and a0", raw)
    architecture, number, first = called.groups()
    connect, socketcall = CONNECT.get(architecture.lower(), (b"", b""))
    if number != connect and (number != socketcall or first != SOCKETCALL_CONNECT):
        return Ignored(device(known), when, "syscall")
    if b"SOCKADDR" not in records:
        return Ignored(device(known), when, "connect_without_address")
    try:
        kind = "connect_without_port" if _is_inet(records[b"SOCKADDR"]) else "connect_local"
    except ValueError as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)
    return Ignored(device(known), when, kind)


def _laurel(event: laurel.Event) -> str:
    """Return the kind under which an ignored event of LAUREL is counted, such as `connect_without_port`."""
    call = event.call
    if call is None:
        return "other" if event.sockaddr is None else "part"
    connect, socketcall = CONNECT.get(call.arch.removeprefix("0x").lower().encode(), (b"", b""))
    number, first = str(call.syscall).encode(), str(call.a0).removeprefix("0x").encode()
    called = number == connect or (number == socketcall and first == SOCKETCALL_CONNECT)
    if not (called or call.name == "connect"):
        return "syscall"
    if event.sockaddr is None:
        return "connect_without_address"
    return "connect_without_port" if event.is_inet else "connect_local"


def _known(raw: bytes) -> Head | None:
    event = laurel.read(raw)
    return event.head if event is not None else head(raw)


def _is_inet(sockaddr: bytes) -> bool:
    """Return whether a socket address is IPv4 or IPv6 with a port, and not UNIX or netlink. Raises ValueError."""
    found = _SADDR.search(sockaddr)
    address = bytes.fromhex(found[1].decode()) if found is not None else b""
    if len(address) < 2:
        raise ValueError("SOCKADDR without saddr")
    if int.from_bytes(address[:2], "little") not in (AF_INET, AF_INET6):
        return False
    if len(address) < 8:
        raise ValueError(f"saddr of {len(address)} bytes")
    return address[2:4] != b"\0\0"


def written_at(raw: bytes) -> Micros:
    """Return the time of the event."""
    known = _known(raw)
    return at(known) if known is not None and at(known) <= LATEST else 0


def device_of(raw: bytes) -> str:
    """Return the device's name; "" if neither auditd nor syslog names it."""
    known = _known(raw)
    return device(known) if known is not None else ""


def claims(raw: bytes) -> bool:
    """Return whether a line has an audit header. Events of Auditbeat, which may contain records, are in the dialect `ecs`."""
    return (_known(raw) is not None and b'"auditbeat"' not in raw) or is_report(raw)


DIALECT = Dialect(
    "auditd",
    parse,
    written_at,
    device_of,
    title="Linux audit log (auditd, audisp-syslog, LAUREL), with the records of an event joined when they are published",
    gives="Nothing yet but that the device was seen: a record of connect() lacks the local port.",
    claims=claims,
    sensors=(SENSOR,),
    framing=lambda _: AuditEvents(),
)
