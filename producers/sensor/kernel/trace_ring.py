"""Reads pages of the kernel's trace buffer: pure, bytes in, changes of sockets out.

The binary pages (`trace_pipe_raw`) are read, not the text, as only they have the socket's address: the one thing that ties a
change in an interrupt to the process that began the connection. Layouts come from the kernel's own `format` files, as they
differ between versions. Sources, in Linux: Documentation/trace/ring-buffer-design.rst, include/linux/ring_buffer.h.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

SYN_SENT, ESTABLISHED, SYN_RECV, CLOSE = 2, 1, 3, 7
FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING = 5, 8, 9, 11
"""States of TCP as the kernel numbers them (include/net/tcp_states.h)."""
AF_INET, AF_INET6 = 2, 10

_COMMITTED = 0x000F_FFFF
"""The commit field's upper bits say that records before this page were overwritten; the statistics count them."""
_LENGTH_BITS, _LENGTH_MASK = 5, 31
_DELTA_BITS = 27
_LENGTH_BEHIND, _PADDING, _TIME_EXTEND, _TIME_STAMP = 0, 29, 30, 31
_WORD = 4
_V4_BYTES, _V6_BYTES = 4, 16
_FIELD = re.compile(r"field:(?P<what>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);")
_ENDIAN = "<" if sys.byteorder == "little" else ">"
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_HEAD = struct.Struct(f"{_ENDIAN}H2xI")
"""What all records begin with: the event's number and the thread that was running."""
_PLACE_BITS, _PLACE = 16, 0xFFFF
_NONE = -1
_CLONE_THREAD = 0x0001_0000
_NEEDED = ("common_pid", "skaddr", "oldstate", "newstate", "sport", "dport", "family")
_ADDRESSES = ("saddr", "daddr", "saddr_v6", "daddr_v6")


class FormatError(Exception):
    """The kernel lays its records out in a way that we do not know."""


class Change(NamedTuple):
    """A TCP socket went from one state to another."""

    at_ns: int
    """By the trace's clock."""
    pid: int
    """The thread that was running; whose the socket is only where it begins to connect."""
    sk: int
    """The kernel's address of the socket."""
    old: int
    new: int
    local_port: int
    """0 at the attempt, as the port is chosen after it."""
    remote_port: int
    family: int
    local: bytes
    remote: bytes


class Task(NamedTuple):
    """A process or a thread of one began."""

    at_ns: int
    pid: int
    """The thread that made it."""
    new: int
    is_thread: bool
    name: bytes = b""
    """As it inherits it from that thread."""


class Program(NamedTuple):
    """A process began to run another program (exec)."""

    at_ns: int
    pid: int
    path: bytes = b""
    """The path that was given to exec: a link's own, and a script's rather than its interpreter's."""


class Leaving(NamedTuple):
    """A process is about to run another program: from now on /proc may show parts of it (Linux 6.10 and later)."""

    at_ns: int
    pid: int
    """The thread that called exec."""
    name: bytes = b""
    """As it is called until then."""


Record = Change | Task | Program | Leaving


