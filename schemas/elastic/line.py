"""One event in the Elastic Common Schema (elastic.co/docs/reference/ecs): nested objects, dotted names, or both mixed.

Most parts of an event are not for us, so they stay bytes until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from schemas.address import canonical_ip
from schemas.clock import parse_micros
from schemas.envelopes import DEPTH_MAX, within
from schemas.events import IPS_CHARS_MAX, Flow, Micros, flow_of
from schemas.windows.record import Scalar, needed, number, text

PORT_MAX = 65_535
EPHEMERAL = 32_768
"""Clients take ports from here on: Linux from 32768, Windows, macOS and RFC 6335 (section 6) from 49152."""
DOTS_MAX = 8
"""No name in the schema has more parts."""
REMEMBERED_NAME_CHARS_MAX = 128
"""All events of a kind have the same names."""
NETWORK = frozenset({"network", "network_traffic"})
"""`event.category`, until 2021 a text and by the second name."""
OUR_OWN = frozenset({"egress"})
"""`network.direction` as Packetbeat works it out from the host's own addresses."""
NOT_OUR_OWN = frozenset({"ingress", "inbound", "incoming", "listening", "unknown", "external"})
ENDPOINT_AGENTS = frozenset({"", "auditbeat", "endpoint", "packetbeat"})
"""Who writes of the machine that it runs on. Other agents pass on what somebody else wrote."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Event(msgspec.Struct, frozen=True, gc=False):
    """What happened."""

    action: str | None = None
    category: str | list[str] | None = None
    type: str | list[str] | None = None
    dataset: str | None = None
    module: str | None = None
    outcome: str | None = None
    start: str | None = None
    end: str | None = None


class Host(msgspec.Struct, gc=False):
    """The machine that the agent runs on."""

    name: str | None = None
    hostname: str | None = None
    ip: str | list[str] | None = None


class Agent(msgspec.Struct, frozen=True, gc=False):
    """Who wrote it."""

    type: str | None = None
    name: str | None = None
    hostname: str | None = None


class End(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection: `source` and `client` began it."""

    ip: str | None = None
    port: Scalar = None
    bytes: Scalar = None
    packets: Scalar = None
    domain: str | None = None
    process: msgspec.Raw = msgspec.Raw(b"")


class Network(msgspec.Struct, frozen=True, gc=False):
    """How it was transported."""

    transport: str | None = None
    iana_number: Scalar = None
    direction: str | None = None


class DataStream(msgspec.Struct, frozen=True, gc=False):
    """Where Elastic Agent keeps it."""

    dataset: str | None = None


