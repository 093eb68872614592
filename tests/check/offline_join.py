"""Compute the expected rows a second time, independently: from all events at once, without clock, arrival order or bounds.

Slow and simple; the tests compare the stream's rows with it. Events come from the parsers, rules from `docs/design`;
nothing of `streams` is used. An endpoint record and a network sensor's flow make one connection; then each name seen on
it becomes a destination.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.address import is_ip, split_authority
from schemas.events import (
    Action,
    ConnectionOpened,
    Event,
    FlowSummary,
    HttpExchange,
    ModeChanged,
    ProcessVerdict,
    ProtectionMode,
    ProxyDecision,
    ProxyLogged,
    TlsName,
    Verdict,
)

SECOND = 1_000_000
CLOCKS_APART = 3 * SECOND
"""The largest difference between two sensors' times of one start."""
PATIENCE = 8 * SECOND
CERTAIN = 5 * SECOND
"""Patience less lateness: only evidence within this time of a connection's start is certain at its decision."""
LOGGED_LATE = 20_000
PROXY_CLOCK, WRONG_CLOCK = 2 * SECOND, 10 * SECOND
PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
STRENGTH = ["unknown", "failed", "allowed", "audited", "warned", "bypassed", "blocked"]
"""Outcomes, weakest first."""
BEST = ["connect", "absolute_uri", "verdict", "host_header", "sni", "proxy_log", "process_time"]
"""Evidence that names a destination, best first."""

Sensed = HttpExchange | TlsName | Verdict | FlowSummary


@dataclass
class Destination:
    """A host and port that was asked for on a connection."""

    host: str
    port: int
    by: str
    outcomes: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    requests: set[object] = field(default_factory=set)
    tunnel: bool = False
    logged: list[ProxyLogged] = field(default_factory=list)


@dataclass
class Joined:
    """A connection: endpoint records, events of network sensors, and what they imply."""

    device: str
    ends: str
    kernels: list[ConnectionOpened] = field(default_factory=list)
    seen: list[Sensed] = field(default_factory=list)
    destinations: dict[tuple[str, int], Destination] = field(default_factory=dict)
    names: list[tuple[bool, int, str, str]] = field(default_factory=list)
    """Names seen on the connection itself, best first: not TLS, time, name, evidence."""
    actions: list[str] = field(default_factory=list)
    """Actions about the connection as a whole or what is inside its tunnel."""
    tunnel: Destination | None = None
    connect: bool = False
    unusable: bool = False
    proxied: bool = False

    @property
    def remote(self) -> str:
        """Return the remote end."""
        return " ".join(self.ends.split(" ")[2:])

    @property
    def flows(self) -> frozenset[str]:
        """Return the network sensors' flow ids."""
        return frozenset(event.flow.id for event in self.seen if event.flow.id)

    def of(self, *kinds: type) -> list[Any]:
        """Return the events of these kinds, in order of time."""
        return sorted((event for event in self.seen if isinstance(event, kinds)), key=lambda event: event.at)

    @property
    def flow_start(self) -> int:
        """Return the start by a network sensor; 0 where none reports it."""
        closed = [event.started for event in self.of(FlowSummary) if not event.midstream]
        starts = [start for start in closed + [event.started for event in self.of(Verdict)] if start]
        return min(starts, default=0)

    @property
    def started(self) -> int:
        """Return the start by the endpoint, else by the network sensor, else the time of the first event."""
        starts = [kernel.established or kernel.started for kernel in self.kernels]
        return starts[0] if starts else self.flow_start or min(event.at for event in self.seen)

    @property
    def ended(self) -> int:
        """Return the end; far in the future where it is unknown."""
        ends = [kernel.ended for kernel in self.kernels] or [event.ended for event in self.of(FlowSummary)]
        return max(ends, default=0) or 1 << 62

    @property
    def outer_tls(self) -> bool:
        """Return whether the client used TLS to the remote end itself."""
        hello = any(not event.tunnelled for event in self.of(TlsName))
        return not self.connect and (hello or any(event.tls for event in self.of(FlowSummary)))

    @property
    def refused(self) -> bool:
        """Return whether the handshake failed."""
        if self.kernels:
            return any(kernel.failed for kernel in self.kernels)
        closed = self.of(FlowSummary)
        return bool(closed) and not any(event.answered or event.midstream for event in closed)


