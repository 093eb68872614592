"""Process verdicts, which name a process and a destination but no connection (Defender 1125 and 1126), and their connections.

    verdict ──► row and alert at once, without a connection
       │ after the device's patience
       ▼
    exactly one connection of that process requested that host              joined: the connection's rows get the outcome
    as many connections as there are equal verdicts requested it            each verdict is joined to one of them
    no connection did, and exactly one went through a proxy to an unknown   joined, and the verdict names the destination
    host
    otherwise, or with too many connections to check                        not joined, with the reason

A join by process and time is an inference, and its confidence is `inferred`. A warning that the user dismissed becomes
`bypassed`.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros, Process, ProcessVerdict
from schemas.tables import Confidence
from streams.alerts.findings import Finding, kind_of
from streams.alerts.folding import fold, withdraw
from streams.assess.assessment import Route, connection_id, identity, outcome_of
from streams.correlate.connections import ConnectionTable
from streams.correlate.program_index import keys_of
from streams.correlate.routes import ends_of
from streams.model.connection import (
    AUDITED,
    BLOCKED,
    BY_PROCESS,
    BYPASSED,
    EVENT_IDS_MAX,
    WARNED,
    Connection,
    Destination,
    Guess,
    TupleConnections,
)
from streams.model.device import VERDICT_TIMER, Device, peek
from streams.model.evidence import add_destination
from streams.model.protection import RequestVerdict, UnattributedVerdict

UNATTRIBUTED_MAX = 256
"""Maximum number of verdicts stored per device. Beyond it the oldest is decided at once and removed."""
KEPT: Micros = 600 * MICROS
"""Microseconds for which a verdict is stored after its time, to recognise repeats and the user's answer to a warning."""
CANDIDATES_MAX = 2_000
"""Connections of the verdict's program that are checked. If there are more, the verdict is `ambiguous`."""
SET_MAX = 16
"""Verdicts joined to as many connections at once. In a larger set each verdict stays without a connection."""
SLACK: Micros = 2 * MICROS
"""Microseconds by which the clocks of the verdict's source and of the endpoint record's source may differ."""
NO_CONNECTION, AMBIGUOUS = "no_connection", "ambiguous"


