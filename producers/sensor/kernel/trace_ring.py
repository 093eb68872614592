"""A parser for pages of the kernel's trace buffer: pure; converts bytes to records of socket changes and processes.

The parser reads the binary pages (`trace_pipe_raw`), because the text form has no socket address. Only the address links a change
in an interrupt to the process that began the connection. Layouts come from the kernel's `format` files, as they differ between
versions. Sources, in Linux: Documentation/trace/ring-buffer-design.rst, include/linux/ring_buffer.h.
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
"""TCP states with the kernel's numbers (include/net/tcp_states.h)."""
AF_INET, AF_INET6 = 2, 10

_COMMITTED = 0x000F_FFFF
"""Mask of the commit field's length. The upper bits flag overwritten records before this page, which the statistics count."""
_LENGTH_BITS, _LENGTH_MASK = 5, 31
_DELTA_BITS = 27
_LENGTH_BEHIND, _PADDING, _TIME_EXTEND, _TIME_STAMP = 0, 29, 30, 31
_WORD = 4
_V4_BYTES, _V6_BYTES = 4, 16
_FIELD = re.compile(r"field:(?P<what>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);")
_ENDIAN = "<" if sys.byteorder == "little" else ">"
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_HEAD = struct.Struct(f"{_ENDIAN}H2xI")
"""The beginning of every record: event number and running thread."""
_PLACE_BITS, _PLACE = 16, 0xFFFF
_NONE = -1
_CLONE_THREAD = 0x0001_0000
_NEEDED = ("common_pid", "skaddr", "oldstate", "newstate", "sport", "dport", "family")
_ADDRESSES = ("saddr", "daddr", "saddr_v6", "daddr_v6")


class FormatError(Exception):
    """The kernel's record layout is not supported."""


class Change(NamedTuple):
    """A state change of a TCP socket."""

    at_ns: int
    """Trace clock time."""
    pid: int
    """The running thread. It owns the socket only at an attempt."""
    sk: int
    """The kernel's address of the socket."""
    old: int
    new: int
    local_port: int
    """0 at the attempt, because the kernel chooses the port afterwards."""
    remote_port: int
    family: int
    local: bytes
    remote: bytes


class Task(NamedTuple):
    """The start of a process or thread."""

    at_ns: int
    pid: int
    """The thread that created it."""
    new: int
    is_thread: bool
    name: bytes = b""
    """The name inherited from that thread."""


class Program(NamedTuple):
    """An exec: a process began to run another program."""

    at_ns: int
    pid: int
    path: bytes = b""
    """The path passed to exec. It is not resolved: it may be a link, or a script instead of its interpreter."""


class Leaving(NamedTuple):
    """The beginning of an exec. From now on /proc may show parts of the new program (Linux 6.10 and later)."""

    at_ns: int
    pid: int
    """The thread that called exec."""
    name: bytes = b""
    """The thread's name before the exec."""


Record = Change | Task | Program | Leaving


def spelled(address: bytes) -> str:
    """Format an address; an IPv4-mapped IPv6 address as IPv4."""
    if len(address) == _V4_BYTES:
        return str(IPv4Address(address))
    whole = IPv6Address(address)
    return str(whole.ipv4_mapped or whole)


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of pages and records."""

    event_id: int
    commit: struct.Struct
    data: int
    record: struct.Struct
    places: dict[str, int]
    v4: tuple[int, int]
    v6: tuple[int, int]
    task_id: int
    """Event number of tasks; a number that no record has if the kernel has no such event."""
    task: tuple[struct.Struct, ...]
    task_name: tuple[int, int]
    """Offset and size of the name in a task record."""
    program_id: int
    program_path: struct.Struct | None
    """Location of the offset and length of the path in a program's record (`__data_loc`)."""
    leaving_id: int
    leaving_name: struct.Struct | None

    @classmethod
    def of(cls, event: str, page: str, task: str = "", program: str = "", leaving: str = "") -> Layout:
        """Parse the layout from the texts of `format` files. Raises FormatError.

        `event` is `events/sock/inet_sock_set_state/format`, `page` is `events/header_page`. The optional others are the formats
        of `task/task_newtask`, `sched/sched_process_exec` and `sched/sched_prepare_exec`.
        """
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
        """Yield the records of a page, in order. A truncated record ends the iteration."""
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
                if kind in (_TIME_EXTEND, _TIME_STAMP):
                    # A stamp has the lower 59 bits of the absolute time; the upper bits are unchanged.
                    at_ns = (at_ns if kind == _TIME_EXTEND else at_ns >> 59 << 59) + (more << _DELTA_BITS) + delta
                    at += _WORD
                    continue
                body, at = at + _WORD, at + more
            else:
                body, at = at, at + kind * _WORD
            at_ns += delta
            if kind == _PADDING:
                continue
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
    """Return the location of a text field's `__data_loc`, from the event's format; None without a format."""
    return struct.Struct(f"{_ENDIAN}{_fields(text)[name][0]}xI") if text else None


def _text_of(record: bytes, place: struct.Struct | None) -> bytes:
    """Read a text whose offset and length are packed in one number (include/trace/trace_events.h, `__data_loc`)."""
    if place is None or len(record) < place.size:
        return b""
    (where,) = place.unpack_from(record)
    begin, length = where & _PLACE, where >> _PLACE_BITS
    return record[begin : begin + length].partition(b"\0")[0]


def _parts(head: int) -> tuple[int, int]:
    """Split a record's head into kind or length, and time since the previous record. Big-endian reverses the bit fields."""
    if _ENDIAN == "<":
        return head & _LENGTH_MASK, head >> _LENGTH_BITS
    return head >> _DELTA_BITS, head & (1 << _DELTA_BITS) - 1


def _number(event: str) -> int:
    """Return an event's number, which identifies its records; `_NONE` without a format."""
    found = re.search(r"^ID: (\d+)$", event, re.MULTILINE)
    return int(found[1]) if found else _NONE


def _fields(text: str) -> dict[str, tuple[int, int]]:
    """Parse a format; return offset and size of each field by name."""
    return {
        re.sub(r"\[.*", "", found["what"].split()[-1]): (int(found["offset"]), int(found["size"]))
        for found in _FIELD.finditer(text)
    }