class Line(msgspec.Struct, gc=False):
    """The parts of an event that we use. Those that are frozen are shared by all lines in which they are not written."""

    timestamp: str | None = msgspec.field(default=None, name="@timestamp")
    type: Any = None
    event: Event = Event()
    host: Host | str | None = None
    agent: Agent = Agent()
    data_stream: DataStream = DataStream()
    observer: msgspec.Raw = msgspec.Raw(b"")
    tags: str | list[str] | None = None
    network: Network = Network()
    source: End = End()
    destination: End = End()
    client: End | None = None
    server: End | None = None
    process: msgspec.Raw = msgspec.Raw(b"")
    user: msgspec.Raw = msgspec.Raw(b"")
    http: msgspec.Raw = msgspec.Raw(b"")
    url: msgspec.Raw = msgspec.Raw(b"")
    tls: msgspec.Raw = msgspec.Raw(b"")
    flow: msgspec.Raw = msgspec.Raw(b"")
    request: msgspec.Raw = msgspec.Raw(b"")
    winlog: msgspec.Raw = msgspec.Raw(b"")
    is_turned: bool = msgspec.field(default=False, name="-")
    """A flow whose beginning was not seen: who sent the first packet that was, was called its source."""
    known_own: str | None = msgspec.field(default=None, name="--")
    """`own_name` once it was asked for, as it mostly is more than once."""

    @property
    def at(self) -> Micros:
        """When it was written. Raises ValueError, of it Missing."""
        return parse_micros(self.timestamp or needed(None, "@timestamp"))

    @property
    def dataset(self) -> str:
        """What kind of event it is, such as `flow`, `network_traffic.http` or `endpoint.events.network`."""
        written = self.event.dataset or self.data_stream.dataset or self.type
        return written.lower() if isinstance(written, str) else ""

    @property
    def is_network(self) -> bool:
        """It is of a connection: the category says so, from 2021 on as one of several."""
        category = self.event.category or ()
        return category in NETWORK if isinstance(category, str) else not NETWORK.isdisjoint(category)

    @property
    def is_own(self) -> bool:
        """The client is the machine that the agent runs on, not one whose packets it sees or whose log it passes on."""
        return bool(self.own_name)

    @property
    def own_name(self) -> str:
        """The machine's name where that is so, "" where it is not or the machine has none."""
        own = self.known_own
        if own is None:
            name = self._host_name
            own = self.known_own = name if name and self._is_hosts else ""
        return own

    @property
    def is_of_endpoint(self) -> bool:
        """Written by a sensor that tells of its own machine only: Elastic Defend, Auditbeat."""
        return self.event.module == "endpoint" or (self.agent.type or "").lower() in ("endpoint", "auditbeat")

    @property
    def device(self) -> str:
        """The machine's name in lower case where the client is it; otherwise the client's address. Raises ValueError."""
        ip = self.source.ip
        if not ip or self.is_of_endpoint:
            return self._host_name or (self.agent.name or self.agent.hostname or "").strip().rstrip(".").lower()
        own = self.own_name
        if own:
            return own
        if len(ip) > IPS_CHARS_MAX:
            raise ValueError(f"source.ip of {len(ip)} characters")
        return canonical_ip(ip)

    def tcp_flow(self) -> Flow:
        """Both ends of a TCP connection. Raises ValueError, of it Missing."""
        source, destination = self.source, self.destination
        local_ip, remote_ip = source.ip or needed(None, "source.ip"), destination.ip or needed(None, "destination.ip")
        local_port, remote_port = _port(source.port, "source.port"), _port(destination.port, "destination.port")
        return flow_of(local_ip, local_port, remote_ip, remote_port)

    @property
    def is_tcp(self) -> bool:
        """It went over TCP."""
        network = self.network
        return network.transport in ("tcp", "TCP") or text(network.iana_number) == "6"

    @property
    def _is_hosts(self) -> bool:
        """The client is the host, whatever that is called."""
        host = self.host
        if host is None or self.observer or (self.tags is not None and "forwarded" in several(self.tags)):
            return False
        ip, told = self.source.ip or "", host.ip if isinstance(host, Host) else None
        addresses = several(told) if ip and told else ()
        if ip in addresses:  # nearly always of a client that is this machine, so asked first
            return True
        direction = self.network.direction
        direction = direction.lower() if direction else ""
        if direction in OUR_OWN or is_loopback(ip):
            return True
        if addresses:
            return _canonical(ip) in map(_canonical, addresses)
        is_endpoint = bool(self.process) or (self.agent.type or "").lower() in ENDPOINT_AGENTS
        return is_endpoint and direction not in NOT_OUR_OWN

    @property
    def _host_name(self) -> str:
        host = self.host
        if host is None:
            return ""
        name = host if isinstance(host, str) else host.name or host.hostname or ""
        return name.strip().rstrip(".").lower()


class ProcessPart(msgspec.Struct, gc=False):
    """A process, or its parent."""

    pid: Scalar = None
    name: str | None = None
    executable: str | None = None
    command_line: str | None = None
    args: str | list[str] | None = None
    start: str | None = None
    created: str | None = None
    ppid: Scalar = None
    parent: ProcessPart | None = None
    hash: Hashes | None = None


class Hashes(msgspec.Struct, gc=False):
    """Of a process's image."""

    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None


