"""What happens on a device: each function is one errand of a program, from its first connection to its last.

Each writes what the sensors would say of it (`Device.say`, `Device.close`) and what really happened (`Device.tell`).
"""

from __future__ import annotations

from collections.abc import Callable

from producers.simulation import eve
from producers.simulation.device import Connection, Device
from producers.simulation.fleet import (
    AGENT,
    BROWSERS,
    LISTED,
    PATHS,
    PROXY_NAME,
    RESOLVER,
    SERVERS,
    SITES,
    STRANGERS,
    TLS_PROXY,
    TOOLS,
    Listed,
    Program,
    Remote,
)
from schemas.clock import MICROS
from schemas.events import Micros, ProtectionMode

HTTP, TLS, TUNNELLED, NOTHING = (
    '"app_proto":"http",',
    '"app_proto":"tls",',
    '"app_proto":"tls","app_proto_orig":"http",',
    "",
)
DROPS_MAX = 8
"""Packets that a client sends into a dropped flow before it gives up."""

Errand = Callable[[Device, Micros], None]


def page(device: Device, start: Micros) -> None:
    """A browser opens a page: several connections at once."""
    draw = device.draw
    program = BROWSERS[int(draw() * 2)]
    proxy = device.proxy()
    for _ in range(2 + int(draw() * 4)):
        start += int(draw() * 120_000)
        if draw() < 0.8:
            tunnel(device, start, program, proxy)
        else:
            keep_alive(device, start, program, proxy)


def one_tunnel(device: Device, start: Micros) -> None:
    """A tool or an agent fetches something over HTTPS."""
    draw = device.draw
    tunnel(device, start, AGENT if draw() < 0.2 else TOOLS[int(draw() * len(TOOLS))], device.proxy())


def one_keep_alive(device: Device, start: Micros) -> None:
    """A tool fetches several things over plain HTTP."""
    keep_alive(device, start, TOOLS[int(device.draw() * len(TOOLS))], device.proxy())


def tunnel(
    device: Device, start: Micros, program: Program, proxy: Remote, *, host: str = "", scenario: str = "tunnel"
) -> None:
    """CONNECT, then TLS for as long as it takes."""
    if start >= device.end:
        return
    draw = device.draw
    connection = device.connect(start, proxy, program)
    wire, host = connection.wire, host or SITES[int(draw() * len(SITES))]
    asked, answered = _answered(device, connection.established)
    seen = device.say(connection, answered, wire.http(answered, 0, eve.connect(host, 443, program.agent, 200)))
    hello = answered + 900 + int(draw() * 4_000)
    if hello < device.end:
        device.say(connection, hello, wire.tls(hello, host, tunnelled=True))
    if asked < device.end:
        device.tell(connection, asked, "CONNECT", host, 443, f"{host}:443", 200, "allowed", scenario, seen=seen)
    end = hello + _length(device)
    device.close(connection, end, TUNNELLED, 2_600 + int(draw() * 3_000), 3_700 + int(draw() * 90_000))
    device.tally[f"connections: {scenario}"] += 1


def keep_alive(device: Device, start: Micros, program: Program, proxy: Remote, listed: Listed | None = None) -> None:
    """Plain HTTP to several hosts over one connection; a listed one comes last, as that may be its end."""
    if start >= device.end:
        return
    draw = device.draw
    scenario = "listed_plain" if listed else "keep_alive"
    connection = device.connect(start, proxy, program)
    at, sent, received = connection.established, 0, 0
    hosts = SITES[int(draw() * len(SITES))], SITES[int(draw() * len(SITES))], SITES[int(draw() * len(SITES))]
    for tx in range(1 + int(draw() * draw() * 9)):
        asked, at = _answered(device, at)
        if asked >= device.end:
            break
        host, (path, kind) = hosts[int(draw() * 3)], PATHS[int(draw() * len(PATHS))]
        url, size = f"http://{host}{path}?r={asked % 1_000_000}", 60 + int(draw() * 8_000)
        failed = draw()
        status = 200 if failed > 0.1 else 404 if failed > 0.04 else 304 if failed > 0.02 else 503
        exchange = eve.get(host, url, program.agent, kind, status, size)
        seen = _exchange(device, connection, at, tx, exchange, path, size if status != 304 else 0)
        verdict = "failed" if status == 503 else "allowed"
        device.tell(connection, asked, "GET", host, 80, url, status, verdict, scenario, seen=seen)
        sent, received = sent + 330, received + 300 + size
        at += int(draw() * draw() * 2 * MICROS)
    alerted = dropped = False
    if listed is not None and at < device.end:
        alerted, dropped, at = _listed_request(device, connection, listed, at)
    end = at + 300 + int(draw() * 4_000_000 * draw())
    state = eve.ESTABLISHED if dropped else eve.FINISHED
    device.close(connection, end, HTTP, sent + 400, received + 200, state=state, alerted=alerted, dropped=dropped)
    device.tally[f"connections: {scenario}"] += 1


