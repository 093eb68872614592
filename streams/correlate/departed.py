"""Connections that left the state: a tombstone of each, so that a late record makes no second row.

A network sensor writes a flow record when the flow is over or its timeout expires. For a connection that was cut off,
that is up to ten minutes after its end, long after the connection left the state. Endpoint records and
repeats may come late as well.

    a connection leaves    ──► a tombstone, for `correlation.flow_timeout_secs` more of the device's own clock
    a record fits no connection of the state but a tombstone
                           ──► a connection that is marked `late`: it makes no connection row, and no row of a destination
                               whose row was emitted before. Its other destinations and its verdicts have the departed
                               connection's identity

    a tombstone is forgotten at a bound
                           ──► the device notes until when the forgotten connections lasted (`DeviceState.forgotten_ended`). What
                               a network sensor reports for that time, and for no known connection, is late evidence
                               of one of them: it makes no row except for verdicts

A tombstone fits by the sensor's flow id or by the endpoint record's start. Otherwise it fits by time: starts at most
`APART` apart, or activity within the connection's life. A new flow of a sensor that gave the departed connection
another id never fits.
"""

from __future__ import annotations

import zlib

import msgspec
from msgspec.structs import replace

from schemas.clock import MICROS
from schemas.events import Micros
from schemas.parsers import sensors
from schemas.settings import CorrelationSettings
from streams.assess.assessment import flow_name
from streams.correlate.matching import lives_apart
from streams.model.connection import (
    FROM_ENDPOINT,
    FROM_FLOW,
    TUPLE_CONNECTIONS_MAX,
    Connection,
    Departed,
    EndpointRecord,
    TupleConnections,
)
from streams.model.device import DEPARTED_TIMER, Device
from streams.model.evidence import APART

