"""Records of Linux's audit log, and joining of the records of one event (auditd; github.com/linux-audit/audit-documentation).

An event consists of several records, one line each, with the same time and serial number: SYSCALL, SOCKADDR, PROCTITLE, in any
order and interleaved with other events. An EOE record ends the event. Without EOE it ends by time, as in auditd's own tools.

Joined, an event is one line. A device's clock follows a jump only when a second line agrees (`streams.correlate.device_clock`);
the records of one event, as separate lines, would agree with each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.dialect import Framing
from schemas.events import DEVICE_CHARS_MAX, Micros
from schemas.parsers.common.carriers import carried_again

JOINED = b"\x1e"
"""Separator of the records of a joined event: ASCII's record separator, which no record contains."""
LATER_MS = 2_000
"""Milliseconds after which an event is complete: another event has a time later by this much."""
EVENTS_MAX = 1_024
"""Maximum number of events that are held back; beyond it the oldest is released incomplete."""
EVENT_BYTES_MAX = 256 * 1024
"""Maximum size of an event; a larger one is released incomplete, and its further records are separate."""
HEAD_BYTES_MAX = 1_024
"""Number of bytes within which the header of a record ends, including a syslog header."""

_RECORD = re.compile(
    rb"(?:node=([^ ]+) )?type=([A-Z][A-Z0-9_]*|UNKNOWN\[[0-9]{1,5}\]|[0-9]{4}) (?:msg=)?"
    rb"audit\(([0-9]{1,12})\.([0-9]{3}):([0-9]{1,20})\)"
)
_NUMBERED = {b"1300": b"SYSCALL", b"1306": b"SOCKADDR", b"1320": b"EOE"}
"""Record types that the kernel log contains as numbers if no audit daemon runs (linux/audit.h)."""
_SYSLOG = re.compile(
    rb"(?:<[0-9]{1,3}>(?:1 )?)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) ([^ ]+) "
)
_ALONE = re.compile(
    rb"(?:ACCT|ADD|CHGRP|CHUSER|CRED|CRYPTO|DAEMON|DEL|FS|GRP|LABEL|ROLE|SERVICE|SOFTWARE|SYSTEM|TEST|TRUSTED|USER|USYS|VIRT)_"
)
"""Types of records from user space; each is a complete event."""


class Head(NamedTuple):
    """The header of a record."""

    node: bytes
    kind: bytes
    at_ms: int
    serial: bytes


def head(record: bytes) -> Head | None:
    """Parse the header of a record; None if it has none."""
    machine = b""
    if record.startswith(b"{"):
        shipped = carried_again(record.partition(JOINED)[0])
        record, machine = shipped.text.encode(), shipped.host.encode()
    found = _RECORD.search(record, 0, HEAD_BYTES_MAX)
    if found is None:
        return None
    node, kind, seconds, millis, serial = found.groups()
    kind, machine = _NUMBERED.get(kind, kind), node or _written_by(record[: found.start()]) or machine
    return Head(machine, kind, int(seconds) * 1000 + int(millis), serial)


def is_report(line: bytes) -> bool:
    """Return whether a line is a report of ausearch, which repeats what the records contain."""
    return line == b"----" or (line.startswith(b"time->") and len(line) < HEAD_BYTES_MAX)


def at(known: Head) -> Micros:
    """Return the event's time."""
    return known.at_ms * 1000


def device(known: Head) -> str:
    """Return the device's name: auditd's `node=` field (option `name_format`), else the host of the syslog header.

    "" if neither exists.
    """
    return known.node.decode("utf-8", "replace")[:DEVICE_CHARS_MAX]


def _written_by(before: bytes) -> bytes:
    syslog = _SYSLOG.match(before)
    return syslog[1] if syslog is not None else b""


@dataclass(slots=True)
class _Event:
    start: int
    at_ms: int
    records: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class AuditEvents(Framing):
    """The converter of one file.

    It returns each event as one line that consists of the event's unchanged records, without EOE.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[bytes, int, bytes], _Event] = {}

    @property
    def held(self) -> int | None:
        """Offset of the first record of the oldest event that is held back.

        Events are kept in the order of their first records.
        """
        for event in self._open.values():
            return event.start
        return None

    def take(self, line: bytes, start: int) -> list[bytes]:
        """Take a record; return the events that are now complete."""
        record = line.removesuffix(b"\r")
        known = head(record)
        if known is None:
            return [] if is_report(record) else [line]
        over = self._before(known.at_ms - LATER_MS)
        key = (known.node, known.at_ms, known.serial)
        if known.kind == b"EOE":
            return [*over, self._whole(key)] if key in self._open else over
        if key not in self._open and _ALONE.match(known.kind) is not None:
            return [*over, record]
        event = self._open.setdefault(key, _Event(start, known.at_ms))
        event.records.append(record)
        event.size_bytes += len(record)
        if event.size_bytes > EVENT_BYTES_MAX:
            over.append(self._whole(key))
        elif len(self._open) > EVENTS_MAX:
            over.append(self._whole(next(iter(self._open))))
        return over

    def release(self) -> list[bytes]:
        """Return all events that are held back."""
        return [self._whole(key) for key in list(self._open)]

    def _before(self, limit_ms: int) -> list[bytes]:
        """Return the oldest events that are earlier than a time."""
        over = []
        while self._open:
            key, event = next(iter(self._open.items()))
            if event.at_ms > limit_ms:
                break
            over.append(self._whole(key))
        return over

    def _whole(self, key: tuple[bytes, int, bytes]) -> bytes:
        return JOINED.join(self._open.pop(key).records)
