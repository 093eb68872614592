"""Events of Linux's audit log in LAUREL's format.

One line of JSON each (github.com/threathunters-io/laurel, `json-format.md`).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from schemas.parsers.common.rejects import UNREADABLE
from schemas.parsers.linux.audit import Head

BEGIN = b'{"ID":'
INET = frozenset({"inet", "inet6"})
_ID = re.compile(r"([0-9]{1,12})\.([0-9]{3}):([0-9]{1,20})")
_OF_NETWORK = re.compile(r"%(?:02|0[aA])%00(?!%00%00)")
"""A socket address of the family AF_INET or AF_INET6 (little-endian) with a port; LAUREL percent-encodes unprintable bytes."""


class Call(msgspec.Struct, gc=False):
    """The record SYSCALL; auditd's enrichment adds the names in upper case."""

    arch: str = ""
    syscall: int | str = ""
    a0: int | str = ""
    name: str = msgspec.field(default="", name="SYSCALL")


class Event(msgspec.Struct, gc=False):
    """The fields of an event that are used."""

    id: str = msgspec.field(name="ID")
    node: str | None = msgspec.field(default=None, name="NODE")
    call: Call | None = msgspec.field(default=None, name="SYSCALL")
    sockaddr: Any = msgspec.field(default=None, name="SOCKADDR")

    @property
    def head(self) -> Head | None:
        """Return the audit header from the event's ID; None if the ID is invalid."""
        found = _ID.fullmatch(self.id)
        if found is None:
            return None
        seconds, millis, serial = found.groups()
        return Head((self.node or "").encode(), b"", int(seconds) * 1000 + int(millis), serial.encode())

    @property
    def is_inet(self) -> bool:
        """Return whether the socket address is IPv4 or IPv6 with a port."""
        records = self.sockaddr if isinstance(self.sockaddr, list) else [self.sockaddr]
        return any(isinstance(record, dict) and _is_inet(record) for record in records)


def _is_inet(record: dict[str, Any]) -> bool:
    enriched, written = record.get("SADDR"), record.get("saddr")
    if isinstance(enriched, dict) and isinstance(family := enriched.get("saddr_fam"), str):
        return family in INET
    return isinstance(written, str) and _OF_NETWORK.match(written) is not None


_EVENT = msgspec.json.Decoder(Event)


def read(raw: bytes) -> Event | None:
    """Parse a line; None if it is not an event of LAUREL."""
    if not raw.startswith(BEGIN):
        return None
    try:
        event = _EVENT.decode(raw)
    except UNREADABLE:
        return None
    return event if event.head is not None else None
