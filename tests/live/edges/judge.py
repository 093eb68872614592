"""Hold the rows of one request against what the client and the origin know of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.events import ProtectionMode
from tests.live.edges.scenarios import FEW_PORTS, REUSE, TLS, Request

UNREPORTED = "listed, carried out, not reported"
Row = Mapping[str, Any]
Place = tuple[int, str, int]
"""The client's port, and the proxy's address and port."""


class Verdict(StrEnum):
    """What the rows of a request are worth."""

    RIGHT = "right"
    WRONG = "wrong"
    """A row contradicts what happened."""
    MISSING = "missing"
    """A request was carried out, and no row reports it."""


@dataclass(frozen=True)
class Done:
    """A request, as the client sent it and the origin received it."""

    request: Request
    place: Place
    pid: int
    names: frozenset[str]
    """What the process may be called: its name at the connect, and the one of its file."""
    path: str
    command_line: str
    is_answered: bool
    """The client received bytes, from the destination or from the proxy."""
    reached: frozenset[str]
    """The request's hosts whose address was reached."""
    is_logged: bool | None = None
    """The proxy's log states that it was carried out; None where the log does not show it."""


@dataclass
class Rows:
    """Rows of both tables by place; the latest versions."""

    connections: Mapping[Place, Sequence[Row]]
    destinations: Mapping[Place, Sequence[Row]]
    verdicts: Mapping[int, Sequence[Row]]
    """By the client's port."""
    named: Mapping[str, frozenset[Place]]
    """Where each host is named."""

    @classmethod
    def of(cls, rows: Iterable[Row], verdicts: Iterable[Row]) -> Rows:
        """Sort rows by place."""
        connections: dict[Place, list[Row]] = defaultdict(list)
        destinations: dict[Place, list[Row]] = defaultdict(list)
        for row in _latest(rows):
            place = row["LocalPort"], row["ProxyIP"] or row["RemoteIP"], row["ProxyPort"] or row["RemotePort"]
            (destinations if row["Layer"] == "destination" else connections)[place].append(row)
        by_port: dict[int, list[Row]] = defaultdict(list)
        for row in _latest(verdicts):
            by_port[row["LocalPort"] or 0].append(row)
        named: dict[str, set[Place]] = defaultdict(set)
        for place, some in destinations.items():
            for row in some:
                named[row["DestinationHost"]].add(place)
        return cls(connections, destinations, by_port, {host: frozenset(places) for host, places in named.items()})

    def of_request(self, done: Done) -> tuple[Sequence[Row], Sequence[Row], Sequence[Row]]:
        """Connections, destinations and verdicts of a request; where others had its port as well, those that name its host."""
        place, host = done.place, done.request.host
        connections, destinations = self.connections.get(place, ()), self.destinations.get(place, ())
        verdicts = self.verdicts.get(place[0], ())
        if done.request.scenario.sent != FEW_PORTS:
            return connections, destinations, verdicts
        destinations = [row for row in destinations if row["DestinationHost"] == host]
        known = {row["ConnectionId"] for row in destinations}
        connections = [row for row in connections if row["ConnectionId"] in known]
        return connections, destinations, [row for row in verdicts if row["DestinationHost"] == host]


@dataclass
class Tally:
    """The requests of one scenario in one mode."""

    mode: ProtectionMode
    name: str
    counts: Counter[Verdict] = field(default_factory=Counter)
    carried_out: int = 0
    findings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By what is wrong or missing: how often with which proxy."""
    differences: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Likewise, where a proxy's log and the origin disagree; no verdict on the rows."""

    @property
    def is_good(self) -> bool:
        """No row is wrong, and no listed request was carried out unreported."""
        return not self.counts[Verdict.WRONG] and UNREPORTED not in self.findings

    def in_words(self) -> str:
        """One line: requests, right, wrong, missing, how many were carried out, and what is not right or differs."""
        numbers = [self.counts.total(), *(self.counts[verdict] for verdict in Verdict), self.carried_out]
        notes = (*self.findings.items(), *self.differences.items())
        what = "; ".join(f"{why} ({', '.join(sorted(proxies))})" for why, proxies in notes)
        return f"{self.mode:5}  {self.name:<26} {''.join(f'{n:>9,}' for n in numbers)}  {what}".rstrip()


