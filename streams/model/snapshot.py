"""Storage of the state as table entries, at a cost proportional to the changes.

A device's state consists of many small items (`streams.model.device.Device.items`). Each checkpoint writes a delta, which holds
the changed items and the device state, to a slot of a ring. Once the deltas since the last snapshot are as large as the
snapshot, all items are written again as a new snapshot. Snapshots alternate between two sides, so that a crash leaves the
older side intact.

Entries of a known device are never deleted; sequence numbers decide which ones are valid. An entry without a value deletes
its key, which removes the entries of an evicted device. An entry holds at most `PART_BYTES_MAX` of items, so that no device
or connection is too large for a message. A larger item is cut and continues in the next part.

The last part holds the device state with the input offset. A checkpoint without all its parts, as after a crash, is ignored
and its input is processed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from streams.model.connection import Connection, Departed
from streams.model.device import Device, DeviceState

FORMAT = 5
"""Format of the entries; raise it when earlier versions of the program can no longer read the state."""
FORMATS_READ = frozenset({4, FORMAT})
"""Readable formats. Format 4 has no tombstones of departed connections."""
RING = 64
"""Slots for deltas, per part of the snapshot. A large device has more slots, so that a few small deltas do not fill its ring."""
MORE = "+"
"""Prefix to the name of an item that continues from the previous part."""
PART_BYTES_MAX = 512 * 1024
SNAPSHOT_BYTES_MIN = 4_096


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """Part of a delta or of a snapshot."""

    version: int
    """Format (`FORMAT`) in which the entry was written."""
    sequence: int
    """Number of the delta part or of the snapshot, increasing per device. All parts of one snapshot have the same."""
    state: bytes
    """Packed `DeviceState`; empty except in the last part."""
    items: dict[str, bytes | None]
    part: int
    """Index of this part."""
    parts: int
    """Number of parts of the delta or snapshot."""
    snapshot: bool = False
    has_sensors: bool = False
    """Endpoint records contain their sensor, and flow ids have a kind. False in state from before these fields existed."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_pack_state = msgspec.msgpack.Encoder().encode
_unpack_state = msgspec.msgpack.Decoder(DeviceState, dec_hook=lambda kind, value: kind(value)).decode
_pack_items = msgspec.msgpack.Encoder().encode
_unpack_connections = msgspec.msgpack.Decoder(list[Connection]).decode
_unpack_period = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_unpack_departed = msgspec.msgpack.Decoder(list[Departed]).decode


@dataclass(slots=True)
class _Written:
    """Which entries of a device are in the table: the latest sequence number, the used slots, and sizes in bytes."""

    sequence: int = 0
    deltas: int = 0
    delta_bytes: int = 0
    snapshot_bytes: int = 0
    snapshot_parts: int = 0
    side: int = 1
    """Side of the latest snapshot: 0 or 1."""
    parts_max: int = 1
    """Parts of the largest snapshot so far, whose entries may still exist."""

    @property
    def ring(self) -> int:
        """Return the number of slots for deltas."""
        return RING * max(1, self.snapshot_parts)

    def slot(self) -> str:
        """Return the slot of the latest delta. Names in a larger ring are longer, so that rings never overlap."""
        return _slot(self.sequence % self.ring, wide=self.ring > RING)

    def slots(self) -> Iterator[str]:
        """Yield all slots that may hold an entry."""
        yield from (f"s{side}{part:05d}" for side in range(2) for part in range(self.parts_max))
        yield from (_slot(number) for number in range(min(self.sequence + 1, RING)))
        if self.parts_max > 1:
            yield from (_slot(number, wide=True) for number in range(min(self.sequence + 1, RING * self.parts_max)))


def _slot(number: int, *, wide: bool = False) -> str:
    return f"d{number:0{6 if wide else 2}d}"


class StateUnreadable(Exception):
    """The state cannot be read, because another version of unproxy wrote it."""


def _read(value: bytes) -> _Entry:
    try:
        entry = _decode(value)
    except msgspec.MsgspecError as error:
        raise StateUnreadable(f"{_OTHER_VERSION} ({error})") from None
    if entry.version not in FORMATS_READ:
        raise StateUnreadable(f"{_OTHER_VERSION} (format {entry.version}, not {FORMAT})")
    return entry