def listed_plain(device: Device, start: Micros) -> None:
    """A plain request to a listed domain after others on the same connection."""
    listed = LISTED[int(device.draw() * len(LISTED))]
    keep_alive(device, start, TOOLS[int(device.draw() * len(TOOLS))], device.proxy(), listed)


def listed_tunnel(device: Device, start: Micros) -> None:
    """A tunnel to a listed domain; what is stopped is tried again."""
    draw = device.draw
    listed, program, proxy = LISTED[int(draw() * len(LISTED))], TOOLS[int(draw() * len(TOOLS))], device.proxy()
    for _ in range(1 + int(draw() * 3)):
        if start >= device.end:
            return
        end, stopped = _try_listed(device, start, listed, program, proxy)
        if not stopped:
            return
        device.tally["retries"] += 1
        start = end + 500_000 + int(draw() * 2 * MICROS)


def asked_to_log_in(device: Device, start: Micros) -> None:
    """The proxy wants a password; CONNECT is asked again on the same connection."""
    draw = device.draw
    program = TOOLS[int(draw() * len(TOOLS))]
    connection = device.connect(start, device.proxy(), program)
    at, host = connection.established, SITES[int(draw() * len(SITES))]
    for tx, status in enumerate((407, 200)):
        asked, at = _answered(device, at)
        line = connection.wire.http(at, tx, eve.connect(host, 443, program.agent, status))
        seen = device.say(connection, at, line)
        if asked < device.end:
            verdict = "auth_required" if status == 407 else "allowed"
            device.tell(connection, asked, "CONNECT", host, 443, f"{host}:443", status, verdict, "log_in", seen=seen)
    device.close(connection, at + _length(device), HTTP, 3_407, 7_861)
    device.tally["connections: log_in"] += 1


def refused(device: Device, start: Micros) -> None:
    """The proxy refuses or fails; the program tries again, at last with success."""
    draw = device.draw
    program, proxy, host = TOOLS[int(draw() * len(TOOLS))], device.proxy(), SITES[int(draw() * len(SITES))]
    for _ in range(1 + int(draw() * 2)):
        if start >= device.end:
            return
        connection = device.connect(start, proxy, program)
        status = (403, 502, 503, 504)[int(draw() * 4)]
        asked, answered = _answered(device, connection.established)
        line = connection.wire.http(answered, 0, eve.connect(host, 443, program.agent, status))
        seen = device.say(connection, answered, line)
        if asked < device.end:
            verdict = "denied" if status == 403 else "failed"
            device.tell(connection, asked, "CONNECT", host, 443, f"{host}:443", status, verdict, "refused", seen=seen)
        end = answered + 500 + int(draw() * 20_000)
        device.close(connection, end, HTTP, 480, 3_600)
        device.tally["connections: refused"] += 1
        device.tally["retries"] += 1
        start = end + 300_000 + int(draw() * 1_500_000)
    tunnel(device, start, program, proxy, host=host, scenario="retried")


