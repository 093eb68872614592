"""Bytes of connections that have ended: the kernel's word on its sockets put to the connections. Pure, and bounded.

The kernel lets go of a socket after the change of state that ends the connection, mostly at once; where the process does not
close what has ended, later. Both are read by different ways, in any order. So an end waits a moment for its bytes, and is told
again when they come later still.

The kernel counts the other side's end (FIN) as a byte received, where it came while the socket was there. That is told by the
state that the connection was in before its end; after FIN_WAIT2, which TIME_WAIT without the socket may follow, by what nobody
read. Where a process closed only its own direction and then read to the end, the count is one too many.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.sock_diag import Ended, FiveTuple
from producers.sensor.kernel.trace_ring import CLOSE_WAIT, CLOSING, FIN_WAIT2, LAST_ACK, spelled

WAIT_NS = 50_000_000
"""So long an end waits for its bytes."""
LATER_MAX = 65_536
"""Connections whose sockets processes still hold; of more the bytes of the oldest are not told."""
EARLY_NS_MAX = 1_000_000_000
EARLY_MAX = 65_536
"""Bytes without a connection wait so long, and so many: they are of servers' sockets, or of older ones than the sensor."""


class Counts:
    """Ends and bytes that wait for each other. Times are of the kernel's boot clock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Connection]] = deque()
        self._ended: OrderedDict[FiveTuple, Connection] = OrderedDict()
        self._early: OrderedDict[FiveTuple, tuple[int, Ended]] = OrderedDict()
        self.unmet = 0
        """Connections that were forgotten before their bytes came."""

    def __len__(self) -> int:
        return len(self._ended)

    def take(self, connections: Iterable[Connection], now_ns: int) -> list[Connection]:
        """Those of which is to be told now."""
        told = []
        for connection in connections:
            flow = _flow_of(connection)
            if connection.bytes_sent is not None or self._ended.get(flow) is connection:
                # Its end was taken before, and something else of it is new.
                told.append(connection)
                continue
            # Its ports are used again: bytes could be of either.
            self.unmet += self._ended.pop(flow, None) is not None
            if not connection.closed_ns or connection.failed:
                told.append(connection)
                continue
            came_ns, early = self._early.pop(flow, (0, None))
            if early is not None and came_ns >= connection.attempt_ns:
                told.append(_counted(connection, early))
                continue
            self._waiting.append((now_ns + WAIT_NS, connection))
            self._ended[flow] = connection
        while len(self._ended) > LATER_MAX:
            self._ended.popitem(last=False)
            self.unmet += 1
        return told

    def ended(self, ends: Iterable[Ended], now_ns: int) -> list[Connection]:
        """Bytes have come; gives the connections whose they are."""
        told = []
        for end in ends:
            connection = self._ended.pop(end.flow, None)
            if connection is None:
                self._early[end.flow] = (now_ns, end)
                self._early.move_to_end(end.flow)
            else:
                told.append(_counted(connection, end))
        while self._early:
            came_ns, _ = next(iter(self._early.values()))
            if len(self._early) <= EARLY_MAX and now_ns - came_ns < EARLY_NS_MAX:
                break
            self._early.popitem(last=False)
        return told

    def due(self, now_ns: int) -> list[Connection]:
        """Those that have waited long enough; they are told without bytes, and again when those come."""
        told = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, connection = self._waiting.popleft()
            if connection.bytes_sent is None:
                told.append(connection)
        return told


def _counted(connection: Connection, end: Ended) -> Connection:
    met = connection.ended_in in (CLOSE_WAIT, LAST_ACK, CLOSING) or (
        connection.ended_in == FIN_WAIT2 and end.unread > 0
    )
    connection.bytes_sent, connection.bytes_received = end.sent, max(0, end.received - met)
    return connection


def _flow_of(connection: Connection) -> FiveTuple:
    return spelled(connection.local), connection.local_port, spelled(connection.remote), connection.remote_port
