"""Requests that raise alerts, as lines of Suricata: refused by the device itself, or let through and meant by an indicator.

A storm is many of them, the same domains over and over. The same requests for unlisted hosts are its floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from producers.simulation import WorldSettings, eve
from producers.simulation.exchanges import HTTP
from producers.simulation.fleet import PROXIES, TOOLS, Listed, remote
from schemas.clock import MICROS
from schemas.events import Micros
from schemas.indicator_input import Given, Refused, indicator_of
from schemas.indicators import Indicator
from schemas.tables import AlertKind
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message

START = WorldSettings().begin
FLOW_AFTER = 61 * MICROS
AGENT = TOOLS[0].agent
LOGGED_MS = START // 1_000
"""The log's time when the storm begins: the devices' clocks are right."""
TAIL_SECS = 120
"""Ticks after the last hit, until what was held back has left."""


class Way(StrEnum):
    """What becomes of a request."""

    BLOCKED = AlertKind.BLOCKED
    """The device's protection stops it."""
    NOT_ENFORCED = AlertKind.NOT_ENFORCED
    """An indicator with the action block matches, and the request proceeds."""
    HARMLESS = "harmless"
    """Its host is not listed."""


def domain(number: int) -> str:
    """A domain that is listed."""
    return f"bad{number}.example"


def listed(domains: int) -> list[Indicator]:
    """Return indicators with the action block for these domains."""
    found = [
        indicator_of(Given(domain(number), title="Campaign 7", severity="high"), START) for number in range(domains)
    ]
    assert not any(isinstance(one, Refused) for one in found), "the bench's own domains are fit for indicators"
    return [one for one in found if isinstance(one, Indicator)]


class Asking:
    """A connection of a device to its proxy and the domain requested on it; `number` counts within the device."""

    def __init__(self, device: str, client_ip: str, number: int, at: Micros, domain: str) -> None:
        self.domain, self._at, self._number = domain, at, number
        self._host = f"www.{domain}"
        port = 1_024 + number % 64_000
        pair = eve.Pair(remote(client_ip, 0), PROXIES[0])
        self._wire = eve.Wire(f',"host":"{device}"}}', '"in_iface":"eth0",', 10**12 + number, pair, port, at)

    def connect(self, way: Way) -> bytes:
        """Return the record of a CONNECT."""
        status = None if way is Way.BLOCKED else 200
        return self._request(way, 0, "CONNECT", eve.connect(self._host, 443, AGENT, status))

    def get(self, way: Way, tx: int = 0) -> bytes:
        """Return the record of a plain HTTP request."""
        url = f"http://{self._host}/page/{self._number}/{tx}"
        status = None if way is Way.BLOCKED else 200
        return self._request(way, tx, "host", eve.get(self._host, url, AGENT, "text/html", status, 51))

    def flow(self) -> bytes:
        """Return the flow record."""
        end = self._at + 300_000
        return self._wire.flow(end + FLOW_AFTER, end, HTTP, eve.FINISHED, "timeout", 2_739, 4_731).encode()

    def _request(self, way: Way, tx: int, rule: str, exchange: str) -> bytes:
        at = self._at + 1_500 + 2_000 * tx
        if way is not Way.BLOCKED:
            return self._wire.http(at, tx, exchange).encode()
        listed = Listed(self._host, self.domain, 9_000_000, "drop", "drop", "drop")
        return self._wire.alert(at, tx, listed, rule, "drop", f'"http":{{{exchange}}}').encode()


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
        """All there is on the log, with a tick each second; `twice` repeats every line."""
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