class ProcessVerdicts:
    """Store of process verdicts, which decides them when they are due and folds them into alerts."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table

    def take(self, device: Device, event: ProcessVerdict, bits: int) -> None:
        """Apply a verdict; a repeat changes nothing."""
        state = device.state
        record = identity(device.name, "process verdict", event.event_id, str(event.at), event.host)
        if any(known.record == record for known in state.unattributed):
            return
        while len(state.unattributed) >= UNATTRIBUTED_MAX:
            if not state.unattributed[0].decided:
                self._decide(device, state.unattributed[0])
            del state.unattributed[0]
        matches = self._table.policy.match(device, event.host, event.port, event.url, "", event.at, encrypted=False)
        verdict = RequestVerdict(
            event.at, event.host, event.port, 0, False, bits, event.url, event.title, event.category, event.event_id,
            1, event.at, 0, event.category_group, Confidence.INFERRED, [(m.indicator, m.partial) for m in matches],
        )  # fmt: skip
        due = -(-(min(event.at, state.event_time) + self._table.patience) // MICROS)
        unattributed = UnattributedVerdict(event.at, bits, event.process, verdict, record, due)
        state.unattributed.append(unattributed)
        device.wake_at(due, VERDICT_TIMER)
        self._follow_warning(device, unattributed)
        self._fold(device, unattributed, None)

    def wake(self, device: Device, second: int) -> None:
        """Decide verdicts that are due by a second of the device's clock, and forget old ones."""
        unattributed = device.state.unattributed
        for one in sorted((one for one in unattributed if not one.decided and one.due <= second), key=_turn):
            if not one.decided:  # May be decided already, in one set with an earlier verdict.
                self._decide(device, one)
        unattributed[:] = [one for one in unattributed if not one.decided or one.at + KEPT > second * MICROS]

    def finish(self, device: Device) -> None:
        """Join all waiting verdicts to a connection, or leave them without one, as at the end of a recording."""
        for one in sorted(device.state.unattributed, key=_turn):
            if not one.decided:
                self._decide(device, one)

    def retract(self, device: Device, key: str, connection: Connection, host: str) -> None:
        """Retract the verdicts that were joined to a connection for `host`, as it asked for another host.

        They stay without a connection.
        """
        joined = connection_id(self._table.route(device, key, connection), connection)
        for unattributed in device.state.unattributed:
            if unattributed.connection == joined and unattributed.verdict.host == host:
                unattributed.connection, unattributed.why, unattributed.retracted = "", NO_CONNECTION, True
                for counted in unattributed.counted.values():
                    withdraw(device, counted)
                unattributed.counted.clear()
                self._fold(device, unattributed, None)

    def _follow_warning(self, device: Device, unattributed: UnattributedVerdict) -> None:
        """Combine a warning and the user's decision on it into one request."""
        for other in device.state.unattributed:
            warned, clicked = (other, unattributed) if other.flags & WARNED else (unattributed, other)
            if (
                other is not unattributed
                and warned.flags & WARNED
                and clicked.flags & BYPASSED
                and not clicked.flags & WARNED
                and warned.verdict.host == clicked.verdict.host
                and warned.at <= clicked.at < warned.at + KEPT
                and _same_process(warned.process, clicked.process)
            ):
                warned.flags |= BYPASSED
                clicked.follows = True
                self._fold(device, clicked, None)
                self._fold(device, warned, None)
                return

    def _decide(self, device: Device, unattributed: UnattributedVerdict) -> None:
        named: list[tuple[str, int]] = []
        unnamed: list[tuple[str, int]] = []
        candidates = _candidates(device, [unattributed])
        for key, number, connection in candidates or ():
            if _fits(connection, unattributed):
                if self._asked(key, connection, unattributed):
                    named.append((key, number))
                elif self._may_be_it(device, key, connection, unattributed):
                    unnamed.append((key, number))
        found = named or unnamed
        together = [unattributed] if len(found) == 1 else self._set_of(device, unattributed, named)
        if not together:
            unattributed.decided = True
            unattributed.why = NO_CONNECTION if candidates is not None and not found else AMBIGUOUS
            self._fold(device, unattributed, None)
            return
        connections = [(key, _held(device, key)[number]) for key, number in found]
        for one, (key, connection) in zip(together, sorted(connections, key=_begun), strict=True):
            one.decided = True
            self._join(device, key, connection, one)

    def _set_of(
        self, device: Device, unattributed: UnattributedVerdict, named: list[tuple[str, int]]
    ) -> list[UnattributedVerdict]:
        """Return the verdicts that belong to exactly these connections, one each; an empty list if that is uncertain.

        It does not matter which verdict belongs to which connection. All verdicts that fit one of the connections count, and each
        must fit all of them and no other. Verdicts later than the horizon do not count, as some may still be missing: so the
        order of arrival has no effect.
        """
        connections = [(key, _held(device, key)[number]) for key, number in named]
        until = unattributed.at + self._table.horizon
        about = [
            one
            for one in device.state.unattributed
            if one.at <= until and any(self._is_about(one, key, connection) for key, connection in connections)
        ]
        if len(about) != len(named) or len(about) > SET_MAX:
            return []
        # A click on one of several warnings applies to that one only.
        if unattributed.verdict.flags not in (BLOCKED, AUDITED) or any(
            not _is_equal(one, unattributed) for one in about
        ):
            return []
        wanted = set(named)
        candidates = _candidates(device, about)
        if candidates is None:
            return []
        for key, number, connection in candidates:
            fitting = sum(self._is_about(one, key, connection) for one in about)
            if fitting != (len(about) if (key, number) in wanted else 0):
                return []
        return sorted(about, key=_turn)

    def _join(self, device: Device, key: str, connection: Connection, unattributed: UnattributedVerdict) -> None:
        verdict, table = unattributed.verdict, self._table
        if not self._asked(key, connection, unattributed):
            evidence = (unattributed.at, verdict.event_id)
            target = verdict.url or verdict.host
            add_destination(
                connection,
                BY_PROCESS,
                verdict.host,
                verdict.port,
                target,
                unattributed.flags,
                evidence,
                None,
                tunnel=False,
            )
        if any(known.host == verdict.host for known in connection.verdicts):
            unattributed.follows = True  # Another sensor's verdict on the same request names the connection.
        connection.guesses += (Guess(unattributed.at, verdict.host, unattributed.flags, not unattributed.follows),)
        route = table.route(device, key, connection)
        unattributed.connection = connection_id(route, connection)
        table.changed(device, key)
        self._fold(device, unattributed, route)

    def _fold(self, device: Device, unattributed: UnattributedVerdict, route: Route | None) -> None:
        device.unattributed_changed = True
        verdict = unattributed.verdict
        indicator, partial = verdict.candidates[0] if verdict.candidates else (None, False)
        finding = Finding(
            "v",
            kind_of(unattributed.flags),
            verdict.host,
            verdict.port,
            unattributed.at,
            unattributed.at,
            1,
            1 + unattributed.decided,
            verdict.title,
            verdict.category,
            (verdict.event_id,),
            outcome_of(unattributed.flags),
            Confidence.INFERRED if unattributed.connection else Confidence.EXACT,
            indicator,
            partial,
        )
        fold(device, route, unattributed.process, unattributed.counted, [] if unattributed.follows else [finding])

    def _is_about(self, unattributed: UnattributedVerdict, key: str, connection: Connection) -> bool:
        return _fits(connection, unattributed) and self._asked(key, connection, unattributed)

    def _asked(self, key: str, connection: Connection, unattributed: UnattributedVerdict) -> bool:
        """Return whether the connection requested the verdict's host and port at the time.

        They may be one of its destinations, its remote end, or a name observed on it.
        """
        verdict = unattributed.verdict
        for destination in connection.destinations:
            if (
                destination.host == verdict.host
                and verdict.port in (0, destination.port)
                and self._asked_then(destination, unattributed.at)
            ):
                return True
        _, _, remote_ip, remote_port, _ = ends_of(key)
        is_observed = remote_ip == verdict.host or any(observed.name == verdict.host for observed in connection.names)
        return is_observed and verdict.port in (0, remote_port)

    def _asked_then(self, destination: Destination, at: Micros) -> bool:
        """Return whether the verdict may be about one of the destination's requests.

        Of many requests, the times of later ones are not stored. Requests later than the horizon do not count, as some
        may still be missing when the verdict is decided.
        """
        since, until = at - self._table.patience, at + self._table.horizon
        times = [destination.first, *(when for when, _ in destination.event_ids)]
        forgotten = len(destination.event_ids) >= EVENT_IDS_MAX and at >= times[-1]
        return forgotten or any(since <= when <= until for when in times)

    def _may_be_it(self, device: Device, key: str, connection: Connection, unattributed: UnattributedVerdict) -> bool:
        """Return whether the connection went to a proxy at the time and has no known destination."""
        endpoint = connection.endpoint
        assert endpoint is not None, "only a connection with a process fits"
        return (
            not connection.destinations
            and not connection.names
            and unattributed.at - self._table.patience <= endpoint.started
            and self._table.route(device, key, connection).proxied
        )


