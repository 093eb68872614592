"""Errands with failures and rare cases: refusals, missing responses, reused 5-tuples, requests that no sensor can see."""

from __future__ import annotations

from producers.simulation import eve
from producers.simulation.device import Device
from producers.simulation.exchanges import HTTP, NOTHING, TLS, TUNNELLED, ask, length
from producers.simulation.fleet import BROWSERS, PATHS, PROXY_NAME, SITES, TLS_PROXY, TOOLS
from producers.simulation.traffic import tunnel
from schemas.clock import MICROS
from schemas.events import Micros


def asked_to_log_in(device: Device, start: Micros) -> None:
    """Simulate a proxy that requires authentication (407): the CONNECT is repeated on the same connection."""
    draw = device.draw
    program = TOOLS[int(draw() * len(TOOLS))]
    connection = device.connect(start, device.proxy(), program)
    at, host = connection.established, SITES[int(draw() * len(SITES))]
    for tx, status in enumerate((407, 200)):
        asked, at = ask(device, at)
        line = connection.wire.http(at, tx, eve.connect(host, 443, program.agent, status))
        seen = device.emit(connection, at, line)
        verdict = "auth_required" if status == 407 else "allowed"
        device.record_connect(connection, asked, host, status, verdict, "log_in", seen=seen)
    device.close(connection, at + length(device), HTTP, 3_407, 7_861)
    device.tally["connections: log_in"] += 1


def refused(device: Device, start: Micros) -> None:
    """Simulate CONNECTs that the proxy denies or that fail, and a last attempt that succeeds."""
    draw = device.draw
    program, proxy, host = TOOLS[int(draw() * len(TOOLS))], device.proxy(), SITES[int(draw() * len(SITES))]
    for _ in range(1 + int(draw() * 2)):
        if start >= device.end:
            return
        connection = device.connect(start, proxy, program)
        status = (403, 502, 503, 504)[int(draw() * 4)]
        asked, answered = ask(device, connection.established)
        line = connection.wire.http(answered, 0, eve.connect(host, 443, program.agent, status))
        seen = device.emit(connection, answered, line)
        verdict = "denied" if status == 403 else "failed"
        device.record_connect(connection, asked, host, status, verdict, "refused", seen=seen)
        end = answered + 500 + int(draw() * 20_000)
        device.close(connection, end, HTTP, 480, 3_600)
        device.tally["connections: refused"] += 1
        device.tally["retries"] += 1
        start = end + 300_000 + int(draw() * 1_500_000)
    tunnel(device, start, program, proxy, host=host, scenario="retried")


def unanswered(device: Device, start: Micros) -> None:
    """Simulate a CONNECT that the proxy never answers; the sensor logs it only together with the flow."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], f"dead-{int(draw() * 90)}.example"
    connection = device.connect(start, device.proxy(), program)
    asked, _ = ask(device, connection.established)
    end = asked + int((2 + 28 * draw()) * MICROS)
    seen = device.close(connection, end, HTTP, 380, 140, unanswered=eve.connect(host, 443, program.agent, None))
    device.record_connect(connection, asked, host, None, "aborted", "unanswered", seen=seen)
    device.tally["connections: unanswered"] += 1


def same_port(device: Device, start: Micros) -> None:
    """Simulate a program with a fixed source port, which reuses its 5-tuple at once.

    The sensor logs the earlier flow when the 5-tuple is reused.
    """
    draw = device.draw
    program, proxy, port = TOOLS[int(draw() * len(TOOLS))], device.proxy(), 20_000 + int(draw() * 2_000)
    for left in range(1 + int(draw() * 3), -1, -1):
        if start >= device.end:
            return
        connection = device.connect(start, proxy, program, port=port)
        host, (path, kind) = SITES[int(draw() * len(SITES))], PATHS[int(draw() * len(PATHS))]
        asked, answered = ask(device, connection.established)
        url = f"http://{host}{path}?r={asked % 1_000_000}"
        lost = left > 0 and draw() < 0.15
        end = (asked if lost else answered) + 200 + int(draw() * 3_000)
        start = end + 1_500 + int(draw() * draw() * 2 * MICROS)
        again = start + 30 if left and start < device.end else 0
        if lost:
            exchange, seen = eve.get(host, url, program.agent, kind, None, 0), False
        else:
            line = connection.wire.http(answered, 0, eve.get(host, url, program.agent, kind, 200, 153))
            exchange, seen = "", device.emit(connection, answered, line)
        late = device.close(connection, end, HTTP, 372, 452, state=eve.RESET, logged=again, unanswered=exchange)
        if asked < device.end:
            status, verdict = (None, "aborted") if lost else (200, "allowed")
            device.record_request(
                connection, asked, "GET", host, 80, url, status, verdict, "same_port", seen=seen or late
            )
        device.tally["connections: same_port"] += 1


def fronted(device: Device, start: Micros) -> None:
    """Simulate domain fronting: the TLS server name in the tunnel differs from the host of the CONNECT."""
    draw = device.draw
    host, inner = SITES[int(draw() * len(SITES))], f"c2-{int(draw() * 9)}.hidden.example"
    program = TOOLS[int(draw() * len(TOOLS))]
    connection = device.connect(start, device.proxy(), program)
    asked, answered = ask(device, connection.established)
    line = connection.wire.http(answered, 0, eve.connect(host, 443, program.agent, 200))
    seen = device.emit(connection, answered, line)
    hello = answered + 900 + int(draw() * 4_000)
    if hello < device.end:
        device.emit(connection, hello, connection.wire.tls(hello, inner, tunnelled=True))
    device.record_connect(connection, asked, host, 200, "allowed", "fronted", seen=seen, inner_host=inner)
    device.close(connection, hello + length(device), TUNNELLED, 2_722, 9_000)
    device.tally["connections: fronted"] += 1


def encrypted(device: Device, start: Micros) -> None:
    """Simulate a request over TLS to the proxy, which no sensor on the device can see."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], SITES[int(draw() * len(SITES))]
    connection = device.connect(start, TLS_PROXY, program)
    hello, asked = ask(device, connection.established)
    device.emit(connection, hello, connection.wire.tls(hello, PROXY_NAME, tunnelled=False))
    device.record_connect(connection, asked, host, 200, "allowed", "tls_to_proxy", seen=False)
    device.close(connection, asked + length(device), TLS, 3_100, 9_900)
    device.tally["connections: tls_to_proxy"] += 1


def unreachable(device: Device, start: Micros) -> None:
    """Simulate a TCP connection that the proxy refuses."""
    connection = device.connect(start, device.proxy(), TOOLS[0], answer=False)
    device.close(connection, connection.start + 400, NOTHING, 74, 60, state=eve.REFUSED)
    device.tally["connections: unreachable"] += 1


def silent(device: Device, start: Micros) -> None:
    """Simulate a browser that opens a connection in advance and sends no request on it."""
    connection = device.connect(start, device.proxy(), BROWSERS[0])
    device.close(connection, connection.start + 500_000 + int(device.draw() * 20 * MICROS), NOTHING, 216, 112)
    device.tally["connections: silent"] += 1