def plain_in_tunnel(device: Device, start: Micros) -> None:
    """CONNECT to port 80 and plain HTTP inside: the sensor counts its transactions from 0 again."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], SITES[int(draw() * len(SITES))]
    connection = device.connect(start, device.proxy(), program)
    asked, at = _answered(device, connection.established)
    line = connection.wire.http(at, 0, eve.connect(host, 80, program.agent, 200))
    seen = device.say(connection, at, line)
    if asked < device.end:
        device.tell(connection, asked, "CONNECT", host, 80, f"{host}:80", 200, "allowed", "plain_in_tunnel", seen=seen)
    for tx in range(1 + int(draw() * 3)):
        _, at = _answered(device, at)
        (path, kind), size = PATHS[int(draw() * len(PATHS))], 50 + int(draw() * 5_000)
        exchange = eve.get(host, f"{path}?r={at % 1_000_000}", program.agent, kind, 200, size)
        _exchange(device, connection, at, tx, exchange, path, size)
    device.close(connection, at + 2_000 + int(draw() * 90_000), HTTP, 900, 7_000)
    device.tally["connections: plain_in_tunnel"] += 1


def fronted(device: Device, start: Micros) -> None:
    """Domain fronting: another name inside the tunnel than the one asked of the proxy."""
    draw = device.draw
    host, inner = SITES[int(draw() * len(SITES))], f"c2-{int(draw() * 9)}.hidden.example"
    program = TOOLS[int(draw() * len(TOOLS))]
    connection = device.connect(start, device.proxy(), program)
    asked, answered = _answered(device, connection.established)
    line = connection.wire.http(answered, 0, eve.connect(host, 443, program.agent, 200))
    seen = device.say(connection, answered, line)
    hello = answered + 900 + int(draw() * 4_000)
    if hello < device.end:
        device.say(connection, hello, connection.wire.tls(hello, inner, tunnelled=True))
    if asked < device.end:
        device.tell(
            connection,
            asked,
            "CONNECT",
            host,
            443,
            f"{host}:443",
            200,
            "allowed",
            "fronted",
            seen=seen,
            inner_host=inner,
        )
    device.close(connection, hello + _length(device), TUNNELLED, 2_722, 9_000)
    device.tally["connections: fronted"] += 1


def address_asked(device: Device, start: Micros) -> None:
    """CONNECT to an address; only the name inside the tunnel tells more."""
    draw = device.draw
    program, server = TOOLS[int(draw() * len(TOOLS))], SERVERS[int(draw() * len(SERVERS))]
    tunnel(device, start, program, device.proxy(), host=server.ip, scenario="address")


def unanswered(device: Device, start: Micros) -> None:
    """The proxy never answers: the sensor logs the request only with the flow."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], f"dead-{int(draw() * 90)}.example"
    connection = device.connect(start, device.proxy(), program)
    asked, _ = _answered(device, connection.established)
    end = asked + int((2 + 28 * draw()) * MICROS)
    seen = device.close(connection, end, HTTP, 380, 140, unanswered=eve.connect(host, 443, program.agent, None))
    if asked < device.end:
        device.tell(connection, asked, "CONNECT", host, 443, f"{host}:443", None, "aborted", "unanswered", seen=seen)
    device.tally["connections: unanswered"] += 1


def same_port(device: Device, start: Micros) -> None:
    """A program with a fixed source port: the 5-tuple comes again at once, and the flow is logged because of that."""
    draw = device.draw
    program, proxy, port = TOOLS[int(draw() * len(TOOLS))], device.proxy(), 20_000 + int(draw() * 2_000)
    for left in range(1 + int(draw() * 3), -1, -1):
        if start >= device.end:
            return
        connection = device.connect(start, proxy, program, port=port)
        host, (path, kind) = SITES[int(draw() * len(SITES))], PATHS[int(draw() * len(PATHS))]
        asked, answered = _answered(device, connection.established)
        url = f"http://{host}{path}?r={asked % 1_000_000}"
        lost = left > 0 and draw() < 0.15
        end = (asked if lost else answered) + 200 + int(draw() * 3_000)
        start = end + 1_500 + int(draw() * draw() * 2 * MICROS)
        again = start + 30 if left and start < device.end else 0
        if lost:
            exchange, seen = eve.get(host, url, program.agent, kind, None, 0), False
        else:
            seen = device.say(
                connection,
                answered,
                connection.wire.http(answered, 0, eve.get(host, url, program.agent, kind, 200, 153)),
            )
            exchange = ""
        late = device.close(connection, end, HTTP, 372, 452, state=eve.RESET, logged=again, unanswered=exchange)
        if asked < device.end:
            status, verdict = (None, "aborted") if lost else (200, "allowed")
            device.tell(connection, asked, "GET", host, 80, url, status, verdict, "same_port", seen=seen or late)
        device.tally["connections: same_port"] += 1