DEPARTED_MAX = 65_536
"""5-tuples stored per device, counted once in each period. Beyond it the oldest is forgotten with its connections."""
DEPARTED_TOTAL_MAX = 1_048_576
"""5-tuples stored per partition, counted likewise. Beyond it a device forgets its own oldest for each new one; a device
without any stores none."""
PERIOD_SECS = 16
"""Seconds. Tombstones expire together per period: a period is one item of the state, written once."""
_PERIOD: Micros = PERIOD_SECS * MICROS
ALL_EMITTED = -1
"""In `Departed.emitted`: the row of any destination may have been emitted."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Departed]).decode


class Tombstones:
    """Tombstones of one partition's devices."""

    def __init__(self, settings: CorrelationSettings) -> None:
        declared = max(sensor.flow_timeout_secs for sensor in sensors().values())
        self.kept: Micros = round((settings.flow_timeout_secs or declared) * MICROS)
        """Microseconds for which a tombstone is stored after its connection left."""
        self.total = 0
        """5-tuples stored for all devices, counted as in `DEPARTED_MAX`."""

    def add(self, device: Device, key: str, connection: Connection) -> int:
        """Add the tombstone of a connection that leaves; return how many connections were forgotten at a bound."""
        second = -(-(device.state.event_time + self.kept) // _PERIOD) * PERIOD_SECS
        period = device.departed.get(second)
        packed = None if period is None else period.get(key)
        device.touched_departed[second] = None
        if period is not None and packed is not None:
            known = _unpack(packed)
            period[key] = _pack([*known[1 - TUPLE_CONNECTIONS_MAX :], tombstone_of(connection)])
            if len(known) < TUPLE_CONNECTIONS_MAX:
                return 0
            _note_forgotten(device, second, known[:1])
            return 1
        forgotten = 0
        if device.departed_count >= DEPARTED_MAX or self.total >= DEPARTED_TOTAL_MAX:
            if not device.departed:
                _note_forgotten(device, second, [tombstone_of(connection)])
                return 1
            forgotten = self._forget_oldest(device)
            period = device.departed.get(second)
        if period is None:
            period = device.departed[second] = {}
            device.wake_at(second, DEPARTED_TIMER)
        device.departed_count += 1
        self.total += 1
        period[key] = _pack([tombstone_of(connection)])
        return forgotten

    def expire(self, device: Device, second: int) -> None:
        """Remove the tombstones that are due at this second of the device's clock."""
        for due in [due for due in device.departed if due <= second]:
            self._drop(device, due, len(device.departed.pop(due)))

    def _forget_oldest(self, device: Device) -> int:
        second = min(device.departed)
        period = device.departed[second]
        connections = _unpack(period.pop(next(iter(period))))
        if not period:
            del device.departed[second]
        self._drop(device, second, 1)
        _note_forgotten(device, second, connections)
        return len(connections)

    def _drop(self, device: Device, second: int, count: int) -> None:
        device.departed_count -= count
        self.total -= count
        device.touched_departed[second] = None


def tombstone_of(connection: Connection) -> Departed:
    """Return the tombstone of a connection that leaves the state."""
    endpoint, first = connection.endpoint, connection.first
    flow_ids, flow_kinds = ((connection.flow_id, *connection.flow_ids), connection.flow_kinds) if first else ((), ())
    endpoints: tuple[tuple[str, Micros], ...] = ()
    start = endpoint_end = 0
    if endpoint is not None:
        start, endpoint_end = endpoint.started, endpoint.ended
        endpoints = ((endpoint.sensor, start),)
        if connection.sensor_records:
            endpoints = tuple([(record.sensor, record.started) for record in connection.sensor_records])
    emitted = tuple([emitted_as(d.host, d.port) for d in connection.destinations if d.sent])
    left = connection.late
    if left is not None:
        endpoints = tuple(dict.fromkeys([*left.endpoints, *endpoints]))
        emitted = (*left.emitted, *emitted)
        if not flow_ids:
            flow_ids, flow_kinds = left.flow_ids, left.flow_kinds
        return replace(left, flow_ids=flow_ids, flow_kinds=flow_kinds, endpoints=endpoints, emitted=emitted)
    from_flow, name = connection.identity == FROM_FLOW, connection.row_name
    if not name and not connection.flow_id and (emitted or from_flow):
        name = flow_name(connection)
    other_start = connection.identity_start
    if other_start == start:
        other_start = 0
    started = connection.flow_started or start or first
    ended = endpoint_end or connection.flow_ended
    return Departed(started, ended, flow_ids, endpoints, from_flow, other_start, name, emitted, flow_kinds)


def continue_departed(connection: Connection, left: Departed) -> None:
    """Give late evidence (`connection`) the identity of the departed connection that it belongs to."""
    connection.row_name = flow_name(connection) if connection.rows_left else left.row_name
    connection.late, connection.baseline_checked = left, True
    connection.identity = FROM_FLOW if left.from_flow else FROM_ENDPOINT
    connection.identity_start = left.identity_start or (left.endpoints[0][1] if left.endpoints else 0)
    if left.flow_ids:
        known = dict(zip((connection.flow_id, *connection.flow_ids), connection.flow_kinds, strict=False))
        known |= dict(zip(left.flow_ids, left.flow_kinds, strict=True))
        connection.flow_id = left.flow_ids[0]
        others = sorted(known.keys() - {connection.flow_id, ""})
        connection.flow_ids = tuple(others)
        connection.flow_kinds = tuple([known[flow_id] for flow_id in (connection.flow_id, *others)])
    connection.flow_started, connection.flow_ended = left.started, max(connection.flow_ended, left.ended)
    connection.hits.clear()


def departed_flow(
    device: Device, key: str, flow_id: str, kind: str, started: Micros, since: Micros, until: Micros
) -> Departed | None:
    """Return the departed connection that a network sensor's evidence belongs to, or None.

    `started` is the flow's start, 0 if unknown. `since` and `until` bound the time of the evidence. All are in
    microseconds.
    """
    known = _departed(device, key)
    fitting = []
    for left in known:
        if flow_id and flow_id in left.flow_ids:
            return left
        if not (flow_id and kind in left.flow_kinds) and _is_of(left, started, since, until):
            fitting.append(left)
    return min(fitting, key=lambda left: abs(left.started - (started or since)), default=None)


def forgotten_flow(
    device: Device, connections: TupleConnections, flow_id: str, kind: str, since: Micros, until: Micros, linger: Micros
) -> Departed | None:
    """Return a stand-in for a departed connection that evidence of a network sensor may belong to and whose tombstone is gone.

    The evidence must have ended before the last of the forgotten connections did. It must be older than the time that
    an ended connection stays in the state (`linger`, microseconds), as its connection would otherwise still be there.
    No connection of the 5-tuple may have lived then. Returns None otherwise.
    """
    state = device.state
    if not state.forgotten_ended <= state.event_time <= state.forgotten_until * MICROS:
        return None
    if until > min(state.forgotten_ended + APART, state.event_time - linger):
        return None
    others = [c for c in connections if c.late is None and c.started]
    if not all(lives_apart(c.started - APART, c.ended and c.ended + APART, since, until) for c in others):
        return None
    return Departed(
        since, until, (flow_id,) if flow_id else (), (), True, 0, "", (ALL_EMITTED,), (kind,) if flow_id else ()
    )


def departed_endpoint(device: Device, key: str, endpoint: EndpointRecord) -> Departed | None:
    """Return the departed connection that an endpoint record belongs to, or None.

    It has a record of the same sensor with the same start, or the record is another sensor's view of it.
    """
    sensor = endpoint.sensor
    fitting = []
    for left in _departed(device, key):
        if (sensor, endpoint.started) in left.endpoints:
            return left
        if sensor not in dict(left.endpoints) and _is_of(left, endpoint.started, endpoint.started, endpoint.ended):
            fitting.append(left)
    return min(fitting, key=lambda left: abs(left.started - endpoint.started), default=None)


def is_departed(device: Device, key: str) -> bool:
    """Return whether a tombstone of that 5-tuple is stored."""
    return any(key in period for period in device.departed.values())


def was_emitted(left: Departed, host: str, port: int) -> bool:
    """Return whether the destination's row was, or may have been, emitted before the connection left."""
    return ALL_EMITTED in left.emitted or emitted_as(host, port) in left.emitted


def emitted_as(host: str, port: int) -> int:
    """Return the number that stands for an emitted destination in `Departed.emitted`."""
    return zlib.crc32(f"{host} {port}".encode("utf-8", "surrogatepass"))


def _note_forgotten(device: Device, second: int, connections: list[Departed]) -> None:
    """Note when the last of the forgotten connections ended and when their tombstones would have expired."""
    state = device.state
    ended = max(left.ended or left.started for left in connections)
    state.forgotten_ended = max(state.forgotten_ended, min(ended, state.event_time))
    state.forgotten_until = max(state.forgotten_until, second)


def _departed(device: Device, key: str) -> list[Departed]:
    packed = [period[key] for period in device.departed.values() if key in period]
    return [left for one in packed for left in _unpack(one)]


def _is_of(left: Departed, started: Micros, since: Micros, until: Micros) -> bool:
    """Return whether evidence fits the departed connection by time.

    Its start is near, or it is within the connection's lifetime.
    """
    if started:
        return abs(started - left.started) <= APART and not lives_apart(left.started, left.ended, started, until)
    return left.started - APART <= since and until <= left.ended + APART