def rows(device: str, events: list[Event]) -> Iterator[dict[str, object]]:
    """Yield a device's rows: connections, their destinations, and verdicts that name no connection."""
    connections = join(device, events)
    proxies = _name(connections)
    _take_proxy_logs(connections, [event for event in events if isinstance(event, ProxyLogged)], proxies)
    for joined in connections:
        _take_weak_names(joined, proxies)
    yield from _take_process_verdicts(
        device, connections, [event for event in events if isinstance(event, ProcessVerdict)]
    )
    for joined in connections:
        yield from _rows_of(joined, events)


def join(device: str, events: list[Event]) -> list[Joined]:
    """Join endpoint records and flows to connections."""
    certain = [event for event in events if isinstance(event, ConnectionOpened | HttpExchange | TlsName)]
    clients = {event.flow.key for event in certain}
    servers = {f"{event.flow.remote_ip} {event.flow.remote_port}" for event in certain}
    by_ends: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if isinstance(event, ConnectionOpened | Sensed):
            local_ip, local_port, *remote = event.flow.key.split(" ")
            turned = " ".join([*remote, local_ip, local_port])
            # The client's end of a flow that a sensor saw from the middle on is a guess.
            is_turned = event.flow.key not in clients and (turned in clients or f"{local_ip} {local_port}" in servers)
            by_ends[turned if is_turned else event.flow.key].append(event)
    return [joined for ends, those in by_ends.items() for joined in _of_ends(device, ends, those)]


def _of_ends(device: str, ends: str, events: list[Event]) -> list[Joined]:
    made: list[Joined] = []
    for record in sorted((e for e in events if isinstance(e, ConnectionOpened)), key=lambda e: e.started):
        home = next((joined for joined in made if _is_same(joined, record)), None)
        if home is None:
            made.append(home := Joined(device, ends))
        home.kernels.append(record)
    views: dict[str, Joined] = {}
    for event in events:
        if isinstance(event, Sensed):
            # Events without a flow id are separated by the endpoint's records alone.
            began = max((k.kernels[0].started for k in made if k.kernels[0].started <= event.at), default=0)
            views.setdefault(event.flow.id or f"unnamed {began}", Joined(device, ends)).seen.append(event)
    for view in sorted(views.values(), key=lambda view: (not view.flow_start, view.started)):
        home = _home(view, [joined for joined in made if joined.kernels and not joined.seen])
        if home is None:
            made.append(home := Joined(device, ends))
        home.seen += view.seen
    return made


def _is_same(joined: Joined, event: ConnectionOpened) -> bool:
    """Return whether two records are of one attempt: one sensor, same time; or two sensors, one process, within their clocks."""
    for known in joined.kernels:
        if known.event_id.partition("/")[0] == event.event_id.partition("/")[0] and known.started != event.started:
            return False
        pids = {known.process.pid, event.process.pid} - {None}
        if abs(known.started - event.started) > CLOCKS_APART or len(pids) > 1:
            return False
    return True


def _home(view: Joined, free: list[Joined]) -> Joined | None:
    """Return a flow's endpoint record: the nearest start, else the only open one, else the only one that had begun."""
    start, first = view.flow_start, min(event.at for event in view.seen)
    if start:
        near = sorted(free, key=lambda joined: abs(joined.kernels[0].started - start))
        return next((joined for joined in near if abs(joined.kernels[0].started - start) <= CLOCKS_APART), None)
    begun = [joined for joined in free if joined.kernels[0].started <= first + LOGGED_LATE]
    alive = [joined for joined in begun if first <= joined.ended + LOGGED_LATE]
    return alive[0] if len(alive) == 1 else begun[0] if len(begun) == 1 else None


def _asked(event: HttpExchange | Verdict) -> tuple[str, str, int]:
    """Return the kind of a request, and the host and port that it names."""
    if event.method == "CONNECT":
        return ("connect", *split_authority(event.target, 0))
    scheme, mark, rest = event.target.partition("://")
    if not mark or scheme.lower() not in PORTS:
        return "host_header", event.host if event.target.startswith(("/", "*")) else "", 80
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return ("absolute_uri", *split_authority(authority, PORTS[scheme.lower()]))