def encrypted(device: Device, start: Micros) -> None:
    """TLS is spoken to the proxy itself: nobody on the device can see inside."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], SITES[int(draw() * len(SITES))]
    connection = device.connect(start, TLS_PROXY, program)
    hello, asked = _answered(device, connection.established)
    device.say(connection, hello, connection.wire.tls(hello, PROXY_NAME, tunnelled=False))
    if asked < device.end:
        device.tell(connection, asked, "CONNECT", host, 443, f"{host}:443", 200, "allowed", "tls_to_proxy", seen=False)
    device.close(connection, asked + _length(device), TLS, 3_100, 9_900)
    device.tally["connections: tls_to_proxy"] += 1


def stranger(device: Device, start: Micros) -> None:
    """A program uses a proxy that nobody knows; on most devices nobody does."""
    proxy = STRANGERS[int(device.draw() * len(STRANGERS))]
    if device.profile.knows_stranger:
        tunnel(device, start, TOOLS[0], proxy, scenario="stranger")
    else:
        one_tunnel(device, start)


def unreachable(device: Device, start: Micros) -> None:
    """The proxy refuses the connection itself."""
    connection = device.connect(start, device.proxy(), TOOLS[0], answer=False)
    device.close(connection, start + 400, NOTHING, 74, 60, state=eve.REFUSED)
    device.tally["connections: unreachable"] += 1


def silent(device: Device, start: Micros) -> None:
    """A browser opens a connection in advance and never asks anything on it."""
    connection = device.connect(start, device.proxy(), BROWSERS[0])
    device.close(connection, start + 500_000 + int(device.draw() * 20 * MICROS), NOTHING, 216, 112)
    device.tally["connections: silent"] += 1


def direct_tls(device: Device, start: Micros) -> None:
    """HTTPS past the proxies."""
    draw = device.draw
    host, server = SITES[int(draw() * len(SITES))], SERVERS[int(draw() * len(SERVERS))]
    device.look_up(start, RESOLVER, host)
    connection = device.connect(start + 1_500, server, BROWSERS[1])
    _, hello = _answered(device, connection.established)
    device.say(connection, hello, connection.wire.tls(hello, host, tunnelled=False))
    end = hello + _length(device)
    device.tell_direct(connection, start, end, host)
    device.close(connection, end, TLS, 3_500, 12_000)
    device.tally["connections: direct"] += 1


def direct_http(device: Device, start: Micros) -> None:
    """Plain HTTP past the proxies."""
    draw = device.draw
    host, server = SITES[int(draw() * len(SITES))], SERVERS[int(draw() * len(SERVERS))]._replace(port=80)
    program, (path, kind) = TOOLS[int(draw() * len(TOOLS))], PATHS[int(draw() * len(PATHS))]
    device.look_up(start, RESOLVER, host)
    connection = device.connect(start + 1_500, server, program)
    _, at = _answered(device, connection.established)
    exchange = eve.get(host, path, program.agent, kind, 200, 512)
    _exchange(device, connection, at, 0, exchange, path, 512)
    end = at + 1_000 + int(draw() * 60_000)
    device.tell_direct(connection, start, end, host)
    device.close(connection, end, HTTP, 420, 1_300)
    device.tally["connections: direct"] += 1


def name_looked_up(device: Device, start: Micros) -> None:
    """The proxy's name is resolved."""
    device.look_up(start, RESOLVER, PROXY_NAME)
    device.look_up(start + 400, RESOLVER, PROXY_NAME)


