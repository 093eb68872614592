"""A made-up fleet's lines as the publisher packs them: one device and one file a message, in the real dialects.

Each device has tunnels that stay open, and once a minute of its own time opens a burst of connections, as a browser does:
seven of ten are tunnels (CONNECT, TLS name), two are kept alive for four hosts over plain HTTP, one goes out directly. The
kernel sensor writes a line when one opens, the network sensor its flow record 61 seconds later, as Suricata does. So what
ends leaves the state again while the bench runs, and the open tunnels lie there all the while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from schemas.clock import MICROS, iso_micros

START = 1_795_547_248 * MICROS
PERIOD = 60 * MICROS
FLOW_AFTER = 61 * MICROS
PRELOAD_TUNNELS = 50
"""Tunnels opened by two messages of the preload: 50 kernel lines, 100 of the network sensor."""
OPEN_MAX = 20_000
"""Tunnels that stay open on one device: their ports are nobody else's."""
LINES_PER_CONNECTION = 4.3
"""Kernel record, 3.3 lines of the network sensor."""


class Packed(NamedTuple):
    """One message."""

    device: str
    dialect: str
    value: bytes

    @property
    def lines(self) -> int:
        """How many lines are in it."""
        return self.value.count(b"\n") + 1


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of one device; `number` counts within the device."""

    device: int
    number: int
    at: int
    stays: bool = False

    @property
    def direct(self) -> bool:
        """Past the proxy."""
        return not self.stays and self.number % 10 == 9

    @property
    def plain(self) -> bool:
        """Plain HTTP to the proxy."""
        return not self.stays and self.number % 10 in (3, 6)

    @property
    def host(self) -> str:
        """What is really talked to."""
        return f"www{self.number % 97}.example{(self.device + self.number) % 89}.com"

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """Both ends of it."""
        port = 1024 + self.number if self.stays else 1024 + OPEN_MAX + self.number % 40_000
        local = f"10.{self.device // 250 % 250}.{self.device % 250}.7", port
        if self.direct:
            return *local, f"203.0.113.{1 + self.number % 200}", 443
        return *local, f"10.250.0.{1 + self.device % 4}", 3128

    def kernel(self) -> str:
        """The kernel sensor's line when it opens."""
        local_ip, local_port, remote_ip, remote_port = self.ends
        return (
            f'{{"device":"{name(self.device)}","pid":{1000 + self.number % 9000},"process":"firefox","local_ip":"{local_ip}",'
            f'"local_port":{local_port},"remote_ip":"{remote_ip}","remote_port":{remote_port},"result":"open",'
            f'"ts_attempt":"{iso_micros(self.at)}","ts_established":"{iso_micros(self.at + 90)}","ts_closed":null}}'
        )

    def spoken(self) -> list[str]:
        """The network sensor's lines of what is asked on it."""
        if self.plain:
            return [self._get(tx) for tx in range(4)]
        name_of_tls = self._eve("tls", 4500, self._tls())
        return [name_of_tls] if self.direct else [self._eve("http", 1500, self._connect()), name_of_tls]

    def flow(self) -> str:
        """The network sensor's line long after its end."""
        begin, end = iso_micros(self.at)[:-1], iso_micros(self.at + 300_000)[:-1]
        kind = "http" if self.plain else "tls"
        more = (
            f'"app_proto":"{kind}"{"" if self.plain or self.direct else _FROM_HTTP},"flow":{{"pkts_toserver":13,'
            f'"pkts_toclient":14,"bytes_toserver":2739,"bytes_toclient":4731,"start":"{begin}+0000","end":"{end}+0000",'
            '"age":0,"state":"closed","reason":"timeout","alerted":false},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b",'
            '"tcp_flags_tc":"1b","syn":true,"fin":true,"psh":true,"ack":true,"state":"closed","ts_max_regions":1,'
            '"tc_max_regions":1}'
        )
        return self._eve("flow", 300_000 + FLOW_AFTER, more)

    def _connect(self) -> str:
        host = self.host
        return (
            f'"tx_id":0,"http":{{"hostname":"{host}","http_port":443,"url":"{host}:443","http_user_agent":"curl/8.14.1",'
            '"http_method":"CONNECT","protocol":"HTTP/1.1","status":200,"length":0}'
        )

    def _tls(self) -> str:
        return f'"tls":{{"sni":"{self.host}","version":"TLS 1.3"{"" if self.direct else _FROM_PROTO}}}'

    def _get(self, tx: int) -> str:
        host = f"cdn{(self.number + tx) % 97}.example{self.device % 89}.net"
        more = (
            f'"tx_id":{tx},"http":{{"hostname":"{host}","url":"http://{host}/img/{tx}.png?r=b{self.number}",'
            '"http_user_agent":"curl/8.14.1","http_content_type":"image/png","http_method":"GET","protocol":"HTTP/1.1",'
            '"status":200,"length":51}'
        )
        return self._eve("http", 1500 + 2000 * tx, more)

    def _eve(self, kind: str, after: int, more: str) -> str:
        local_ip, local_port, remote_ip, remote_port = self.ends
        flow_id = 10**12 + self.device * 10**7 + (self.number if self.stays else self.number + OPEN_MAX)
        return (
            f'{{"timestamp":"{iso_micros(self.at + after)[:-1]}+0000","flow_id":{flow_id},"in_iface":"eth0",'
            f'"event_type":"{kind}","src_ip":"{local_ip}","src_port":{local_port},"dest_ip":"{remote_ip}",'
            f'"dest_port":{remote_port},"proto":"TCP","pkt_src":"wire/pcap",'
            f'"community_id":"1:WENz7KXQZOOvKEclYV9kzV0NIrs=",{more},"host":"{name(self.device)}"}}'
        )


