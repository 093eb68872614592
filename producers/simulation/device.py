"""One simulated device: its ports, its two sensors and their lines. `traffic` and its neighbours decide what happens on it.

The whole course of a connection is decided when the connection opens. All its lines are generated at once, and each is
stored in the time slice in which it will arrive. A device thus stores only the future lines of connections that are open
or still in its sensor's flow table. Each device has its own random numbers, so it does not depend on other devices.

Times are by the device's own clock, except arrival times, which are by a correct clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from producers.simulation import eve, sockets
from producers.simulation.dns import Lookup
from producers.simulation.fleet import PROXIES, PROXIES_V6, PROXY_NAME, RESOLVER, Program, Remote, profile_of
from producers.simulation.journal import DIRECT, PROXIED, SLICE, SOCKETS, SURICATA, Journal, Written
from producers.simulation.outages import is_in
from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros, ProtectionMode

PORT_FIRST, PORT_COUNT = 32_768, 28_232
LONG: Micros = 30 * MICROS
"""Duration above which the port of a connection is marked as busy until the network sensor has forgotten the 5-tuple.

Ports are used in turn; those of shorter connections are free again before their next turn.
"""
REMEMBERED: Micros = 15 * MICROS
"""Time after a flow's timeout by which its record is written, so that its 5-tuple may be used again."""
FOLDED: Micros = 50_000
"""Longest duration of a connection that has a single endpoint record; a longer one has a record for its beginning, too."""
SHUTDOWN: Micros = 300_000
"""Longest time in which a stopped network sensor writes the records of the flows that it knows."""
LOOKED_UP: Micros = 10_000
"""Time between the start of a DNS look-up and the connection to the address found."""
STATS: Micros = 8 * MICROS
"""Interval of the network sensor's statistics."""


@dataclass(slots=True, eq=False)
class Connection:
    """One TCP connection as it really is, whether or not a sensor reports it."""

    start: Micros
    established: Micros
    """0 if the other side refused the connection."""
    program: Program
    pid: int
    remote: Remote
    port: int
    wire: eve.Wire
    cut: Micros
    """Time at which the network sensor stops; once restarted, it cannot parse the rest of the connection."""
    lag: Micros
    """Microseconds between an event of the connection and its line."""
    odd: bool
    """Whether some of its lines are late or doubled."""
    requests: int = 0