def older_tunnel(device: Device, begin: Micros) -> None:
    """A tunnel that was open before the sensors were started."""
    draw = device.draw
    began = begin - int((5 + 3_000 * draw()) * MICROS)
    host = SITES[int(draw() * len(SITES))]
    connection = device.old_tunnel(began, begin + int((2 + 600 * draw()) * MICROS), device.proxy(), AGENT)
    at = connection.established
    device.tell(connection, at, "CONNECT", host, 443, f"{host}:443", 200, "allowed", "older_than_sensor", seen=False)
    device.tally["connections: older_than_sensor"] += 1


_SHARES: tuple[tuple[Errand, int], ...] = (
    (page, 330),
    (one_tunnel, 200),
    (one_keep_alive, 110),
    (direct_tls, 90),
    (direct_http, 30),
    (name_looked_up, 70),
    (listed_tunnel, 40),
    (listed_plain, 25),
    (asked_to_log_in, 20),
    (refused, 20),
    (plain_in_tunnel, 15),
    (address_asked, 10),
    (same_port, 8),
    (fronted, 6),
    (silent, 6),
    (unreachable, 6),
    (unanswered, 5),
    (stranger, 6),
    (encrypted, 3),
)
ERRANDS: tuple[Errand, ...] = tuple(errand for errand, share in _SHARES for _ in range(share))
"""One drawn from it is one errand in its due share."""
LINES_PER_ERRAND = 12.5
"""On average, flow records included."""


def _answered(device: Device, at: Micros) -> tuple[Micros, Micros]:
    """When the next request is sent, and when its answer is there."""
    draw = device.draw
    asked = at + 200 + int(draw() * 1_500)
    luck = draw()
    return asked, asked + 1_500 + int(luck * 40_000 if luck < 0.97 else luck * 1_500_000)


def _length(device: Device) -> Micros:
    """How long something stays open: most for seconds, some for hours."""
    luck, more = device.draw(), device.draw()
    if luck < 0.55:
        return 20_000 + int(more * more * 3 * MICROS)
    if luck < 0.9:
        return int((3 + 57 * more) * MICROS)
    if luck < 0.985:
        return int((60 + 840 * more) * MICROS)
    return int((900 + 20_000 * more) * MICROS)


def _exchange(device: Device, connection: Connection, at: Micros, tx: int, exchange: str, path: str, size: int) -> bool:
    """A request and the body of its answer: a sensor in the path logs the body first."""
    if at >= connection.cut:
        return False
    http = connection.wire.http(at, tx, exchange)
    if size == 0:
        return device.say(connection, at, http)
    if device.profile.inline:
        device.say(connection, at, connection.wire.fileinfo(at, tx, exchange, path, size))
        return device.say(connection, at, http)
    seen = device.say(connection, at, http)
    later = at + 800 + size // 8
    if later < connection.cut:
        device.say(connection, later, connection.wire.fileinfo(later, tx, exchange, path, size))
    return seen


def _listed_request(device: Device, connection: Connection, listed: Listed, at: Micros) -> tuple[bool, bool, Micros]:
    """A plain request to a listed host: whether it was noticed, whether stopped, and when it was over."""
    program, wire, tx = connection.program, connection.wire, connection.requests
    asked, answered = _answered(device, at)
    if asked >= device.end:
        return False, False, asked
    mode = device.mode(asked)
    url = f"http://{listed.host}/status/404?r={asked % 1_000_000}"
    deed = listed.plain if mode is ProtectionMode.BLOCK else "alert"

    def tell(status: int | None, verdict: str, *, seen: bool) -> None:
        device.tell(
            connection, asked, "GET", listed.host, 80, url, status, verdict, "listed_plain", seen=seen, listed=True
        )

    if mode is not ProtectionMode.OFF and deed != "alert":
        spoken = f'"http":{{{eve.get(listed.host, url, program.agent, "", None, 0)}}}'
        seen = device.say(connection, asked, wire.alert(asked, tx, listed, "host", deed, spoken))
        end = _drops(device, connection, asked, listed, "host", deed)
        tell(None, "blocked_on_device", seen=seen)
        device.tally["requests blocked"] += 1
        return True, True, end
    exchange = eve.get(listed.host, url, program.agent, "text/html", 404, 153)
    if mode is not ProtectionMode.OFF:
        spoken = f'"http":{{{eve.get(listed.host, url, program.agent, "text/html", 404, 0)}}}'
        device.say(connection, answered, wire.alert(answered, tx, listed, "host", "alert", spoken))
        device.tally["requests audited"] += 1
    seen = _exchange(device, connection, answered, tx, exchange, "/status/404", 153)
    tell(404, "allowed", seen=seen)
    return mode is not ProtectionMode.OFF, False, answered