HEAD = f"{'mode':5}  {'scenario':<26} {'requests':>9}{'right':>9}{'wrong':>9}{'missing':>9}{'done':>9}"


def judge(all_done: Iterable[Done], rows: Rows) -> list[Tally]:
    """Count each request once, as the worst that is found of it."""
    tallies: dict[str, Tally] = {}
    for done in all_done:
        scenario, proxy = done.request.scenario.name, done.request.proxy
        tally = tallies.setdefault(scenario, Tally(done.request.mode, scenario))
        wrong, missing = set(_wrong(done, rows)), set(_missing(done, rows))
        worst = Verdict.WRONG if wrong else Verdict.MISSING if missing else Verdict.RIGHT
        tally.counts[worst] += 1
        tally.carried_out += bool(done.reached)
        if done.is_logged is not None and done.is_logged != bool(done.reached):
            tally.differences["only in the proxy's log" if done.is_logged else "not in the proxy's log"][proxy] += 1
        for why in sorted(wrong | missing):
            tally.findings[why][proxy] += 1
    return list(tallies.values())


def _wrong(done: Done, rows: Rows) -> Iterator[str]:
    """Yield what a row contradicts."""
    request = done.request
    hosts = {request.host, str(request.address), request.other}
    connections, destinations, verdicts = rows.of_request(done)
    destinations = [row for row in destinations if row["UnresolvedReason"] != "superseded"]
    if any(rows.named.get(host, frozenset()) - {done.place} for host in (request.host, str(request.address))):
        yield "named on another connection"
    for row in destinations:
        host = row["DestinationHost"]
        if host not in hosts:
            yield f"names {host.replace(str(request.number), 'N')}"
        elif done.reached and not request.scenario.hello and _same(request, host) not in done.reached:
            yield "names a host that was not reached"
        elif not done.reached and row["Outcome"] == "allowed":
            yield "allowed, and nothing was reached"
    if any(row["ResolvedBy"] == "direct" for row in connections):
        yield "direct, through a proxy"
    # Where a port was used just before, the other connection's row is another process's.
    yield from _wrong_process(done, destinations if request.scenario.sent == REUSE else [*destinations, *connections])
    blocked = [row for row in (*destinations, *connections) if row["Outcome"] == "blocked"]
    if done.is_answered and (blocked or any(row["Outcome"] == "blocked" for row in verdicts)):
        yield "blocked, and the client was answered"


def _wrong_process(done: Done, rows: Iterable[Row]) -> Iterator[str]:
    """Yield for each row whether its process or its program is not the client's."""
    for row in rows:
        if row["InitiatingProcessId"] not in (None, done.pid):
            yield "another process"
        image = row["InitiatingProcessFileName"], row.get("InitiatingProcessFolderPath", "")
        named = image[0] in ("", *done.names) and image[1] in ("", done.path)
        if not named or row.get("InitiatingProcessCommandLine", "") not in ("", done.command_line):
            yield "a later program"


def _missing(done: Done, rows: Rows) -> Iterator[str]:
    """Yield what was carried out and is not in the rows."""
    request = done.request
    connections, destinations, verdicts = rows.of_request(done)
    named = {row["DestinationHost"] for row in destinations}
    if not connections:
        yield "no connection"
        return
    if request.scenario.sent == TLS:
        if {row["UnresolvedReason"] for row in connections} != {"encrypted_to_proxy"}:
            yield "not called encrypted"
        return
    if done.reached and request.named not in named:
        if request.scenario.names:
            yield "no destination"
        elif not any(row["UnresolvedReason"] for row in connections):
            yield "no reason"
    listed = {request.host, str(request.address)} & done.reached if request.is_listed else set()
    if listed and not verdicts:
        yield UNREPORTED
    shares_its_port = request.scenario.sent in (REUSE, FEW_PORTS)
    if shares_its_port and named and all(row["InitiatingProcessId"] != done.pid for row in destinations):
        yield "no process"


def _same(request: Request, host: str) -> str:
    """The name under which the origin knows a host."""
    return request.host if host == str(request.address) else host


def _latest(rows: Iterable[Row]) -> Iterable[Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row["RecordId"] not in found or row["Version"] >= found[row["RecordId"]]["Version"]:
            found[row["RecordId"]] = row
    return found.values()
