"""Ordinary errands: pages, tunnels, requests to several hosts over one connection, and connections that bypass the proxies.

An errand is what a program does for one purpose, from its first connection to its last. Each function simulates one:
it writes the sensors' lines (`Device.emit`, `Device.close`) and the truth (`Device.record_request`). `start` is by the
device's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from producers.simulation import eve
from producers.simulation.device import LOOKED_UP, Connection, Device
from producers.simulation.exchanges import HTTP, TLS, TUNNELLED, ask, length, plain_exchange
from producers.simulation.fleet import (
    AGENT,
    BROWSERS,
    PATHS,
    PROXY_NAME,
    SERVERS,
    SITES,
    STRANGERS,
    TOOLS,
    Program,
    Remote,
)
from schemas.clock import MICROS
from schemas.events import Micros

OPEN_PORT_FIRST = 1_024
"""First source port of tunnels that stay open; other connections use higher ports."""


class Ending(NamedTuple):
    """How the last request of a connection ended: whether network protection reported it and dropped its flow, and the time."""

    alerted: bool
    dropped: bool
    at: Micros


def page(device: Device, start: Micros) -> None:
    """Simulate a browser that opens a page, over several connections at once."""
    draw = device.draw
    program = BROWSERS[int(draw() * 2)]
    proxy = device.proxy()
    if draw() < 0.3:
        device.look_up(start, PROXY_NAME, proxy.ip)
    for _ in range(2 + int(draw() * 4)):
        start += int(draw() * 120_000)
        if draw() < 0.8:
            tunnel(device, start, program, proxy)
        else:
            keep_alive(device, start, program, proxy)


def one_tunnel(device: Device, start: Micros) -> None:
    """Simulate a tool or an agent that sends HTTPS through one tunnel."""
    draw = device.draw
    tunnel(device, start, AGENT if draw() < 0.2 else TOOLS[int(draw() * len(TOOLS))], device.proxy())


def one_keep_alive(device: Device, start: Micros) -> None:
    """Simulate a tool that sends plain HTTP requests over one connection."""
    keep_alive(device, start, TOOLS[int(device.draw() * len(TOOLS))], device.proxy())


def tunnel(
    device: Device, start: Micros, program: Program, proxy: Remote, *, host: str = "", scenario: str = "tunnel"
) -> None:
    """Simulate a CONNECT, and TLS in the tunnel. Without `host`, the host is drawn."""
    if start >= device.end:
        return
    draw = device.draw
    connection = device.connect(start, proxy, program)
    wire, host = connection.wire, host or SITES[int(draw() * len(SITES))]
    asked, answered = ask(device, connection.established)
    seen = device.emit(connection, answered, wire.http(answered, 0, eve.connect(host, 443, program.agent, 200)))
    hello = answered + 900 + int(draw() * 4_000)
    if hello < device.end:
        device.emit(connection, hello, wire.tls(hello, host, tunnelled=True))
    device.record_connect(connection, asked, host, 200, "allowed", scenario, seen=seen)
    end = hello + length(device)
    device.close(connection, end, TUNNELLED, 2_600 + int(draw() * 3_000), 3_700 + int(draw() * 90_000))
    device.tally[f"connections: {scenario}"] += 1


def open_tunnel(device: Device, start: Micros, number: int) -> None:
    """Simulate a tunnel that stays open. `number` is its number on the device; it determines the source port."""
    host, program = SITES[int(device.draw() * len(SITES))], BROWSERS[1]
    connection = device.connect(start, device.proxy(), program, port=OPEN_PORT_FIRST + number)
    wire = connection.wire
    _, answered = ask(device, connection.established)
    device.emit(connection, answered, wire.http(answered, 0, eve.connect(host, 443, program.agent, 200)))
    device.emit(connection, answered + 900, wire.tls(answered + 900, host, tunnelled=True))
    device.keep_open(connection)


def keep_alive(
    device: Device,
    start: Micros,
    program: Program,
    proxy: Remote,
    *,
    scenario: str = "keep_alive",
    last: Callable[[Connection, Micros], Ending] | None = None,
) -> None:
    """Simulate plain HTTP requests to several hosts over one connection. `last` adds a final request, which may end it."""
    if start >= device.end:
        return
    draw = device.draw
    connection = device.connect(start, proxy, program)
    at, sent, received = connection.established, 0, 0
    hosts = SITES[int(draw() * len(SITES))], SITES[int(draw() * len(SITES))], SITES[int(draw() * len(SITES))]
    for tx in range(1 + int(draw() * draw() * 9)):
        asked, at = ask(device, at)
        if asked >= device.end:
            break
        host, (path, kind) = hosts[int(draw() * 3)], PATHS[int(draw() * len(PATHS))]
        url, size = f"http://{host}{path}?r={asked % 1_000_000}", 60 + int(draw() * 8_000)
        failed = draw()
        status = 200 if failed > 0.1 else 404 if failed > 0.04 else 304 if failed > 0.02 else 503
        exchange = eve.get(host, url, program.agent, kind, status, size)
        seen = plain_exchange(device, connection, at, tx, exchange, path, size if status != 304 else 0)
        verdict = "failed" if status == 503 else "allowed"
        device.record_request(connection, asked, "GET", host, 80, url, status, verdict, scenario, seen=seen)
        sent, received = sent + 330, received + 300 + size
        at += int(draw() * draw() * 2 * MICROS)
    alerted = dropped = False
    if last is not None and at < device.end:
        alerted, dropped, at = last(connection, at)
    end = at + 300 + int(draw() * 4_000_000 * draw())
    state = eve.ESTABLISHED if dropped else eve.FINISHED
    device.close(connection, end, HTTP, sent + 400, received + 200, state=state, alerted=alerted, dropped=dropped)
    device.tally[f"connections: {scenario}"] += 1


def plain_in_tunnel(device: Device, start: Micros) -> None:
    """Simulate a CONNECT to port 80, and plain HTTP in the tunnel, whose transactions the sensor counts from 0 again."""
    draw = device.draw
    program, host = TOOLS[int(draw() * len(TOOLS))], SITES[int(draw() * len(SITES))]
    connection = device.connect(start, device.proxy(), program)
    asked, at = ask(device, connection.established)
    line = connection.wire.http(at, 0, eve.connect(host, 80, program.agent, 200))
    seen = device.emit(connection, at, line)
    device.record_connect(connection, asked, host, 200, "allowed", "plain_in_tunnel", seen=seen, port=80)
    for tx in range(1 + int(draw() * 3)):
        _, at = ask(device, at)
        (path, kind), size = PATHS[int(draw() * len(PATHS))], 50 + int(draw() * 5_000)
        exchange = eve.get(host, f"{path}?r={at % 1_000_000}", program.agent, kind, 200, size)
        plain_exchange(device, connection, at, tx, exchange, path, size)
    device.close(connection, at + 2_000 + int(draw() * 90_000), HTTP, 900, 7_000)
    device.tally["connections: plain_in_tunnel"] += 1


def address_asked(device: Device, start: Micros) -> None:
    """Simulate a CONNECT to an IP address; only the TLS server name in the tunnel could show a host name."""
    draw = device.draw
    program, server = TOOLS[int(draw() * len(TOOLS))], SERVERS[int(draw() * len(SERVERS))]
    tunnel(device, start, program, device.proxy(), host=server.ip, scenario="address")


def stranger(device: Device, start: Micros) -> None:
    """Simulate a tunnel through an unknown proxy; on most devices, which use no unknown proxy, an ordinary tunnel."""
    proxy = STRANGERS[int(device.draw() * len(STRANGERS))]
    if device.profile.knows_stranger:
        tunnel(device, start, TOOLS[0], proxy, scenario="stranger")
    else:
        one_tunnel(device, start)


def direct_tls(device: Device, start: Micros) -> None:
    """Simulate HTTPS that bypasses the proxies."""
    draw = device.draw
    host, server = SITES[int(draw() * len(SITES))], SERVERS[int(draw() * len(SERVERS))]
    device.look_up(start, host, server.ip)
    connection = device.connect(start + LOOKED_UP, server, BROWSERS[1])
    _, hello = ask(device, connection.established)
    device.emit(connection, hello, connection.wire.tls(hello, host, tunnelled=False))
    end = hello + length(device)
    device.record_direct(connection, start, end, host)
    device.close(connection, end, TLS, 3_500, 12_000)
    device.tally["connections: direct"] += 1


def direct_http(device: Device, start: Micros) -> None:
    """Simulate plain HTTP that bypasses the proxies."""
    draw = device.draw
    host, server = SITES[int(draw() * len(SITES))], SERVERS[int(draw() * len(SERVERS))]._replace(port=80)
    program, (path, kind) = TOOLS[int(draw() * len(TOOLS))], PATHS[int(draw() * len(PATHS))]
    device.look_up(start, host, server.ip)
    connection = device.connect(start + LOOKED_UP, server, program)
    _, at = ask(device, connection.established)
    exchange = eve.get(host, path, program.agent, kind, 200, 512)
    plain_exchange(device, connection, at, 0, exchange, path, 512)
    end = at + 1_000 + int(draw() * 60_000)
    device.record_direct(connection, start, end, host)
    device.close(connection, end, HTTP, 420, 1_300)
    device.tally["connections: direct"] += 1


def older_tunnel(device: Device, begin: Micros) -> None:
    """Simulate a tunnel that was opened before `begin`, when the sensors started."""
    draw = device.draw
    began = begin - int((5 + 3_000 * draw()) * MICROS)
    host = SITES[int(draw() * len(SITES))]
    connection = device.old_tunnel(began, begin + int((2 + 600 * draw()) * MICROS), device.proxy(), AGENT)
    at = connection.established
    device.record_request(
        connection, at, "CONNECT", host, 443, f"{host}:443", 200, "allowed", "older_than_sensor", seen=False
    )
    device.tally["connections: older_than_sensor"] += 1
