"""Sensor lines of a made-up fleet, in the real dialects: proxied tunnels, keep-alive HTTP and a few direct connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from schemas.clock import iso_micros

START = 1_795_547_248_000_000


class Line(NamedTuple):
    """One sensor line."""

    device: str
    dialect: str
    value: bytes


def _eve(device: str, kind: str, at: int, number: int, ends: tuple[str, int, str, int], more: str) -> Line:
    local_ip, local_port, remote_ip, remote_port = ends
    value = (
        f'{{"timestamp":"{iso_micros(at)[:-1]}+0000","flow_id":{10**12 + number},"in_iface":"eth0","event_type":"{kind}",'
        f'"src_ip":"{local_ip}","src_port":{local_port},"dest_ip":"{remote_ip}","dest_port":{remote_port},"proto":"TCP",'
        f'"pkt_src":"wire/pcap","community_id":"1:WENz7KXQZOOvKEclYV9kzV0NIrs=",{more},"host":"{device}"}}'
    )
    return Line(device, "suricata", value.encode())


def _ends(number: int) -> tuple[str, int, str, int]:
    return f"10.{number % 200}.{number // 200 % 250}.7", 1024 + number // 16 % 60_000, "10.250.0.8", 3128


def opened(device: str, number: int, at: int) -> list[Line]:
    """What the sensors write when a tunnel opens: kernel record, CONNECT, TLS name."""
    ends = _ends(number)
    host = f"www{number % 997}.example{number % 89}.com"
    kernel = (
        f'{{"device":"{device}","pid":{1000 + number % 9000},"process":"firefox","local_ip":"{ends[0]}","local_port":{ends[1]},'
        f'"remote_ip":"{ends[2]}","remote_port":{ends[3]},"result":"open","ts_attempt":"{iso_micros(at)}",'
        f'"ts_established":"{iso_micros(at + 90)}","ts_closed":null}}'
    )
    http = (
        f'"tx_id":0,"http":{{"hostname":"{host}","http_port":443,"url":"{host}:443","http_user_agent":"curl/8.14.1",'
        f'"http_method":"CONNECT","protocol":"HTTP/1.1","status":200,"length":0}}'
    )
    tls = f'"tls":{{"sni":"{host}","version":"TLS 1.3","from_proto":"http"}}'
    return [
        Line(device, "sockets", kernel.encode()),
        _eve(device, "http", at + 1500, number, ends, http),
        _eve(device, "tls", at + 4500, number, ends, tls),
    ]


def closed(device: str, number: int, opened_at: int, at: int) -> list[Line]:
    """What the network sensor writes when it is over."""
    more = (
        f'"app_proto":"tls","app_proto_orig":"http","flow":{{"pkts_toserver":13,"pkts_toclient":14,"bytes_toserver":2739,'
        f'"bytes_toclient":4731,"start":"{iso_micros(opened_at)[:-1]}+0000","end":"{iso_micros(at)[:-1]}+0000","age":0,'
        '"state":"closed","reason":"timeout","alerted":false},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b",'
        '"syn":true,"fin":true,"psh":true,"ack":true,"state":"closed","ts_max_regions":1,"tc_max_regions":1}'
    )
    return [_eve(device, "flow", at, number, _ends(number), more)]


def requests(device: str, number: int, at: int, count: int) -> list[Line]:
    """Plain HTTP over keep-alive: one connection to the proxy, several hosts."""
    ends = _ends(number)
    lines = []
    for tx in range(count):
        host = f"cdn{(number + tx) % 97}.example{number % 89}.net"
        http = (
            f'"tx_id":{tx},"http":{{"hostname":"{host}","url":"http://{host}/img/{tx}.png?r=b{number}","http_user_agent":'
            f'"curl/8.14.1","http_content_type":"image/png","http_method":"GET","protocol":"HTTP/1.1","status":200,"length":51}}'
        )
        lines.append(_eve(device, "http", at + 2000 * tx, number, ends, http))
    return lines


def steady(devices: int, events: int, first: int, start: int = START) -> Iterator[Line]:
    """Connections that open, are asked and end, spread over a fleet, about 5 ms apart on each device."""
    made = 0
    number = first
    while made < events:
        device = f"host-{number % devices:05d}"
        at = start + (number // devices) * 5_000
        lines = opened(device, number, at)
        if number % 5 == 0:
            lines += requests(device, number, at + 10_000, 4)
        lines += closed(device, number, at, at + 400_000)
        yield from lines
        made += len(lines)
        number += 1


def messages(lines: list[Line], per_message: int) -> list[tuple[str, str, bytes]]:
    """Lines as the publisher packs them: one device and dialect a message, all of a device sent when one is full."""
    waiting: dict[str, dict[str, list[bytes]]] = {}
    packed = []

    def send(device: str) -> None:
        for dialect, values in sorted(waiting.pop(device).items()):
            packed.append((device, dialect, b"\n".join(values)))

    for device, dialect, value in lines:
        values = waiting.setdefault(device, {}).setdefault(dialect, [])
        values.append(value)
        if len(values) >= per_message:
            send(device)
    for device in list(waiting):
        send(device)
    return packed