_OTHER_VERSION = (
    "the state was written by another version of unproxy; go on with that one, or delete the worker's data folder and the "
    "records of its changelog topic: connections that are open now then begin again, no line is lost"
)


class Store:
    """Devices of one partition and their pending changes."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.changed: dict[str, Device] = {}
        """Devices that changed since the last checkpoint."""
        self._written: dict[str, _Written] = {}
        self._evicted: dict[str, _Written] = {}
        """Devices whose entries the next checkpoint removes."""

    def evict(self, name: str) -> None:
        """Evict a device; the next checkpoint removes its entries."""
        del self.devices[name]
        self.changed.pop(name, None)
        written = self._written.pop(name, None)
        if written is not None:
            self._evicted[name] = written

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """Return the entries to write for all changes since the last checkpoint, as key and value; b"" deletes a key."""
        entries: list[tuple[bytes, bytes]] = []
        for name, evicted in self._evicted.items():
            entries += ((f"{name}\0{slot}".encode(), b"") for slot in evicted.slots())
        self._evicted.clear()
        for name, device in self.changed.items():
            written = self._written.setdefault(name, _Written())
            parts: list[dict[str, bytes | None]] = []
            whole = not written.snapshot_bytes
            if not whole:
                items = device.changes()
                weight = sum(len(packed or b"") + len(item) for item, packed in items.items())
                parts = list(_in_parts(items))
                # A slot must not be overwritten while its entry is valid.
                whole = written.deltas + len(parts) > written.ring // 2 or written.delta_bytes + weight > max(
                    written.snapshot_bytes, SNAPSHOT_BYTES_MIN
                )
            entries += self._snapshot(device, written) if whole else self._delta(device, written, parts)
        self.changed.clear()
        return entries

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Restore devices from their entries, in any order. One call needs all entries of each of its devices.

        A large state may be restored by several calls, each for some of the devices. Raises StateUnreadable for an entry of
        another format.
        """
        by_device: dict[bytes, list[tuple[bytes, bytes, _Entry]]] = {}
        for key, value in entries:
            if value:
                by_device.setdefault(key.rpartition(b"\0")[0], []).append((key, value, _read(value)))
        for name, found in by_device.items():
            self._restore_device(name.decode(), found)

    def _delta(
        self, device: Device, written: _Written, parts: list[dict[str, bytes | None]]
    ) -> Iterator[tuple[bytes, bytes]]:
        for number, part in enumerate(parts):
            written.sequence += 1
            written.deltas += 1
            state = _pack_state(device.state) if number == len(parts) - 1 else b""
            value = _encode(_Entry(FORMAT, written.sequence, state, part, number, len(parts), has_sensors=True))
            written.delta_bytes += len(value)
            yield f"{device.name}\0{written.slot()}".encode(), value

    def _snapshot(self, device: Device, written: _Written) -> Iterator[tuple[bytes, bytes]]:
        written.sequence += 1
        written.side = 1 - written.side
        written.deltas = written.delta_bytes = written.snapshot_bytes = 0
        parts = list(_in_parts(device.items()))
        written.snapshot_parts = len(parts)
        written.parts_max = max(written.parts_max, len(parts))
        for number, part in enumerate(parts):
            state = _pack_state(device.state) if number == len(parts) - 1 else b""
            value = _encode(
                _Entry(FORMAT, written.sequence, state, part, number, len(parts), snapshot=True, has_sensors=True)
            )
            written.snapshot_bytes += len(value)
            yield f"{device.name}\0s{written.side}{number:05d}".encode(), value

    def _restore_device(self, name: str, found: list[tuple[bytes, bytes, _Entry]]) -> None:
        device = self.devices[name] = Device(name)
        written = self._written[name] = _Written()
        snapshots: dict[int, dict[int, tuple[bytes, _Entry]]] = {}
        for key, value, entry in found:
            slot = key.rpartition(b"\0")[2]
            written.parts_max = max(written.parts_max, 1 + (int(slot[2:]) if entry.snapshot else int(slot[1:]) // RING))
            if entry.snapshot:
                snapshots.setdefault(entry.sequence, {})[entry.part] = (key, entry)
                written.snapshot_bytes += len(value)
        whole = [number for number, parts in snapshots.items() if len(parts) == next(iter(parts.values()))[1].parts]
        base = max(whole, default=0)
        items: dict[str, bytes] = {}
        for _, (key, entry) in sorted(snapshots.get(base, {}).items()):
            written.side = int(key.rpartition(b"\0")[2][1:2])
            written.snapshot_parts = entry.parts
            _merge(device, items, entry)
        every = [e for _, _, e in found if not e.snapshot and e.sequence > base]
        # A crash while a delta is written leaves some of its parts; an incomplete delta is ignored.
        there = Counter(e.sequence - e.part for e in every)
        deltas = sorted((e for e in every if there[e.sequence - e.part] == e.parts), key=lambda e: e.sequence)
        written.sequence = max([base, *snapshots, *(e.sequence for e in every)])
        written.deltas = written.sequence - base
        for entry in deltas:
            _merge(device, items, entry)
        if not all(entry.has_sensors for _, _, entry in found):
            _add_sensors(items)
        device.restore(items)


def _add_sensors(items: dict[str, bytes]) -> None:
    """Add the sensors of records and the kinds of flow ids to items without them; the ids of that time imply both."""
    for item, packed in items.items():
        if item[0] == "c":
            items[item] = _pack_items([_with_sensors(connection) for connection in _unpack_connections(packed)])
        elif item[0] == "d":
            period = {
                key: [_with_kinds(left) for left in _unpack_departed(one)]
                for key, one in _unpack_period(packed).items()
            }
            items[item] = _pack_items({key: _pack_items(departed) for key, departed in period.items()})


def _with_sensors(connection: Connection) -> Connection:
    for record in (connection.endpoint, *connection.sensor_records):
        if record is not None and not record.sensor:
            record.sensor = record.event_id.partition("/")[0]
    if not connection.flow_kinds and (connection.first or connection.flow_id):
        connection.flow_kinds = tuple(map(_kind_of, (connection.flow_id, *connection.flow_ids)))
    if connection.late is not None:
        connection.late = _with_kinds(connection.late)
    return connection


def _with_kinds(left: Departed) -> Departed:
    return left if left.flow_kinds else replace(left, flow_kinds=tuple(map(_kind_of, left.flow_ids)))


def _kind_of(flow_id: str) -> str:
    """Return the kind of a flow id that was stored without one.

    Ids of Suricata consist of digits, those of `unproxy sensor` begin with `u-`, all others are Zeek's.
    """
    if not flow_id or flow_id.isdigit():
        return "number" if flow_id else ""
    return "other" if flow_id.startswith("u-") else "zeek"


def _merge(device: Device, items: dict[str, bytes], entry: _Entry) -> None:
    """Apply an entry to the device state and to the items, which earlier entries have set."""
    if entry.state:
        device.state = _unpack_state(entry.state)
    for item, packed in entry.items.items():
        if packed is None:
            items.pop(item, None)
        elif item[0] == MORE:
            items[item[1:]] += packed
        else:
            items[item] = packed


def _in_parts(items: dict[str, bytes | None]) -> Iterator[dict[str, bytes | None]]:
    """Split items into parts within `PART_BYTES_MAX`; yield at least one part, possibly empty."""
    part: dict[str, bytes | None] = {}
    weight = 0
    for item, packed in _in_pieces(items):
        size = len(item) + len(packed or b"") + 16
        if part and weight + size > PART_BYTES_MAX:
            yield part
            part, weight = {}, 0
        part[item] = packed
        weight += size
    yield part


def _in_pieces(items: dict[str, bytes | None]) -> Iterator[tuple[str, bytes | None]]:
    """Yield each item; cut an item above `PART_BYTES_MAX` into pieces, no two of which fit into one part."""
    for item, packed in items.items():
        if packed is None or len(packed) <= PART_BYTES_MAX:
            yield item, packed
            continue
        yield item, packed[:PART_BYTES_MAX]
        for first in range(PART_BYTES_MAX, len(packed), PART_BYTES_MAX):
            yield MORE + item, packed[first : first + PART_BYTES_MAX]
