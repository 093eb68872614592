"""Requests that raise alerts, as lines of Suricata: refused by the device itself, or let through and meant by an indicator.

A storm is many of them, the same domains over and over. The same requests for hosts that nobody lists are its floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from bench.fleet import FLOW_AFTER, START
from schemas.clock import MICROS, iso_micros
from schemas.indicator_input import Given, Refused, indicator_of
from schemas.indicators import Indicator
from schemas.tables import AlertKind
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message

LOGGED_MS = START // 1_000
"""The log's time when the storm begins: the devices' clocks are right."""
TAIL_SECS = 120
"""Ticks after the last hit, until what was held back has left."""


class Way(StrEnum):
    """What becomes of a request."""

    BLOCKED = AlertKind.BLOCKED
    """The device's protection stops it."""
    NOT_ENFORCED = AlertKind.NOT_ENFORCED
    """An indicator says block, and it goes through."""
    HARMLESS = "harmless"
    """Nobody means its host."""


def domain(number: int) -> str:
    """A domain that is listed."""
    return f"bad{number}.example"


def listed(domains: int) -> list[Indicator]:
    """Indicators that say: block these domains."""
    found = [
        indicator_of(Given(domain(number), title="Campaign 7", severity="high"), START) for number in range(domains)
    ]
    assert not any(isinstance(one, Refused) for one in found), "the bench's own domains are fit for indicators"
    return [one for one in found if isinstance(one, Indicator)]


@dataclass(frozen=True, slots=True)
class Asking:
    """A connection of a device to its proxy, and who is asked for on it; `number` counts within the device."""

    device: str
    client_ip: str
    number: int
    at: int
    domain: str

    def connect(self, way: Way) -> bytes:
        """A tunnel is asked for."""
        more = f'"hostname":"www.{self.domain}","http_port":443,"url":"www.{self.domain}:443","http_method":"CONNECT"'
        return self._request(way, 0, more)

    def get(self, way: Way, tx: int = 0) -> bytes:
        """Something is asked for over plain HTTP."""
        more = (
            f'"hostname":"www.{self.domain}","url":"http://www.{self.domain}/page/{self.number}/{tx}","http_method":"GET",'
            '"http_content_type":"text/html"'
        )
        return self._request(way, tx, more)

    def flow(self) -> bytes:
        """The connection's end, told long after it."""
        begin, end = iso_micros(self.at)[:-1], iso_micros(self.at + 300_000)[:-1]
        more = (
            f'"app_proto":"http","flow":{{"pkts_toserver":13,"pkts_toclient":14,"bytes_toserver":2739,'
            f'"bytes_toclient":4731,"start":"{begin}+0000","end":"{end}+0000","state":"closed","reason":"timeout"}},'
            '"tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b","state":"closed"}'
        )
        return self._eve("flow", 300_000 + FLOW_AFTER, more)

    def _request(self, way: Way, tx: int, http: str) -> bytes:
        after = 1_500 + 2_000 * tx
        if way is not Way.BLOCKED:
            return self._eve(
                "http", after, f'"tx_id":{tx},"http":{{{http},"protocol":"HTTP/1.1","status":200,"length":51}}'
            )
        more = (
            f'"tx_id":{tx},"alert":{{"action":"blocked","gid":1,"signature_id":9000001,"rev":1,"signature":"listed domain '
            f'{self.domain}","category":"Potential Corporate Privacy Violation","severity":1}},"http":{{{http},"protocol":'
            f'"HTTP/1.1","length":0}},"app_proto":"http","direction":"to_server","flow":{{"start":"{iso_micros(self.at)[:-1]}'
            f'+0000"}}'
        )
        return self._eve("alert", after, more)

    def _eve(self, kind: str, after: int, more: str) -> bytes:
        return (
            f'{{"timestamp":"{iso_micros(self.at + after)[:-1]}+0000","flow_id":{10**12 + self.number},"in_iface":"eth0",'
            f'"event_type":"{kind}","src_ip":"{self.client_ip}","src_port":{1_024 + self.number % 64_000},'
            f'"dest_ip":"10.250.0.1","dest_port":3128,"proto":"TCP","pkt_src":"wire/pcap",'
            f'"community_id":"1:WENz7KXQZOOvKEclYV9kzV0NIrs=",{more},"host":"{self.device}"}}'
        ).encode()


@dataclass(frozen=True, slots=True)
class Storm:
    """So many hits from each device within a time; four requests a connection, one connection a message."""

    way: Way
    devices: int
    domains: int
    domains_each: int
    """Of them so many for each device, one after the other."""
    hits_each: int
    secs: int

    REQUESTS = 4

    @property
    def connections(self) -> int:
        """Of each device."""
        return self.hits_each // self.REQUESTS

    def messages(self, *, twice: bool = False) -> Iterator[Message]:
        """All there is on the log, with a tick each second; `twice` says every line twice."""
        offset, second = 0, 0
        step = self.secs * MICROS // self.connections
        for number in range(self.connections):
            for device in range(self.devices):
                at = number * step + device * step // self.devices
                while second < at // MICROS:
                    second += 1
                    yield Message(offset, LOGGED_MS + second * 1_000, b"", b"", TICK_DIALECT)
                    offset += 1
                value = b"\n".join(self._lines(device, number, step) * (2 if twice else 1))
                yield Message(offset, LOGGED_MS + at // 1_000, _name(device).encode(), value, "suricata")
                offset += 1
        for later in range(second + 1, self.secs + TAIL_SECS):
            yield Message(offset, LOGGED_MS + later * 1_000, b"", b"", TICK_DIALECT)
            offset += 1

    def counts(self) -> Counter[tuple[str, str]]:
        """The hits of each device and domain."""
        found: Counter[tuple[str, str]] = Counter()
        for device in range(self.devices):
            for number in range(self.connections):
                found[_name(device), self._domain(device, number)] += self.REQUESTS
        return found

    def _lines(self, device: int, number: int, step: int) -> list[bytes]:
        now = self._asking(device, number, step)
        lines = [now.get(self.way, tx) for tx in range(self.REQUESTS)]
        ended = number - -(-(FLOW_AFTER + MICROS) // step)
        return lines if ended < 0 else [*lines, self._asking(device, ended, step).flow()]

    def _asking(self, device: int, number: int, step: int) -> Asking:
        at = START + number * step + device * step // self.devices
        asked = f"fine{number % 97}.example" if self.way is Way.HARMLESS else self._domain(device, number)
        return Asking(_name(device), f"10.{device // 250}.{device % 250}.7", number, at, asked)

    def _domain(self, device: int, number: int) -> str:
        return domain((device + number * self.domains_each // self.connections) % self.domains)


def _name(device: int) -> str:
    return f"stormy-{device:05d}"
