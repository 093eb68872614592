"""Byte counts of ended connections, merged from the kernel's socket notifications: pure and bounded.

The kernel destroys a socket after the state change that ends the connection: usually at once, later if the process keeps the
socket open. The two records come through different channels, in any order. An ended connection therefore waits briefly for its
byte counts, and is reported again if they come later.

The kernel counts the peer's FIN as a received byte if the FIN arrived while the socket existed. The connection's state before its
end shows whether it arrived. The exception is FIN_WAIT2, after which the connection may be in TIME_WAIT without the socket; then
unread bytes show that the FIN arrived. If a process closed only its own direction and then read to the end, the reported count is
one too high.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.sock_diag import Ended, FiveTuple
from producers.sensor.kernel.trace_ring import CLOSE_WAIT, CLOSING, FIN_WAIT2, LAST_ACK, spelled

WAIT_NS = 50_000_000
"""How long an ended connection waits for its byte counts."""
LATER_MAX = 65_536
"""Maximum number of ended connections whose socket still exists. Beyond it the byte counts of the oldest are not reported."""
EARLY_NS_MAX = 1_000_000_000
EARLY_MAX = 65_536
"""Bounds on time and number of byte counts that wait for their connection. Those of servers' or older sockets have none."""


class Counts:
    """The merge of connection ends and byte counts. Times are of the kernel's boot clock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Connection]] = deque()
        self._ended: OrderedDict[FiveTuple, Connection] = OrderedDict()
        self._early: OrderedDict[FiveTuple, tuple[int, Ended]] = OrderedDict()
        self.unmet = 0
        """Connections evicted before their byte counts came."""

    def __len__(self) -> int:
        return len(self._ended)

    def take(self, connections: Iterable[Connection], now_ns: int) -> list[Connection]:
        """Take changed connections; return those to report now."""
        reported = []
        for connection in connections:
            flow = _flow_of(connection)
            if connection.bytes_sent is not None or self._ended.get(flow) is connection:
                # The end was taken before, and another fact of the connection is new.
                reported.append(connection)
                continue
            # The ports were reused: later byte counts could be of either connection.
            self.unmet += self._ended.pop(flow, None) is not None
            if not connection.closed_ns or connection.failed:
                reported.append(connection)
                continue
            came_ns, early = self._early.pop(flow, (0, None))
            if early is not None and came_ns >= connection.attempt_ns:
                reported.append(_counted(connection, early))
                continue
            self._waiting.append((now_ns + WAIT_NS, connection))
            self._ended[flow] = connection
        while len(self._ended) > LATER_MAX:
            self._ended.popitem(last=False)
            self.unmet += 1
        return reported

    def ended(self, ends: Iterable[Ended], now_ns: int) -> list[Connection]:
        """Take byte counts; return the connections that they belong to."""
        reported = []
        for end in ends:
            connection = self._ended.pop(end.flow, None)
            if connection is None:
                self._early[end.flow] = (now_ns, end)
                self._early.move_to_end(end.flow)
            else:
                reported.append(_counted(connection, end))
        while self._early:
            came_ns, _ = next(iter(self._early.values()))
            if len(self._early) <= EARLY_MAX and now_ns - came_ns < EARLY_NS_MAX:
                break
            self._early.popitem(last=False)
        return reported

    def due(self, now_ns: int) -> list[Connection]:
        """Return the connections whose wait is over, to be reported without byte counts, and again when the counts come."""
        reported = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, connection = self._waiting.popleft()
            if connection.bytes_sent is None:
                reported.append(connection)
        return reported


def _counted(connection: Connection, end: Ended) -> Connection:
    met = connection.ended_in in (CLOSE_WAIT, LAST_ACK, CLOSING) or (
        connection.ended_in == FIN_WAIT2 and end.unread > 0
    )
    connection.bytes_sent, connection.bytes_received = end.sent, max(0, end.received - met)
    return connection


def _flow_of(connection: Connection) -> FiveTuple:
    return spelled(connection.local), connection.local_port, spelled(connection.remote), connection.remote_port