def _answered(status: int | None, *, connect: bool) -> str:
    if status is None or (not connect and status in (400, 408)):
        return "unknown"
    if connect:
        return "allowed" if 200 <= status < 300 else "failed"
    return "failed" if status in (403, 407) or status >= 500 else "allowed"


def _name(connections: list[Joined]) -> dict[str, bool]:
    """Name destinations by requests; return the proxies, and whether each answered as only a proxy does."""
    proxies: dict[str, bool] = {}
    for joined in connections:
        for event in joined.of(HttpExchange, TlsName, Verdict):
            if isinstance(event, TlsName):
                joined.names += [(False, event.at, event.sni, "sni")] * bool(event.sni)
            elif isinstance(event, Verdict) and not event.method:
                joined.names += [(False, event.at, event.host, "verdict")] * bool(event.host)
                joined.actions.append(str(event.action))
            else:
                _take_request(joined, event, proxies)
        joined.names.sort()
    return proxies


def _take_request(joined: Joined, event: HttpExchange | Verdict, proxies: dict[str, bool]) -> None:
    kind, host, port = _asked(event)
    connect = kind == "connect"
    action = str(event.action) if isinstance(event, Verdict) else ""
    joined.connect |= connect
    if kind == "host_header" or f"{host} {port}" == joined.remote:
        joined.names += [(True, event.at, host, "verdict" if action else kind)] * bool(host)
        joined.unusable |= not host
        joined.actions += [action] * bool(action)
        return
    if connect or host:
        tunnelled = connect and _answered(event.status, connect=True) == "allowed"
        answers = not action and (tunnelled or event.status == 407)
        proxies[joined.remote] = proxies.get(joined.remote, False) or answers
    if not host:
        joined.unusable = True
        joined.actions += [action] * bool(action)
        return
    asked = joined.destinations.setdefault((host, port), Destination(host, port, "process_time"))
    asked.by = min(asked.by, "verdict" if action else kind, key=BEST.index)
    asked.outcomes.append(action or _answered(event.status, connect=connect))
    asked.times.append(event.at)
    if not action:
        asked.requests.add((event.tx, connect, event.at))
    elif action in ("blocked", "warned"):
        asked.requests.add(event.tx)  # Several rules may stop one request; it has no other record.
    if connect:
        asked.tunnel, joined.tunnel = True, asked


def _take_proxy_logs(connections: list[Joined], lines: list[ProxyLogged], proxies: dict[str, bool]) -> None:
    """Join each access-log entry to the only connection or request that fits."""
    for line in lines:
        found = _logged_as(connections, line, PROXY_CLOCK)
        if len(found) != 1 or found != _logged_as(connections, line, WRONG_CLOCK):
            continue
        joined, destination = found[0]
        if line.client_port:
            proxies.setdefault(joined.remote, False)
        if destination is None:
            tunnel = line.method == "CONNECT"
            destination = Destination(line.host, line.port, "proxy_log", tunnel=tunnel, times=[line.started])
            joined.destinations[line.host, line.port] = destination
        destination.logged.append(line)


def _logged_as(connections: list[Joined], line: ProxyLogged, apart: int) -> list[tuple[Joined, Destination | None]]:
    """Return what fits an entry with clocks so far apart; without a destination where the entry names one itself."""
    tunnel = line.method == "CONNECT"
    found: list[tuple[Joined, Destination | None]] = []
    client = f"{line.client_ip} {line.client_port} " if line.client_port else f"{line.client_ip} "
    for joined in connections:
        ip, port = joined.remote.split(" ")
        if not joined.ends.startswith(client) or line.proxy_ip not in ("", ip) or line.proxy_port not in (0, int(port)):
            continue
        about = [d for d in joined.destinations.values() if d.host == line.host and line.port in (0, d.port)]
        if line.client_port:
            was_open = joined.started - apart <= line.started <= joined.ended + apart
            if was_open and (about or not joined.destinations or not tunnel):
                found.append((joined, about[0] if about else None))
            continue
        until = line.started if tunnel else line.at
        for destination in about:
            near = any(line.started - apart <= at <= until + apart for at in destination.times)
            if near and destination.tunnel == tunnel and destination.by in ("connect", "absolute_uri"):
                found.append((joined, destination))
    return found


