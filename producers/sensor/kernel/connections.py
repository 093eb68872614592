"""Socket state changes folded into outgoing connections: pure and bounded.

    CLOSE → SYN_SENT         the attempt, in the process's context. Look up the process now; no local port is chosen yet
    SYN_SENT → ESTABLISHED   the response, in the context of any packet; the socket's address identifies the connection
    SYN_SENT → CLOSE         refused, timed out or given up
    … → CLOSE                the end. An unknown socket is a server's, or older than the sensor

A change may be read before its predecessor if they happened on different CPUs. It then waits briefly for the predecessor.

A process that runs another program (exec) soon after its attempt may pass the connection to it, as a reverse shell does. The
connection records the first such program.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from producers.sensor.kernel.processes import Who
from producers.sensor.kernel.trace_ring import CLOSE, ESTABLISHED, SYN_RECV, SYN_SENT, Change, Program

OPEN_MAX = 65_536
"""Maximum number of open connections. Beyond it the oldest is evicted and counted; its end is not reported."""
EARLY_MAX = 1_024
"""Maximum number of changes that wait for their predecessor."""
EARLY_NS_MAX = 1_000_000_000
EXEC_NS_MAX = 1_000_000_000
"""Maximum time from the attempt to an exec that the connection records."""
RECENT_MAX = 16_384
"""Maximum number of attempts that wait for an exec. Beyond it the oldest is evicted; an exec after it is not recorded."""


@dataclass(slots=True, eq=False)
class Connection:
    """An outgoing connection with the facts known so far."""

    thread: int
    who: Who | None
    attempt_ns: int
    remote_port: int
    family: int
    local: bytes
    remote: bytes
    distance_ns: int
    """Wall clock minus trace clock at the attempt. It converts all times of the connection, which keeps their order."""
    local_port: int = 0
    established_ns: int = 0
    closed_ns: int = 0
    failed: bool = False
    ended_in: int = 0
    """The TCP state before the end."""
    bytes_sent: int | None = None
    bytes_received: int | None = None
    exec_after: bytes = b""
    """The program that the process executed within `EXEC_NS_MAX` after the attempt, as passed to exec."""


class Connections:
    """The open connections, with counters of those that could not be followed."""

    def __init__(self, who: Callable[[int, int], Who | None]) -> None:
        self._who = who
        self._open: dict[int, Connection] = {}
        self._early: dict[int, Change] = {}
        self._recent: deque[tuple[int, Connection]] = deque()
        self._recent_of: dict[int, deque[Connection]] = {}
        """The attempts in `_recent` by process, without those whose process has executed another program since."""
        self.attempts = 0
        self.established = 0
        self.failed = 0
        self.closed = 0
        self.forgotten = 0
        """Connections evicted before their end."""
        self.unpaired = 0
        """Responses without an attempt: the attempt is older than the sensor, or its record was lost."""
        self.unended = 0
        """Sockets reused without a record of their previous end."""

    def __len__(self) -> int:
        return len(self._open)

    def take(self, records: Iterable[Change | Program], distance_ns: int) -> list[Connection]:
        """Apply a batch of records, in order; return the connections with new facts to report, each once."""
        reported: dict[Connection, None] = {}
        newest = 0
        for record in records:
            newest = max(newest, record.at_ns)
            found = self._run(record) if isinstance(record, Program) else self._follow(record, distance_ns)
            for connection in found:
                reported[connection] = None
        if self._early:
            self._evict(newest)
        self._forget_recent(newest)
        return list(reported)

    def _follow(self, change: Change, distance_ns: int) -> Iterable[Connection]:
        if change.new == SYN_SENT:
            self._begin(change, distance_ns)
            early = self._early.pop(change.sk, None)
            if early is not None and early.at_ns >= change.at_ns:
                yield from self._follow(early, distance_ns)
            elif early is not None:
                self.unpaired += 1
            return
        connection = self._open.get(change.sk)
        if connection is None:
            if change.old == SYN_SENT:
                self._await_attempt(change)
            return
        if change.at_ns < connection.attempt_ns:
            # The change belongs to the socket's previous connection and was read late.
            return
        if change.local_port:
            connection.local_port, connection.local, connection.remote = change.local_port, change.local, change.remote
        if change.new == ESTABLISHED:
            connection.established_ns = change.at_ns
            self.established += 1
            yield connection
        elif change.new == CLOSE:
            yield from self._end(connection, change)

    def _end(self, connection: Connection, change: Change) -> Iterable[Connection]:
        del self._open[change.sk]
        connection.closed_ns, connection.ended_in = change.at_ns, change.old
        connection.failed = change.old in (SYN_SENT, SYN_RECV)
        if connection.local_port:  # without a local port, no packet was sent
            self.failed += connection.failed
            self.closed += not connection.failed
            yield connection

    def _await_attempt(self, change: Change) -> None:
        self._early[change.sk] = change
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]
            self.unpaired += 1

    def _begin(self, change: Change, distance_ns: int) -> None:
        self.attempts += 1
        self.unended += self._open.pop(change.sk, None) is not None
        who = self._who(change.pid, change.at_ns)
        connection = self._open[change.sk] = Connection(
            change.pid,
            who,
            change.at_ns,
            change.remote_port,
            change.family,
            change.local,
            change.remote,
            distance_ns,
        )
        process = who.pid if who is not None else change.pid
        self._recent.append((process, connection))
        self._recent_of.setdefault(process, deque()).append(connection)
        if len(self._open) > OPEN_MAX:
            del self._open[next(iter(self._open))]
            self.forgotten += 1

    def _run(self, program: Program) -> Iterable[Connection]:
        for connection in self._recent_of.pop(program.pid, ()):
            if program.at_ns - connection.attempt_ns <= EXEC_NS_MAX:
                connection.exec_after = program.path
                # The other connections are reported with the program once they are established or have failed.
                if connection.local_port and (connection.established_ns or connection.closed_ns):
                    yield connection

    def _forget_recent(self, newest: int) -> None:
        while self._recent:
            process, connection = self._recent[0]
            if newest - connection.attempt_ns <= EXEC_NS_MAX and len(self._recent) <= RECENT_MAX:
                return
            self._recent.popleft()
            left = self._recent_of.get(process)
            if left and left[0] is connection:
                left.popleft()
                if not left:
                    del self._recent_of[process]

    def _evict(self, newest: int) -> None:
        for sk in [sk for sk, change in self._early.items() if newest - change.at_ns > EARLY_NS_MAX]:
            del self._early[sk]
            self.unpaired += 1
