"""Access-log entries of proxies, and their assignment to connections.

    entry ──► waits for the device's patience, so that all evidence that is not late has arrived
       │
       ▼
    with the client's port     the only connection of that 5-tuple that was open at the time; the entry may name its destination
    without it                 the only destination that this client requested at the time; the entry names nothing
    none, or several           retried after the linger of ended connections; then dropped and counted

A proxy writes an entry at the end of a request or tunnel, so the entry is usually the last evidence. An entry makes no row of its
own: without a connection it appears in no row.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.clock import MICROS
from schemas.events import Micros, ProxyDecision, ProxyLogged
from streams.alerts.policy import note_hit
from streams.assess.access_log import LOG_ENTRIES_MAX, WRONG_CLOCK, fits, fits_request, is_about, is_near
from streams.assess.assessment import identity
from streams.correlate.connections import ConnectionTable
from streams.correlate.halves import supersede
from streams.correlate.routes import ends_of
from streams.indicators.index import Match
from streams.model.access_log import AccessLogEntry, WaitingEntry
from streams.model.connection import (
    BY_CONNECT,
    BY_PROCESS,
    BY_PROXY_LOG,
    BY_URI,
    BY_VERDICT,
    DESTINATIONS_MAX,
    EVENT_IDS_MAX,
    Connection,
    Destination,
)
from streams.model.counters import Count, LogOutcome, entry_of
from streams.model.device import NEVER, PROXY_TIMER, Device, peek
from streams.model.evidence import URL_LENGTH_MAX, absolute_target

LINES_MAX = 4_096
"""Entries that wait per device. Beyond it the oldest `TOGETHER_MAX` are decided at once."""
TOGETHER_MAX = 256
TUPLES_MAX = 5_000
"""5-tuples of a device that are checked for an entry without a port. With more, no match can be shown to be the only
one."""
CHECKED_MAX = 64
"""Connections containing the entry's host that are checked for it. With more, no match can be shown to be the only one."""
TEXT_CHARS_MAX = 256
Found = tuple[str, int, int]
"""5-tuple, index among its connections, and index of the destination; `UNNAMED` if the entry itself names the
destination."""
UNNAMED = -1


