"""An event of Linux's audit as LAUREL writes it: one line of JSON (github.com/threathunters-io/laurel, `json-format.md`)."""

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
"""AF_INET or AF_INET6, little-endian, and a port; bytes that are not printable are percent-encoded."""


class Call(msgspec.Struct, gc=False):
    """The record SYSCALL; names in upper case are what auditd's enrichment adds."""

    arch: str = ""
    syscall: int | str = ""
    a0: int | str = ""
    name: str = msgspec.field(default="", name="SYSCALL")


class Event(msgspec.Struct, gc=False):
    """What we use of one."""

    id: str = msgspec.field(name="ID")
    node: str | None = msgspec.field(default=None, name="NODE")
    call: Call | None = msgspec.field(default=None, name="SYSCALL")
    sockaddr: Any = msgspec.field(default=None, name="SOCKADDR")

    @property
    def head(self) -> Head | None:
        """As it stands before each record; None of an ID that is none."""
        found = _ID.fullmatch(self.id)
        if found is None:
            return None
        seconds, millis, serial = found.groups()
        return Head((self.node or "").encode(), b"", int(seconds) * 1000 + int(millis), serial.encode())

    @property
    def is_inet(self) -> bool:
        """Its address is one of the network with a port."""
        records = self.sockaddr if isinstance(self.sockaddr, list) else [self.sockaddr]
        return any(isinstance(record, dict) and _is_inet(record) for record in records)


def _is_inet(record: dict[str, Any]) -> bool:
    enriched, written = record.get("SADDR"), record.get("saddr")
    if isinstance(enriched, dict) and isinstance(family := enriched.get("saddr_fam"), str):
        return family in INET
    return isinstance(written, str) and _OF_NETWORK.match(written) is not None


_EVENT = msgspec.json.Decoder(Event)


def read(raw: bytes) -> Event | None:
    """The event of a line; None of any other line."""
    if not raw.startswith(BEGIN):
        return None
    try:
        event = _EVENT.decode(raw)
    except UNREADABLE:
        return None
    return event if event.head is not None else None