def _candidates(device: Device, verdicts: list[UnattributedVerdict]) -> list[tuple[str, int, Connection]] | None:
    """Return the connections of the verdicts' programs; None if there are more than `CANDIDATES_MAX`.

    Each item is a 5-tuple, the index among its connections, and the connection.
    """
    keys = dict.fromkeys(key for unattributed in verdicts for key in keys_of(device, unattributed.process))
    found = []
    for key in keys:
        for number, connection in enumerate(peek(device.connections[key])):
            endpoint = connection.endpoint
            if endpoint is not None and any(
                _same_process(endpoint.process, unattributed.process) for unattributed in verdicts
            ):
                found.append((key, number, connection))
                if len(found) > CANDIDATES_MAX:
                    return None
    return found


def _turn(unattributed: UnattributedVerdict) -> tuple[Micros, str]:
    return unattributed.at, unattributed.record


def _begun(found: tuple[str, Connection]) -> tuple[Micros, str]:
    key, connection = found
    return connection.started, key


def _held(device: Device, key: str) -> TupleConnections:
    connections = device.connections_of(key)
    assert connections is not None, "it was just looked at"
    return connections


def _is_equal(one: UnattributedVerdict, other: UnattributedVerdict) -> bool:
    """Return whether `one` has the same flags and host as `other`, and is not decided yet."""
    return not one.decided and (one.verdict.flags, one.verdict.host) == (other.verdict.flags, other.verdict.host)


def _fits(connection: Connection, unattributed: UnattributedVerdict) -> bool:
    """Return whether the connection belongs to the verdict's process and was open then."""
    endpoint = connection.endpoint
    return (
        endpoint is not None
        and endpoint.started <= unattributed.at + SLACK
        and (not connection.ended or connection.ended >= unattributed.at - SLACK)
        and _same_process(endpoint.process, unattributed.process)
    )


def _same_process(one: Process, other: Process) -> bool:
    if one.pid is not None and other.pid is not None and one.pid != other.pid:
        return False
    if one.name and other.name:
        return one.name.lower() == other.name.lower()
    return one.pid is not None and one.pid == other.pid