class User(msgspec.Struct, gc=False):
    """Who the process ran as; in Packetbeat's events who signed in at the server."""

    id: Scalar = None
    name: str | None = None
    domain: str | None = None


class Body(msgspec.Struct, gc=False):
    """Of a request; Elastic Defend puts the whole message here."""

    content: str | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request."""

    method: str | None = None
    headers: dict[str, Any] | None = None
    body: Body | None = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """Its answer."""

    status_code: Scalar = None


class Http(msgspec.Struct, gc=False):
    """One exchange."""

    request: Request = Request()
    response: Response = Response()


class Url(msgspec.Struct, gc=False):
    """What was asked for."""

    original: str | None = None
    domain: str | None = None
    port: Scalar = None
    path: str | None = None
    query: str | None = None


class TlsClient(msgspec.Struct, frozen=True, gc=False):
    """The client's hello."""

    server_name: str | None = None


class Tls(msgspec.Struct, gc=False):
    """A handshake."""

    client: TlsClient = TlsClient()


class FlowPart(msgspec.Struct, gc=False):
    """Packetbeat's and Auditbeat's own part of a flow."""

    final: bool = False


_LINE = msgspec.json.Decoder(Line)
_ANY = msgspec.json.Decoder(dict[str, Any])
_TIME = b'"@timestamp"'


def read(raw: bytes) -> Line:
    """The event of a line, client first. Raises msgspec's errors, UnicodeDecodeError, RecursionError."""
    return _read(raw, DEPTH_MAX)


def _read(raw: bytes, deeper: int) -> Line:
    line = _LINE.decode(raw)
    event = line.event
    if line.timestamp is None and deeper:
        carried = next((held for held in within(raw) if _TIME in held), b"")
        if carried:
            return _read(carried, deeper - 1)
    whole = (event.dataset or event.category) and line.source.ip and line.host is not None
    if not whole and (b'"event.' in raw or b'"source.' in raw or b'"host.' in raw):
        line = _LINE.decode(msgspec.json.encode(nested(_ANY.decode(raw))))
    if not line.source.ip and line.client is not None:
        line.source = line.client
    if not line.destination.ip and line.server is not None:
        line.destination = line.server
    line.known_own = None
    line.is_turned = bool(line.flow) and _is_turned(line.source.port, line.destination.port)
    if line.is_turned:
        line.source, line.destination = line.destination, line.source
    return line


def several(written: str | list[str] | None) -> Sequence[str]:
    """What is written as a text or as a list of them."""
    return (written,) if isinstance(written, str) else written or ()


def is_loopback(ip: str) -> bool:
    """An address that a machine has for itself."""
    return ip.startswith("127.") or ip == "::1"


def _is_turned(source: Scalar, destination: Scalar) -> bool:
    return isinstance(source, int) and isinstance(destination, int) and source < EPHEMERAL <= destination


def _port(written: Scalar, name: str) -> int:
    port = written if written.__class__ is int else number(needed(written, name), name, PORT_MAX)
    if not 0 < port <= PORT_MAX:
        raise ValueError(f"TCP with {name} {port}")
    return port


def _canonical(ip: str) -> str:
    try:
        return canonical_ip(ip[:IPS_CHARS_MAX])
    except ValueError:
        return ip


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Objects made of dotted names. Raises msgspec.ValidationError where a name is a value and an object at once."""
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        parents, last = _remembered_path(name) if len(name) <= REMEMBERED_NAME_CHARS_MAX else _path(name)
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise msgspec.ValidationError(f"{parent} in {name[:80]} is a value, and not")
        inner = nested(value) if isinstance(value, dict) else value
        if isinstance(inner, dict) and isinstance(place.get(last), dict):
            place[last].update(inner)
        else:
            place[last] = inner
    return whole


def _path(name: str) -> tuple[list[str], str]:
    *parents, last = name.split(".", DOTS_MAX)
    return parents, last


_remembered_path = lru_cache(maxsize=4_096)(_path)