_FROM_HTTP = ',"app_proto_orig":"http"'
_FROM_PROTO = ',"from_proto":"http"'


def name(device: int) -> str:
    """What a device is called."""
    return f"host-{device:05d}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many devices, whose messages have so many lines on average."""

    devices: int
    lines_per_message: int = 100

    @property
    def burst(self) -> int:
        """Connections that a device opens at once: they make two messages."""
        return max(1, round(2 * self.lines_per_message / LINES_PER_CONNECTION))

    def preload(self, connections: int) -> Iterator[Packed]:
        """Tunnels that stay open, device after device."""
        each = -(-connections // self.devices)
        assert each <= OPEN_MAX, f"at most {OPEN_MAX} tunnels a device; use more devices"
        for device in range(self.devices):
            mine = min(each, connections - device * each)
            for first in range(0, mine, PRELOAD_TUNNELS):
                begin = START - PERIOD + first * 1_000
                some = [
                    Connection(device, number, begin + 5_000 * (number - first), stays=True)
                    for number in range(first, min(first + PRELOAD_TUNNELS, mine))
                ]
                yield _pack(device, "sockets", [connection.kernel() for connection in some])
                yield _pack(device, "suricata", [line for connection in some for line in connection.spoken()])

    def rounds(self, first: int, count: int) -> Iterator[Packed]:
        """Everything the devices say in some of their minutes, numbered from 0."""
        for number in range(first, first + count):
            for device in range(self.devices):
                now, before = self._opened(device, number), self._opened(device, number - 1)
                yield _pack(device, "sockets", [connection.kernel() for connection in now])
                spoken = [line for connection in now for line in connection.spoken()]
                yield _pack(device, "suricata", [*spoken, *(connection.flow() for connection in before)])

    def rounds_for(self, events: int) -> int:
        """How many rounds have at least so many lines; the very first one lacks the flow records."""
        connections = self.devices * self.burst
        return -(-(events + connections) // round(connections * LINES_PER_CONNECTION))

    def _opened(self, device: int, number: int) -> list[Connection]:
        if number < 0:
            return []
        at, first = START + number * PERIOD, number * self.burst
        return [Connection(device, first + i, at + 5_000 * i) for i in range(self.burst)]


def _pack(device: int, dialect: str, lines: list[str]) -> Packed:
    return Packed(name(device), dialect, "\n".join(lines).encode())