def spelled(address: bytes) -> str:
    """An address in words; IPv4 spoken through a socket of IPv6 as what it is."""
    if len(address) == _V4_BYTES:
        return str(IPv4Address(address))
    whole = IPv6Address(address)
    return str(whole.ipv4_mapped or whole)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a page and in a record."""

    event_id: int
    commit: struct.Struct
    data: int
    record: struct.Struct
    places: dict[str, int]
    v4: tuple[int, int]
    v6: tuple[int, int]
    task_id: int
    """No record's number where the kernel does not tell of tasks, or programs."""
    task: tuple[struct.Struct, ...]
    task_name: tuple[int, int]
    """Place and size."""
    program_id: int
    program_path: struct.Struct | None
    """Where the kernel says where the text stands (`__data_loc`)."""
    leaving_id: int
    leaving_name: struct.Struct | None

    @classmethod
    def of(cls, event: str, page: str, task: str = "", program: str = "", leaving: str = "") -> Layout:
        """From `events/sock/inet_sock_set_state/format` and `events/header_page`, and where they are there the formats of
        `task/task_newtask`, `sched/sched_process_exec` and `sched/sched_prepare_exec`. Raises FormatError."""
        fields, header = _fields(event), _fields(page)
        missing = [name for name in (*_NEEDED, *_ADDRESSES) if name not in fields]
        missing += [name for name in ("commit", "data") if name not in header]
        texts = ((task, "comm"), (program, "filename"), (leaving, "comm"))
        missing += [name for text, name in texts if text and name not in _fields(text)]
        number, places = _number(event), _fields(task)
        if missing or number == _NONE or header.get("timestamp") != (0, 8):
            raise FormatError(f"the kernel's record of the tracepoint has no {', '.join(missing) or 'ID or time'}")
        wanted = sorted((fields[name], name) for name in _NEEDED)
        spelling, at = [_ENDIAN], 0
        for (offset, size), _ in wanted:
            spelling.append(f"{offset - at}x{_UNSIGNED[size]}")
            at = offset + size
        return cls(
            number,
            struct.Struct(f"{_ENDIAN}Q{_UNSIGNED[header['commit'][1]]}"),
            header["data"][0],
            struct.Struct("".join(spelling)),
            {name: place for place, (_, name) in enumerate(wanted)},
            (fields["saddr"][0], fields["daddr"][0]),
            (fields["saddr_v6"][0], fields["daddr_v6"][0]),
            _number(task),
            tuple(
                struct.Struct(f"{_ENDIAN}{places[name][0]}x{_UNSIGNED[places[name][1]]}")
                for name in ("common_pid", "pid", "clone_flags")
                if task
            ),
            places.get("comm", (0, 0)),
            _number(program),
            _place_of(program, "filename"),
            _number(leaving),
            _place_of(leaving, "comm"),
        )

    def records(self, page: bytes) -> Iterator[Record]:
        """The records of one page, in order. What is cut short ends it."""
        if len(page) < self.data:
            return
        at_ns, commit = self.commit.unpack_from(page)
        at, end = self.data, min(self.data + (commit & _COMMITTED), len(page))
        word = struct.Struct(f"{_ENDIAN}I").unpack_from
        while at + _WORD <= end:
            (head,) = word(page, at)
            kind, delta = _parts(head)
            at += _WORD
            if kind in (_TIME_EXTEND, _TIME_STAMP, _PADDING, _LENGTH_BEHIND):
                if at + _WORD > end or (kind == _PADDING and not delta):
                    return
                (more,) = word(page, at)
            if kind == _TIME_EXTEND:
                at_ns += (more << _DELTA_BITS) + delta
                at += _WORD
                continue
            if kind == _TIME_STAMP:
                # 59 bits of the whole time; the upper ones are as they were.
                at_ns = (at_ns >> 59 << 59) + (more << _DELTA_BITS) + delta
                at += _WORD
                continue
            at_ns += delta
            if kind == _PADDING:
                at += more
                continue
            if kind == _LENGTH_BEHIND:
                body, at = at + _WORD, at + more
            else:
                body, at = at, at + kind * _WORD
            if at > end or at < body:
                return
            read = self._record(at_ns, page[body:at])
            if read is not None:
                yield read

    def _record(self, at_ns: int, record: bytes) -> Record | None:
        if len(record) < _HEAD.size:
            return None
        kind, pid = _HEAD.unpack_from(record)
        if kind == self.event_id:
            return self._change(at_ns, record)
        if kind == self.program_id:
            return Program(at_ns, pid, _text_of(record, self.program_path))
        if kind == self.leaving_id:
            return Leaving(at_ns, pid, _text_of(record, self.leaving_name))
        if kind == self.task_id and len(record) >= self.task[-1].size:
            maker, new, flags = (one.unpack_from(record)[0] for one in self.task)
            place, size = self.task_name
            return Task(
                at_ns, maker, new, bool(flags & _CLONE_THREAD), record[place : place + size].partition(b"\0")[0]
            )
        return None

    def _change(self, at_ns: int, record: bytes) -> Change | None:
        if len(record) < max(self.v6[1] + _V6_BYTES, self.record.size):
            return None
        values, place = self.record.unpack_from(record), self.places
        family = values[place["family"]]
        if family == AF_INET:
            (local, remote), width = self.v4, _V4_BYTES
        elif family == AF_INET6:
            (local, remote), width = self.v6, _V6_BYTES
        else:
            return None
        return Change(
            at_ns,
            values[place["common_pid"]],
            values[place["skaddr"]],
            values[place["oldstate"]],
            values[place["newstate"]],
            values[place["sport"]],
            values[place["dport"]],
            family,
            record[local : local + width],
            record[remote : remote + width],
        )


def _place_of(text: str, name: str) -> struct.Struct | None:
    """Where the kernel says where a text stands, by the format of its records; None without one."""
    return struct.Struct(f"{_ENDIAN}{_fields(text)[name][0]}xI") if text else None


def _text_of(record: bytes, place: struct.Struct | None) -> bytes:
    """A text whose place and length stand in one number (include/trace/trace_events.h, `__data_loc`)."""
    if place is None or len(record) < place.size:
        return b""
    (where,) = place.unpack_from(record)
    begin, length = where & _PLACE, where >> _PLACE_BITS
    return record[begin : begin + length].partition(b"\0")[0]


def _parts(head: int) -> tuple[int, int]:
    """Kind or length, and time since the record before: bit fields, which lie the other way round on big-endian machines."""
    if _ENDIAN == "<":
        return head & _LENGTH_MASK, head >> _LENGTH_BITS
    return head >> _DELTA_BITS, head & (1 << _DELTA_BITS) - 1


def _number(event: str) -> int:
    """By which an event's records are told from others."""
    found = re.search(r"^ID: (\d+)$", event, re.MULTILINE)
    return int(found[1]) if found else _NONE


def _fields(text: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each field, by its name."""
    return {
        re.sub(r"\[.*", "", found["what"].split()[-1]): (int(found["offset"]), int(found["size"]))
        for found in _FIELD.finditer(text)
    }