def _try_listed(device: Device, start: Micros, listed: Listed, program: Program, proxy: Remote) -> tuple[Micros, bool]:
    """One tunnel to a listed host: when it was over, and whether it was stopped."""
    draw, host = device.draw, listed.host
    connection = device.connect(start, proxy, program)
    wire = connection.wire
    asked, answered = _answered(device, connection.established)
    mode = device.mode(asked)
    device.tally["connections: listed_tunnel"] += 1

    def tell(status: int | None, verdict: str, *, seen: bool) -> None:
        if asked < device.end:
            device.tell(
                connection, asked, "CONNECT", host, 443, f"{host}:443", status, verdict, "listed_tunnel", seen=seen,
                listed=True,
            )  # fmt: skip

    blocks, judged = mode is ProtectionMode.BLOCK, mode is not ProtectionMode.OFF
    if blocks and listed.connect != "alert":
        spoken = f'"http":{{{eve.connect(host, 443, program.agent, None)}}}'
        seen = device.say(connection, asked, wire.alert(asked, 0, listed, "CONNECT", listed.connect, spoken))
        end = _drops(device, connection, asked, listed, "CONNECT", listed.connect)
        tell(None, "blocked_on_device", seen=seen)
        device.close(connection, end, HTTP, 1_400, 60, state=eve.ESTABLISHED, alerted=True, dropped=True)
        device.tally["requests blocked"] += 1
        return end, True
    line = wire.http(answered, 0, eve.connect(host, 443, program.agent, 200))
    seen = False
    if judged and device.profile.inline:
        spoken = f'"http":{{{eve.connect(host, 443, program.agent, None)}}}'
        seen = device.say(connection, asked, wire.alert(asked, 0, listed, "CONNECT", "alert", spoken))
    seen = device.say(connection, answered, line) or seen
    if judged and not device.profile.inline:
        spoken = f'"http":{{{eve.connect(host, 443, program.agent, 200)}}}'
        device.say(connection, answered, wire.alert(answered, 0, listed, "CONNECT", "alert", spoken))
    hello = answered + 900 + int(draw() * 4_000)
    if blocks and listed.inside != "alert" and hello < device.end:
        alert = wire.alert(hello, 0, listed, "tls", listed.inside, eve.tls_object(host, blocked=True))
        device.say(connection, hello, alert)
        end = _drops(device, connection, hello, listed, "tls", listed.inside)
        tell(200, "blocked_in_tunnel", seen=seen)
        device.close(connection, end, TUNNELLED, 11_194, 255, state=eve.ESTABLISHED, alerted=True, dropped=True)
        device.tally["requests blocked"] += 1
        return end, True
    if hello < device.end:
        if judged:
            alert = wire.alert(hello, 0, listed, "tls", "alert", eve.tls_object(host, blocked=False))
            device.say(connection, hello, alert)
        device.say(connection, hello, wire.tls(hello, host, tunnelled=True))
    tell(200, "allowed", seen=seen)
    end = hello + _length(device)
    device.close(connection, end, TUNNELLED, 2_722, 3_725, alerted=judged)
    device.tally["requests audited"] += judged
    return end, False


def _drops(device: Device, connection: Connection, at: Micros, listed: Listed, rule: str, deed: str) -> Micros:
    """The packets of a stopped flow, each twice as late as the one before; when the program gave up."""
    wire, wait = connection.wire, 200_000
    device.say(connection, at, wire.drop(at, 177, listed, rule, deed, first=True))
    if deed == "reject":
        return at + 300
    for _ in range(1 + int(device.draw() * DROPS_MAX)):
        at += wait
        wait *= 2
        if at >= device.end:
            break
        device.say(connection, at, wire.drop(at, 177, listed, rule, deed, first=False))
    return at + 1_000