class Device:
    """A device that opens connections and writes the lines of its sensors.

    It adds to the counts in `tally`. With `keeps_truth`, it also stores the truth.
    """

    def __init__(self, world: WorldSettings, number: int, tally: Counter[str], *, keeps_truth: bool) -> None:
        chance = Random(f"{world.seed}/{number}")  # noqa: S311  # a world is drawn from its seed
        self.draw = chance.random
        self.tally = tally
        self.profile = profile = profile_of(world, number, chance)
        self.name = profile.name
        self.end = world.end + profile.skew
        self.open_max = round(world.open_secs_max * MICROS)
        self._pairs: dict[Remote, eve.Pair] = {}
        self._tail = f',"host":"{self.name}"}}'
        self.interface = "" if profile.inline else '"in_iface":"eth0",'
        self._skew, self._begin = profile.skew, world.begin
        self._timeout = round(world.flow_timeout_secs * MICROS)
        self.journal = Journal(world, self.draw, tally)
        self._put, self._put_oddly = self.journal.put, self.journal.put_oddly
        self._truth = keeps_truth
        self._requests = 0
        self._port = int(self.draw() * PORT_COUNT)
        self._busy: dict[int, Micros] = {}
        self._pid = 1_000 + int(self.draw() * 20_000)
        self._pids: dict[str, int] = {}
        self._down = tuple(outage for outage in profile.outages if outage.kind in ("restart", "off"))
        self._lost = tuple(outage for outage in profile.outages if outage.kind == "loss")
        self._kernel_lost = tuple(outage for outage in profile.outages if outage.kind == "kernel")
        self._stats = world.begin + profile.skew + int(self.draw() * STATS)
        first = int(self.draw() * len(PROXIES))
        self._proxies = (PROXIES[first], PROXIES[first], PROXIES[int(self.draw() * len(PROXIES))])
        tally["devices"] += 1
        tally["clocks hours wrong"] += abs(profile.skew) > 1_800 * MICROS
        tally["mode changes"] += len(profile.modes) - 1
        for outage in profile.outages:
            tally[f"outages: {outage.kind}"] += 1

    def written(self, index: int) -> tuple[list[Written], list[Written]]:
        """Return the lines of the endpoint sensor and of the network sensor that arrive in this time slice, in order.

        Call it once for each slice, in order.
        """
        until = self._begin + self._skew + (index + 1) * SLICE
        while self._stats < until and self._stats < self.end:
            if not (is_in(self._down, self._stats) or is_in(self._lost, self._stats)):
                uptime = (self._stats - self._begin - self._skew) // MICROS
                self._put(SURICATA, self._stats - self._skew, eve.stats(self.name, self._stats, uptime))
            self._stats += STATS
        return self.journal.written(index)

    def mode(self, at: Micros) -> ProtectionMode:
        """Return the protection mode at a time."""
        return self.profile.mode_at(at)

    def proxy(self) -> Remote:
        """Draw the proxy for the next connection."""
        if self.profile.local[1] is not None and self.draw() < 0.5:
            return PROXIES_V6[int(self.draw() * len(PROXIES_V6))]
        return self._proxies[int(self.draw() * 3)]

    def connect(
        self, start: Micros, remote: Remote, program: Program, *, port: int = 0, answer: bool = True
    ) -> Connection:
        """Open a connection; call `close` or `keep_open` for it, which write its endpoint records.

        A program that does not run all the time looks up the proxy's name first, unless it has a fixed source `port`. If
        `answer` is False, the other side refuses the connection.
        """
        draw = self.draw
        if remote.kind and not (program.stays or port):
            self.look_up(start, PROXY_NAME, remote.ip)
            start += LOOKED_UP
        slow = draw()
        handshake = 80 + int(slow * 3_000) if slow < 0.99 else 60_000 + int(draw() * 700_000)
        port = port or self._free_port(start)
        if program.stays:
            pid = self._pids.get(program.name) or self._pids.setdefault(program.name, self._next_pid())
        else:
            pid = self._next_pid()
        return Connection(
            start,
            start + handshake if answer else 0,
            program,
            pid,
            remote,
            port,
            self._wire(remote, port, start),
            self._cut(start),
            int(draw() * 25_000),
            draw() < self.journal.odd_share,
        )

    def emit(self, connection: Connection, at: Micros, line: str) -> bool:
        """Write a line of the network sensor, unless the sensor has an outage; return whether it was written."""
        if at >= connection.cut or (self._lost and is_in(self._lost, at)):
            return False
        put = self._put_oddly if connection.odd else self._put
        put(SURICATA, at - self._skew + connection.lag, line)
        return True

    def close(
        self,
        connection: Connection,
        end: Micros,
        app_proto: str,
        sent: int,
        received: int,
        *,
        state: str = eve.FINISHED,
        alerted: bool = False,
        dropped: bool = False,
        logged: Micros = 0,
        unanswered: str = "",
    ) -> bool:
        """End a connection: write its endpoint records and its flow record.

        `sent` and `received` are in bytes. The flow record is written after the flow timeout, or at `logged` if the
        5-tuple is used again then. `unanswered` is the http object of a request without a response, which the sensor
        logs together with the flow; return whether it was logged.
        """
        self._kernel(connection, end)
        if end - connection.start > LONG:
            self._keep_busy(connection, end)
        due = logged or end + self._timeout + int(self.draw() * 11 * MICROS)
        cut, reason, seen_until = connection.cut, "timeout", end
        if due >= cut:
            due, reason = cut + int(self.draw() * SHUTDOWN), "shutdown"
            if end >= cut:
                seen_until, state = cut, eve.ESTABLISHED
        logged_now = False
        if connection.start < cut and not (self._lost and is_in(self._lost, due)):
            wire, write = connection.wire, self._put_oddly if connection.odd else self._put
            if unanswered:
                logged_now = True
                write(SURICATA, due - self._skew, wire.http(due, 0, unanswered))
            record = wire.flow(due, seen_until, app_proto, state, reason, sent, received, alerted, dropped)
            write(SURICATA, due - self._skew, record)
        if cut < self.end and cut < end:
            self._half_seen(connection, cut, end, sent, received)
        return logged_now

    def keep_open(self, connection: Connection) -> None:
        """Write the endpoint records of a connection that stays open; it has no flow record."""
        self._kernel(connection, self.end)

    def old_tunnel(self, began: Micros, end: Micros, remote: Remote, program: Program) -> Connection:
        """Open a connection that is older than the sensors and lasts until `end`.

        The network sensor reports only its later packets, the endpoint sensor nothing.
        """
        connection = self.connect(began, remote, program)
        connection.cut = began
        if end - began > LONG:
            self._keep_busy(connection, end)
        self._half_seen(connection, began, end, 4_000, 30_000)
        return connection

    def record_request(
        self,
        connection: Connection,
        at: Micros,
        method: str,
        host: str,
        port: int,
        url: str,
        status: int | None,
        verdict: str,
        scenario: str,
        *,
        seen: bool,
        listed: bool = False,
        inner_host: str = "",
    ) -> None:
        """Record a request for the truth.

        `seen` states whether a sensor reports the request, `listed` whether its host is on the deny list. `inner_host` is
        the TLS server name inside the tunnel if it is another one. In the record, the field `at` is by a correct clock;
        the other times are by the device's clock.
        """
        seq = connection.requests
        connection.requests = seq + 1
        self._requests += 1
        self.tally["requests"] += 1
        self.tally["requests that no sensor could see"] += not seen
        if not self._truth:
            return
        request: dict[str, object] = {
            "device": self.name,
            "client_ip": self._local(connection.remote).ip,
            "client_port": connection.port,
            "proxy_ip": connection.remote.ip,
            "proxy_port": connection.remote.port,
            "method": method,
            "host": host,
            "port": port,
            "ts": sockets.stamp(at),
            "status": status,
            "verdict": verdict,
            "proxy": connection.remote.kind,
            "url": url,
            "source": "simulation",
            "pid": connection.pid,
            "process": connection.program.name,
            "user": self.profile.user,
            "conn_start": sockets.stamp(connection.established),
            "at": sockets.stamp(at - self._skew),
            "mode": str(self.mode(at)),
            "rid": f"{self.name}/{self._requests}",
            "scenario": scenario,
            "seq": seq,
            "seen": seen,
            "listed": listed,
            **({"inner_host": inner_host} if inner_host else {}),
        }
        self.journal.record(at - self._skew, PROXIED, request)

    def record_connect(
        self,
        connection: Connection,
        at: Micros,
        host: str,
        status: int | None,
        verdict: str,
        scenario: str,
        *,
        seen: bool,
        port: int = 443,
        listed: bool = False,
        inner_host: str = "",
    ) -> None:
        """Record a CONNECT, unless it was sent after the world's end."""
        if at < self.end:
            self.record_request(
                connection, at, "CONNECT", host, port, f"{host}:{port}", status, verdict, scenario,
                seen=seen, listed=listed, inner_host=inner_host,
            )  # fmt: skip

    def record_direct(self, connection: Connection, at: Micros, end: Micros, host: str) -> None:
        """Record a connection that bypasses the proxies, for the truth."""
        if self._truth:
            connected: dict[str, object] = {
                "device": self.name,
                "client_ip": self._local(connection.remote).ip,
                "client_port": connection.port,
                "server_ip": connection.remote.ip,
                "server_port": connection.remote.port,
                "host": host,
                "t0": at / MICROS,
                "t1": end / MICROS,
                "pid": connection.pid,
                "process": connection.program.name,
                "at": sockets.stamp(at - self._skew),
            }
            self.journal.record(at - self._skew, DIRECT, connected)

    def look_up(self, at: Micros, name: str, address: str) -> None:
        """Write the network sensor's lines for a DNS look-up. The parser ignores them."""
        cut = self._cut(at)
        if at >= cut or is_in(self._lost, at):
            return
        draw, skew = self.draw, self._skew
        pair = self._pair(RESOLVER)
        port, took = PORT_FIRST + int(draw() * PORT_COUNT), 200 + int(draw() * 9_000)
        lookup = Lookup(self._tail, self.interface, self._flow_id(), pair, port, at, took)
        for when, line in lookup.lines(name, address):
            if when < cut:
                self._put(SURICATA, when - skew, line)
        due = at + self._timeout + int(draw() * 11 * MICROS)
        reason = "timeout"
        if due >= cut:
            due, reason = cut + int(draw() * SHUTDOWN), "shutdown"
        if not is_in(self._lost, due):
            self._put(SURICATA, due - skew, lookup.flow(due, reason))

    def _half_seen(self, connection: Connection, since: Micros, end: Micros, sent: int, received: int) -> None:
        """Write what the network sensor reports of a connection after it was restarted: one flow record for each restart.

        The sensor sees only packets in the middle of the connection and guesses its direction, wrongly in half of the
        cases.
        """
        while since < end:
            up = max((outage.until for outage in self._down if outage.since <= since < outage.until), default=since)
            first = max(up, self._begin + self._skew) + int(self.draw() * 3 * MICROS)
            if first >= end or first >= self.end:
                return
            cut = self._cut(first)
            if cut > first:
                due = end + self._timeout + int(self.draw() * 11 * MICROS)
                reason = "timeout" if due < cut else "shutdown"
                due = due if due < cut else cut + int(self.draw() * SHUTDOWN)
                if not is_in(self._lost, due):
                    wire, turned = self._wire(connection.remote, connection.port, first), self.draw() < 0.5
                    last = min(end, cut)
                    record = wire.flow(due, last, "", eve.MIDSTREAM, reason, sent, received, turned=turned)
                    self._put(SURICATA, due - self._skew, record)
            since = max(cut, first)
            if cut >= self.end:
                return

    def _kernel(self, connection: Connection, end: Micros) -> None:
        """Write the endpoint records.

        A connection that was refused or ended soon has one record. Another one has a record when it is established and
        one when it ends, and a record of the attempt if the handshake was slow.
        """
        start, established, remote = connection.start, connection.established, connection.remote
        process, local_ip = connection.program.name, self._local(remote).ip
        head = sockets.head(self.name, connection.pid, process, local_ip, connection.port, remote)
        attempted = sockets.stamp(start)
        if not established:
            self._kernel_line(connection, end, sockets.record(head, "failed", attempted, close=sockets.stamp(end)))
            return
        opened = sockets.stamp(established)
        if end - established > FOLDED or end >= self.end:
            if established - start > FOLDED:
                self._kernel_line(connection, start, sockets.record(head, "open", attempted))
            self._kernel_line(connection, established, sockets.record(head, "success", attempted, opened))
        if end < self.end:
            self._kernel_line(connection, end, sockets.record(head, "success", attempted, opened, sockets.stamp(end)))

    def _kernel_line(self, connection: Connection, at: Micros, line: str) -> None:
        if at < self.end and not (self._kernel_lost and is_in(self._kernel_lost, at)):
            put = self._put_oddly if connection.odd else self._put
            put(SOCKETS, at - self._skew + (connection.lag >> 3), line)

    def _wire(self, remote: Remote, port: int, start: Micros) -> eve.Wire:
        return eve.Wire(self._tail, self.interface, self._flow_id(), self._pair(remote), port, start + 40)

    def _pair(self, remote: Remote) -> eve.Pair:
        pair = self._pairs.get(remote)
        if pair is None:
            pair = eve.Pair(self._local(remote), remote)
            if remote.kind:
                self._pairs[remote] = pair
        return pair

    def _local(self, remote: Remote) -> Remote:
        v4, v6 = self.profile.local
        return v6 if v6 is not None and ":" in remote.ip else v4

    def _cut(self, start: Micros) -> Micros:
        for outage in self._down:
            if start < outage.until:
                return max(outage.since, start)
        return self.end

    def _flow_id(self) -> int:
        return 1 + int(self.draw() * 2_251_799_813_685_246)

    def _next_pid(self) -> int:
        self._pid = 1_000 + (self._pid - 999 + int(self.draw() * 5)) % 60_000
        return self._pid

    def _free_port(self, now: Micros) -> int:
        while True:
            self._port = (self._port + 1) % PORT_COUNT
            port = PORT_FIRST + self._port
            if not self._busy or self._busy.get(port, 0) <= now:
                return port

    def _keep_busy(self, connection: Connection, end: Micros) -> None:
        busy = self._busy
        busy[connection.port] = end + self._timeout + REMEMBERED
        if len(busy) & 1023 == 0:
            for port in [port for port, until in busy.items() if until <= connection.start]:
                del busy[port]