def _take_weak_names(joined: Joined, proxies: dict[str, bool]) -> None:
    """Use a name seen inside as the destination where no request to a proxy names one."""
    ip = joined.remote.split(" ")[0]
    answered = any(as_proxy for remote, as_proxy in proxies.items() if remote.split(" ")[0] == ip)
    joined.proxied = joined.remote in proxies or (answered and joined.outer_tls)
    if not joined.proxied or joined.outer_tls or not joined.names:
        return
    if any(destination.by != "proxy_log" for destination in joined.destinations.values()):
        return
    plain, at, name, evidence = joined.names[0]
    if plain and (joined.connect or name == ip):
        return
    made = Destination(name, 80 if plain else 443, evidence, ["unknown" if plain else "allowed"], [at], {at}, not plain)
    joined.destinations = {(name, made.port): made}
    joined.tunnel = None if plain else made


def _take_process_verdicts(
    device: str, connections: list[Joined], verdicts: list[ProcessVerdict]
) -> Iterator[dict[str, object]]:
    """Join each process verdict to the only connection that fits, and yield its row."""
    by_identity = {(event.at, event.event_id, event.host): event for event in verdicts}
    decided: set[tuple[int, str, str]] = set()
    for key, event in sorted(by_identity.items()):
        fits = _fitting(connections, event)
        same = [
            k for k, e in by_identity.items() if (e.action, e.host) == (event.action, event.host) and k not in decided
        ]
        alike = [k for k in same if _fitting(connections, by_identity[k]) == fits]
        if key not in decided and (len(fits) == 1 or len(fits) == len(alike)):
            decided.update([key] if len(fits) == 1 else alike)
            for joined in fits:
                _judge(joined, event)
        overridden = any((other.action, other.host) == (Action.BYPASSED, event.host) for other in verdicts)
        action = Action.BYPASSED if event.action is Action.WARNED and overridden else event.action
        yield {"layer": "verdict", "device": device, "host": event.host, "at": event.at, "outcome": str(action)}


def _fitting(connections: list[Joined], event: ProcessVerdict) -> list[Joined]:
    """Return the process's connections with a request for that host then, else those to a proxy without any request."""
    those = [joined for joined in connections if _is_of(joined, event)]
    unknown = [joined for joined in those if joined.proxied and not joined.destinations and not joined.names]
    unknown = [joined for joined in unknown if event.at - PATIENCE <= joined.kernels[0].started]
    return [joined for joined in those if _was_asked(joined, event)] or unknown


def _is_of(joined: Joined, event: ProcessVerdict) -> bool:
    if not joined.kernels:
        return False
    kernel, process = joined.kernels[0], event.process
    if kernel.started > event.at + PROXY_CLOCK or joined.ended < event.at - PROXY_CLOCK:
        return False
    if None not in (kernel.process.pid, process.pid) and kernel.process.pid != process.pid:
        return False
    if kernel.process.name and process.name:
        return kernel.process.name.lower() == process.name.lower()
    return kernel.process.pid is not None and kernel.process.pid == process.pid


def _was_asked(joined: Joined, event: ProcessVerdict) -> bool:
    for destination in joined.destinations.values():
        asked_then = any(event.at - PATIENCE <= at <= event.at + CERTAIN for at in destination.times)
        if asked_then and destination.host == event.host and event.port in (0, destination.port):
            return True
    ip, port = joined.remote.split(" ")
    return event.port in (0, int(port)) and (ip == event.host or any(name[2] == event.host for name in joined.names))


def _judge(joined: Joined, event: ProcessVerdict) -> None:
    named = [destination for destination in joined.destinations.values() if destination.host == event.host]
    if not named and not any(name[2] == event.host for name in joined.names) and joined.proxied:
        named = [Destination(event.host, event.port, "process_time", times=[event.at], requests={event.at})]
        joined.destinations[event.host, event.port] = named[0]
    for destination in named:
        destination.outcomes.append(str(event.action))
    if not named:
        joined.actions.append(str(event.action))


