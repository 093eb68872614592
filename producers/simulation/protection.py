"""Errands with requests to domains on the deny list, which network protection blocks or only reports, and retries of them."""

from __future__ import annotations

from producers.simulation import eve
from producers.simulation.device import Connection, Device
from producers.simulation.exchanges import HTTP, TUNNELLED, ask, length, plain_exchange
from producers.simulation.fleet import LISTED, TOOLS, Listed, Program, Remote
from producers.simulation.traffic import Ending, keep_alive
from schemas.clock import MICROS
from schemas.events import Micros, ProtectionMode

DROPS_MAX = 8
"""Largest number of packets that a client sends again in a dropped flow before it gives up."""


def listed_plain(device: Device, start: Micros) -> None:
    """Simulate plain requests on one connection, the last of them to a listed domain."""
    draw = device.draw
    listed, program = LISTED[int(draw() * len(LISTED))], TOOLS[int(draw() * len(TOOLS))]

    def last(connection: Connection, at: Micros) -> Ending:
        return _listed_request(device, connection, listed, at)

    keep_alive(device, start, program, device.proxy(), scenario="listed_plain", last=last)


def listed_tunnel(device: Device, start: Micros) -> None:
    """Simulate a tunnel to a listed domain; a program retries a blocked one up to twice."""
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


def _listed_request(device: Device, connection: Connection, listed: Listed, at: Micros) -> Ending:
    """Simulate a plain request to a listed host, under the device's protection mode at that time; return how it ended.

    A request that would be sent after the world's end is left out.
    """
    program, wire, tx = connection.program, connection.wire, connection.requests
    asked, answered = ask(device, at)
    if asked >= device.end:
        return Ending(False, False, asked)
    mode = device.mode(asked)
    url = f"http://{listed.host}/status/404?r={asked % 1_000_000}"
    deed = listed.plain if mode is ProtectionMode.BLOCK else "alert"

    def record_request(status: int | None, verdict: str, *, seen: bool) -> None:
        device.record_request(
            connection, asked, "GET", listed.host, 80, url, status, verdict, "listed_plain", seen=seen, listed=True
        )

    if mode is not ProtectionMode.OFF and deed != "alert":
        content = f'"http":{{{eve.get(listed.host, url, program.agent, "", None, 0)}}}'
        seen = device.emit(connection, asked, wire.alert(asked, tx, listed, "host", deed, content))
        end = _drops(device, connection, asked, listed, "host", deed)
        record_request(None, "blocked_on_device", seen=seen)
        device.tally["requests blocked"] += 1
        return Ending(True, True, end)
    exchange = eve.get(listed.host, url, program.agent, "text/html", 404, 153)
    if mode is not ProtectionMode.OFF:
        content = f'"http":{{{eve.get(listed.host, url, program.agent, "text/html", 404, 0)}}}'
        device.emit(connection, answered, wire.alert(answered, tx, listed, "host", "alert", content))
        device.tally["requests audited"] += 1
    seen = plain_exchange(device, connection, answered, tx, exchange, "/status/404", 153)
    record_request(404, "allowed", seen=seen)
    return Ending(mode is not ProtectionMode.OFF, False, answered)


def _try_listed(device: Device, start: Micros, listed: Listed, program: Program, proxy: Remote) -> tuple[Micros, bool]:
    """Simulate one tunnel to a listed host; return when it ended and whether it was blocked."""
    draw, host = device.draw, listed.host
    connection = device.connect(start, proxy, program)
    wire = connection.wire
    asked, answered = ask(device, connection.established)
    mode = device.mode(asked)
    device.tally["connections: listed_tunnel"] += 1

    def record_request(status: int | None, verdict: str, *, seen: bool) -> None:
        device.record_connect(connection, asked, host, status, verdict, "listed_tunnel", seen=seen, listed=True)

    blocks, with_verdict = mode is ProtectionMode.BLOCK, mode is not ProtectionMode.OFF
    if blocks and listed.connect != "alert":
        content = f'"http":{{{eve.connect(host, 443, program.agent, None)}}}'
        seen = device.emit(connection, asked, wire.alert(asked, 0, listed, "CONNECT", listed.connect, content))
        end = _drops(device, connection, asked, listed, "CONNECT", listed.connect)
        record_request(None, "blocked_on_device", seen=seen)
        device.close(connection, end, HTTP, 1_400, 60, state=eve.ESTABLISHED, alerted=True, dropped=True)
        device.tally["requests blocked"] += 1
        return end, True
    line = wire.http(answered, 0, eve.connect(host, 443, program.agent, 200))
    seen = False
    if with_verdict and device.profile.inline:
        content = f'"http":{{{eve.connect(host, 443, program.agent, None)}}}'
        seen = device.emit(connection, asked, wire.alert(asked, 0, listed, "CONNECT", "alert", content))
    seen = device.emit(connection, answered, line) or seen
    if with_verdict and not device.profile.inline:
        content = f'"http":{{{eve.connect(host, 443, program.agent, 200)}}}'
        device.emit(connection, answered, wire.alert(answered, 0, listed, "CONNECT", "alert", content))
    hello = answered + 900 + int(draw() * 4_000)
    if blocks and listed.inside != "alert" and hello < device.end:
        alert = wire.alert(hello, 0, listed, "tls", listed.inside, eve.tls_object(host, blocked=True))
        device.emit(connection, hello, alert)
        end = _drops(device, connection, hello, listed, "tls", listed.inside)
        record_request(200, "blocked_in_tunnel", seen=seen)
        device.close(connection, end, TUNNELLED, 11_194, 255, state=eve.ESTABLISHED, alerted=True, dropped=True)
        device.tally["requests blocked"] += 1
        return end, True
    if hello < device.end:
        if with_verdict:
            alert = wire.alert(hello, 0, listed, "tls", "alert", eve.tls_object(host, blocked=False))
            device.emit(connection, hello, alert)
        device.emit(connection, hello, wire.tls(hello, host, tunnelled=True))
    record_request(200, "allowed", seen=seen)
    end = hello + length(device)
    device.close(connection, end, TUNNELLED, 2_722, 3_725, alerted=with_verdict)
    device.tally["requests audited"] += with_verdict
    return end, False


def _drops(device: Device, connection: Connection, at: Micros, listed: Listed, rule: str, deed: str) -> Micros:
    """Write the drop events of a blocked flow; return when the program gives up.

    If the rule rejects, the program gives up at once. Otherwise, the program sends the packet again up to `DROPS_MAX` times,
    each time after twice the interval.
    """
    wire, wait = connection.wire, 200_000
    device.emit(connection, at, wire.drop(at, 177, listed, rule, deed, first=True))
    if deed == "reject":
        return at + 300
    for _ in range(1 + int(device.draw() * DROPS_MAX)):
        at += wait
        wait *= 2
        if at >= device.end:
            break
        device.emit(connection, at, wire.drop(at, 177, listed, rule, deed, first=False))
    return at + 1_000