class ProxyLog:
    """Store of waiting access-log entries, which decides them when they are due and joins them to their connection."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table

    def take(self, device: Device, event: ProxyLogged) -> None:
        """Store an entry until it is due; a repeated entry changes nothing. An entry without a host is only counted."""
        if not event.host:
            _count(device, LogOutcome.NO_DESTINATION)
            return
        record = identity(event.event_id, str(event.at), event.client_ip, str(event.client_port), event.host)
        if record in device.waiting_entries:
            return
        if len(device.waiting_entries) >= LINES_MAX:
            for oldest in _by_time(device)[:TOGETHER_MAX]:
                self._decide(device, oldest, device.state.event_time, last=True)
        entry = _logged(event)
        waiting = WaitingEntry(entry, event.client_ip, event.client_port, event.proxy_ip, event.proxy_port, 0)
        matches = self._table.policy.match(
            device, entry.host, entry.port, "" if entry.tunnel else entry.url, "", entry.started,
            encrypted=entry.tunnel,
        )  # fmt: skip
        waiting.candidates = [(match.indicator, match.partial) for match in matches]
        device.waiting_entries[record] = waiting
        # One second more, so that a connection that began with the request is decided first.
        due = min(event.at, device.state.event_time) + self._table.patience + MICROS
        self._wait(device, record, max(due, device.state.event_time))

    def wake(self, device: Device, second: int) -> None:
        """Decide entries that are due by a second of the device's clock."""
        for record in _by_time(device, second):
            self._decide(device, record, second * MICROS)

    def finish(self, device: Device) -> None:
        """Decide all entries, as at the end of a recording."""
        for record in _by_time(device):
            self._decide(device, record, device.state.event_time, last=True)

    def _wait(self, device: Device, record: str, until: Micros) -> None:
        waiting = device.waiting_entries[record]
        waiting.due = -(-until // MICROS)
        device.wake_at(waiting.due, PROXY_TIMER)
        device.touched_entries[record] = None

    def _decide(self, device: Device, record: str, now: Micros, *, last: bool = False) -> None:
        waiting = device.waiting_entries[record]
        found = self._by_port(device, waiting) if waiting.client_port else self._by_request(device, waiting)
        # Later one of several candidates may have left the state, and another would wrongly look like the only one.
        all_there = waiting.entry.at - 2 * WRONG_CLOCK + self._table.linger
        doubtful = waiting.client_port == 0 and now >= all_there
        if len(found) != 1 and not (last or waiting.last or doubtful):
            waiting.last = True
            due = waiting.due * MICROS + self._table.linger
            self._wait(device, record, min(due, all_there - MICROS) if found or not waiting.client_port else due)
            return
        del device.waiting_entries[record]
        device.touched_entries[record] = None
        if len(found) == 1 and not doubtful:
            self._join(device, waiting, *found[0])
        else:
            _count(device, LogOutcome.AMBIGUOUS if found else LogOutcome.NO_CONNECTION)

    def _by_port(self, device: Device, waiting: WaitingEntry) -> list[Found]:
        """Return the connections from the client's port that the entry may be about; only a single one is certain.

        They were open at the time and requested the host, or have no known destination and may have requested it. If a clock
        is wrong, the entry may be about a connection that was open shortly before or after; such connections are returned too.
        """
        entry = waiting.entry
        exact = f"{waiting.client_ip} {waiting.client_port} {waiting.proxy_ip} {waiting.proxy_port}"
        straight = exact in device.connections
        asked: list[Found] = []
        unnamed: list[Found] = []
        named: list[Found] = []
        doubts: list[Found] = []
        for key in [exact] if straight else self._to_known_proxies(device, waiting):
            for number, connection in enumerate(peek(device.connections[key])):
                of_it = [i for i, d in enumerate(connection.destinations) if is_about(entry, d) and not d.superseded]
                if not fits(connection, entry):
                    if fits(connection, entry, WRONG_CLOCK) and (of_it or not connection.live):
                        doubts.append((key, number, UNNAMED))
                    continue
                asked += ((key, number, index) for index in of_it)
                if not of_it:
                    (unnamed if _may_name(connection, entry) else named).append((key, number, UNNAMED))
        if asked:
            return [*asked, *unnamed, *doubts]
        if waiting.proxy_ip and not straight:
            return []
        return [*unnamed, *named, *doubts] if unnamed or len(named) > 1 else []

    def _to_known_proxies(self, device: Device, waiting: WaitingEntry) -> list[str]:
        """Return the 5-tuples from the client's port to known proxies.

        Used if the log's own address is missing or is not the one that the client connects to.
        """
        known = dict.fromkeys([*device.state.proxies, *self._table.proxies])
        if f"{waiting.proxy_ip} {waiting.proxy_port}" in known:
            return []  # Clients connect to this address, and no sensor reported such a connection.
        port = "" if waiting.proxy_ip or not waiting.proxy_port else f" {waiting.proxy_port}"
        keys = (f"{waiting.client_ip} {waiting.client_port} {remote}" for remote in known if remote.endswith(port))
        return [key for key in keys if key in device.connections]

    def _by_request(self, device: Device, waiting: WaitingEntry) -> list[Found]:
        """Return the destinations that this client requested at the time; an empty list if there is none.

        Further destinations that the entry may be about are appended, as no match is certain if they exist.
        """
        found: list[Found] = []
        possible: list[Found] = []
        if len(device.connections) > TUPLES_MAX:
            return found
        entry = waiting.entry
        for checked, (key, number, connection) in enumerate(self._containing(device, waiting.client_ip, entry.host)):
            if checked >= CHECKED_MAX:
                return []
            _, _, proxy_ip, proxy_port, _ = ends_of(key)
            if waiting.proxy_ip not in ("", proxy_ip) or waiting.proxy_port not in (0, proxy_port):
                continue
            for index, destination in enumerate(connection.destinations):
                if is_about(entry, destination) and destination.by in (BY_CONNECT, BY_URI):
                    if fits_request(connection, destination, entry):
                        found.append((key, number, index))
                    elif destination.tunnel == entry.tunnel and (
                        is_near(destination, entry, WRONG_CLOCK) or _may_be_forgotten(destination, entry)
                    ):
                        possible.append((key, number, index))
        return [*found, *possible] if found else []

    @staticmethod
    def _containing(device: Device, client_ip: str, host: str) -> Iterator[tuple[str, int, Connection]]:
        """Yield a client's connections that have this host among their destinations, as 5-tuple, index and connection.

        Connections at rest are searched without unpacking them.
        """
        name, start = host.encode(), f"{client_ip} "
        for key, connections in device.connections.items():
            if key.startswith(start) and (not isinstance(connections, bytes) or name in connections):
                for number, connection in enumerate(peek(connections)):
                    yield key, number, connection

    def _join(self, device: Device, waiting: WaitingEntry, key: str, number: int, index: int) -> None:
        connections = device.connections_of(key)
        assert connections is not None, "it was just looked at"
        connection, entry = connections[number], waiting.entry
        destination = None if index == UNNAMED else connection.destinations[index]
        if entry in connection.log_entries:
            return
        if len(connection.log_entries) >= LOG_ENTRIES_MAX:
            _count(device, LogOutcome.TOO_MANY)
            return
        connection.log_entries = (*connection.log_entries, entry)
        connection.last = max(connection.last, min(entry.at, device.state.event_time))
        if waiting.client_port:
            self._table.is_a_proxy(device, key, connection)
        if destination is None and entry.port:
            self._name(connection, waiting)
        elif destination is not None and destination.by == BY_PROXY_LOG:
            _count_hit(destination, waiting)
            destination.first, destination.url = min((destination.first, destination.url), (entry.started, entry.url))
        if connection.decided:
            self._table.promote(device, key, connection)
        self._table.changed(device, key)
        _count(device, LogOutcome.JOINED)

    @staticmethod
    def _name(connection: Connection, waiting: WaitingEntry) -> None:
        """Set the connection's destination from the entry, as there is no other evidence of it."""
        entry = waiting.entry
        for named in connection.destinations:
            if is_about(entry, named):  # An entry that named the destination before may no longer fit.
                named.superseded = False
                named.evidence += 1
                break
        else:
            if len(connection.destinations) >= DESTINATIONS_MAX:
                connection.unreadable += 1
                return
            named = Destination(entry.host, entry.port, BY_PROXY_LOG, entry.started, entry.url, entry.tunnel)
            connection.destinations.append(named)
        for guessed in connection.destinations:
            # A proxy does not log a request that was stopped on a persistent plain-text connection: its entries for
            # other requests do not contradict the verdict.
            if guessed.by == BY_PROCESS and guessed is not named and (entry.tunnel or guessed.host == named.host):
                supersede(guessed)
        _count_hit(named, waiting)


def _count(device: Device, outcome: LogOutcome) -> None:
    device.state.counts.count(entry_of(Count.PROXY_LOG, outcome))


def _by_time(device: Device, second: int = NEVER) -> list[str]:
    """Return the ids of entries that are due by a second, the oldest first.

    The order does not depend on a restart between their arrivals.
    """
    due = ((waiting.due, record) for record, waiting in device.waiting_entries.items() if waiting.due <= second)
    return [record for _, record in sorted(due)]


def _count_hit(destination: Destination, waiting: WaitingEntry) -> None:
    if waiting.candidates:
        entry = waiting.entry
        matches = tuple(Match(*one) for one in waiting.candidates)
        note_hit(destination.hits, matches, entry.host, entry.port, entry.started, entry.event_id)


def _may_be_forgotten(destination: Destination, entry: AccessLogEntry) -> bool:
    """Return whether the entry may be about a later request whose time is not stored (`EVENT_IDS_MAX`)."""
    times = destination.event_ids
    return len(times) >= EVENT_IDS_MAX and entry.at >= times[-1][0]


def _may_name(connection: Connection, entry: AccessLogEntry) -> bool:
    """Return whether the entry may name a destination of the connection.

    A tunnel has one end, and a sensor's evidence of that end outweighs the log.
    """
    named = [d for d in connection.destinations if not d.superseded and d.by < BY_PROXY_LOG]
    if entry.tunnel or connection.connect:
        return not named
    return all(d.by <= BY_VERDICT and not d.tunnel for d in named)


def _logged(event: ProxyLogged) -> AccessLogEntry:
    tunnel = event.method == "CONNECT"
    url = f"{event.host}:{event.port}" if tunnel else absolute_target(event.target)[2]
    return AccessLogEntry(
        event.at,
        min(event.started or event.at, event.at),
        event.host,
        event.port,
        url or f"{event.host}:{event.port}"[:URL_LENGTH_MAX],
        tunnel,
        event.status or 0,
        event.decision if event.decision in ProxyDecision else ProxyDecision.FAILED,
        event.upstream_ip,
        -1 if event.bytes_sent is None else event.bytes_sent,
        -1 if event.bytes_received is None else event.bytes_received,
        event.user[:TEXT_CHARS_MAX],
        event.proxy[:TEXT_CHARS_MAX],
        event.event_id,
        event.client_port > 0,
    )