def _rows_of(joined: Joined, events: list[Event]) -> Iterator[dict[str, object]]:
    if joined.tunnel is not None:
        joined.tunnel.outcomes += joined.actions
    process = next((kernel.process.pid for kernel in joined.kernels if kernel.process.pid is not None), None)
    base: dict[str, object] = {"device": joined.device, "ends": joined.ends, "flows": joined.flows, "process": process}
    base["kernels"] = frozenset(kernel.event_id for kernel in joined.kernels)
    outcomes = [_outcome(destination) for destination in joined.destinations.values()] + joined.actions
    blind = not joined.names and _is_blind(joined, events)
    if not joined.proxied:
        closed = joined.of(FlowSummary)
        sensed = any(event.answered or event.midstream for event in closed) or (not closed and bool(joined.names))
        reached = any(kernel.established for kernel in joined.kernels) if joined.kernels else sensed
        outcomes.append("allowed" if reached and not blind else "unknown")
    if joined.refused:
        outcomes = ["failed", *(outcome for outcome in outcomes if outcome in ("blocked", "audited"))]
    reason = _reason(joined, events, blind=blind)
    yield {**base, "layer": "connection", "reason": reason, "outcome": _strongest(outcomes)}
    for d in joined.destinations.values():
        names = {name for _, _, name, _ in joined.names} - {d.host, ""}
        other = min(names) if names and d is joined.tunnel and joined.connect and not is_ip(d.host) else ""
        row = {"layer": "destination", "host": d.host, "port": d.port or None, "by": d.by, "outcome": _outcome(d)}
        yield {**base, **row, "mismatch": other, "requests": len(d.requests) or len(d.logged) or None}


def _strongest(outcomes: Iterable[str]) -> str:
    return max(outcomes, key=STRENGTH.index, default="unknown")


def _outcome(destination: Destination) -> str:
    outcomes = destination.outcomes.copy()
    decisions = [line.decision for line in destination.logged]
    for line in destination.logged:
        served = line.decision is ProxyDecision.SERVED
        outcomes.append("failed" if not served else "allowed" if (line.status or 0) < 500 else "unknown")
    refusals = {ProxyDecision.DENIED, ProxyDecision.SIGN_IN}
    if decisions and set(decisions) <= refusals and len(decisions) >= len(destination.requests):
        outcomes = [outcome for outcome in outcomes if outcome != "allowed"]
    return _strongest(outcomes)


def _reason(joined: Joined, events: list[Event], *, blind: bool) -> str:
    if not joined.proxied:
        return "protection_off" if blind and not joined.refused else ""
    if joined.destinations:
        return ""
    if joined.outer_tls:
        return "encrypted_to_proxy"
    sensed = min((event.at for event in events if isinstance(event, Sensed)), default=0)
    if (
        any(event.midstream for event in joined.of(FlowSummary))
        or joined.started + SECOND < sensed <= joined.started + CERTAIN
    ):
        return "older_than_sensor"
    return "no_usable_request" if joined.unusable or joined.connect else "protection_off" if blind else "no_http_event"


def _is_blind(joined: Joined, events: list[Event]) -> bool:
    """Return whether the mode is off, or unknown with no HTTP-level event by then."""
    modes: list[tuple[int, str]] = []
    visible = False
    for event in events:
        visible |= (
            isinstance(event, HttpExchange | TlsName | Verdict | ProcessVerdict)
            and event.at <= joined.started + CERTAIN
        )
        if isinstance(event, ModeChanged):
            modes += [(0, event.before)] if event.before is not None else []
            modes.append((event.at, event.mode))
        elif isinstance(event, Verdict | ProcessVerdict):
            blocks = event.action is not Action.AUDITED
            modes.append((event.at, ProtectionMode.BLOCK if blocks else ProtectionMode.AUDIT))
    known = [mode for at, mode in sorted(modes) if at <= joined.started]
    return known[-1] == ProtectionMode.OFF if known else not visible
