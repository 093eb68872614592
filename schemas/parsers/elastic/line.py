"""Decoding of an event in the Elastic Common Schema (elastic.co/docs/reference/ecs) with nested objects, dotted names, or both.

The parts that depend on the kind of event are decoded together with the line, which is fast and nearly always succeeds. If one of
them is invalid, all stay bytes, and each is decoded when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec

from schemas.address import canonical_ip
from schemas.clock import parse_micros
from schemas.events import IPS_CHARS_MAX, Flow, Micros, flow_of
from schemas.parsers.common.envelopes import DEPTH_MAX, within
from schemas.parsers.common.rejects import UNREADABLE, Missing
from schemas.parsers.common.values import PORT_MAX, Scalar, device_name, needed, number, text
from schemas.parsers.elastic.parts import WORDS, Agent, DataStream, End, Event, FlowPart, Host, Http, Network, Tls, Url

EPHEMERAL = 32_768
"""Lowest port of clients: Linux uses 32768 and above; Windows, macOS and RFC 6335 (section 6) 49152 and above."""
DOTS_MAX = 8
"""Maximum number of dots in a name; no name of the schema has more."""
REMEMBERED_NAME_CHARS_MAX = 128
"""Longest name in characters that is cached; all events of a kind have the same names."""
SHAPES_MAX = 256
SHAPE_NAMES_MAX = 128
SHAPE_BYTES_MAX = 4_096
"""Longest list of names in bytes whose shape (structure of the line) is cached."""
DOTTED_BYTES_MAX = 131_072
"""Longest line with dotted names that is converted to objects; 1,000 fields, Elasticsearch's limit, need a hundredth of it."""
NETWORK = frozenset({"network", "network_traffic"})
"""Values of `event.category` for network events; until 2021 the field was a string, with the second value."""
OUR_OWN = frozenset({"egress"})
"""Values of `network.direction` that Packetbeat derives from the host's own addresses."""
NOT_OUR_OWN = frozenset({"ingress", "inbound", "incoming", "listening", "unknown", "external"})
ENDPOINT_AGENTS = frozenset({"", "auditbeat", "endpoint", "packetbeat"})
"""Agents that report on their own machine. Other agents forward the events of other sensors."""
NO_TIME = (
    "@timestamp, event.start and event.end are missing, so the event has no time; publish whole events: "
    "in Packetbeat codec.json, or a codec.format or an export that includes @timestamp"
)


class Line(msgspec.Struct, gc=False):
    """The used fields of an event, in the order in which most shippers write them, as msgspec then finds them fastest."""

    timestamp: str | None = msgspec.field(default=None, name="@timestamp")
    type: Any = None
    event: Event = Event()
    flow: msgspec.Raw = msgspec.Raw(b"")
    source: End = End()
    client: End | None = None
    destination: End = End()
    server: End | None = None
    http: msgspec.Raw = msgspec.Raw(b"")
    url: msgspec.Raw = msgspec.Raw(b"")
    tls: msgspec.Raw = msgspec.Raw(b"")
    network: Network = Network()
    process: msgspec.Raw = msgspec.Raw(b"")
    user: msgspec.Raw = msgspec.Raw(b"")
    agent: Agent = Agent()
    host: Host | str | None = None
    data_stream: DataStream = DataStream()
    tags: str | list[str] | None = None
    observer: msgspec.Raw = msgspec.Raw(b"")
    request: msgspec.Raw = msgspec.Raw(b"")
    winlog: msgspec.Raw = msgspec.Raw(b"")
    is_turned: bool = msgspec.field(default=False, name="-")
    """Whether the flow's start was not seen, and source and destination were swapped: the sender of the first seen packet is its
    source."""
    known_own: str | None = msgspec.field(default=None, name="--")
    """Cached value of `own_name`, which is usually needed more than once."""

    def at(self) -> Micros:
        """Time of the event in microseconds. Raises ValueError; Missing if there is none."""
        if not self.timestamp:
            raise Missing(NO_TIME)
        return parse_micros(self.timestamp)

    def dataset(self) -> str:
        """Kind of the event, such as `flow`, `network_traffic.http` or `endpoint.events.network`."""
        written = self.event.dataset or self.data_stream.dataset or self.type
        return written.lower() if isinstance(written, str) else ""

    def is_network(self) -> bool:
        """Whether the event is about a connection: `event.category` contains it; from 2021 on this field is a list."""
        category = self.event.category or ()
        return category in NETWORK if isinstance(category, str) else not NETWORK.isdisjoint(category)

    def own_name(self) -> str:
        """Name of the agent's machine if that machine is the client; otherwise, or if it has no name, ""."""
        own = self.known_own
        if own is None:
            name = self._host_name()
            own = self.known_own = name if name and self._is_hosts() else ""
        return own

    def is_of_endpoint(self) -> bool:
        """Whether the sensor reports only its own machine (Elastic Defend, Auditbeat)."""
        return self.event.module == "endpoint" or (self.agent.type or "").lower() in ("endpoint", "auditbeat")

    def device(self) -> str:
        """Name of the agent's machine in lower case if it is the client; otherwise the client's address. Raises ValueError."""
        ip = self.source.ip
        if not ip or self.is_of_endpoint():
            return self._host_name() or device_name(self.agent.name or self.agent.hostname)
        own = self.own_name()
        if own:
            return own
        if len(ip) > IPS_CHARS_MAX:
            raise ValueError(f"source.ip of {len(ip)} characters")
        return canonical_ip(ip)

    def tcp_flow(self) -> Flow:
        """Return the flow of a TCP connection. Raises ValueError; Missing if an address or port is missing."""
        source, destination = self.source, self.destination
        local_ip, remote_ip = source.ip or needed(None, "source.ip"), destination.ip or needed(None, "destination.ip")
        local_port, remote_port = _port(source.port, "source.port"), _port(destination.port, "destination.port")
        return flow_of(local_ip, local_port, remote_ip, remote_port)

    def is_tcp(self) -> bool:
        """Whether the transport is TCP."""
        network = self.network
        return network.transport in ("tcp", "TCP") or text(network.iana_number) == "6"

    def _is_hosts(self) -> bool:
        """Return whether the client is the agent's host, by its addresses."""
        host = self.host
        if host is None or self.observer or (self.tags is not None and "forwarded" in several(self.tags)):
            return False
        ip, listed = self.source.ip or "", host.ip if isinstance(host, Host) else None
        addresses = several(listed) if ip and listed else ()
        if ip in addresses:  # usually the client is this machine, so this is tested first
            return True
        direction = self.network.direction
        direction = direction.lower() if direction else ""
        if direction in OUR_OWN or is_loopback(ip):
            return True
        if addresses:
            return _canonical(ip) in map(_canonical, addresses)
        is_endpoint = bool(self.process) or (self.agent.type or "").lower() in ENDPOINT_AGENTS
        return is_endpoint and direction not in NOT_OUR_OWN

    def _host_name(self) -> str:
        host = self.host
        if host is None:
            return ""
        return device_name(host if isinstance(host, str) else host.name or host.hostname)


class _WholeLine(Line, gc=False):
    """A line of which all parts are valid."""

    flow: FlowPart | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]  # bytes in a line with an invalid part
    http: Http = Http()  # type: ignore[assignment]  # bytes in a line with an invalid part
    url: Url = Url()  # type: ignore[assignment]  # bytes in a line with an invalid part
    tls: Tls = Tls()  # type: ignore[assignment]  # bytes in a line with an invalid part


_WHOLE = msgspec.json.Decoder(_WholeLine)
_LINE = msgspec.json.Decoder(Line)
_ANY = msgspec.json.Decoder(dict[str, Any])
_encoded = msgspec.json.Encoder().encode
_TIME = b'"@timestamp"'
_USED = WORDS.union(Line.__struct_encode_fields__)


def read(raw: bytes) -> Line:
    """Decode the event of a line, client first. Raises msgspec's errors, UnicodeDecodeError, RecursionError."""
    return _read(raw, DEPTH_MAX)


def _read(raw: bytes, deeper: int) -> Line:
    line = _decoded(raw)
    if line.timestamp is None and deeper:
        carried = next((held for held in within(raw) if _TIME in held), b"")
        if carried:
            return _read(carried, deeper - 1)
    event = line.event
    is_whole = (event.dataset or event.category) and line.source.ip and line.host is not None
    if not is_whole and (b'"event.' in raw or b'"source.' in raw or b'"host.' in raw):
        line = _decoded(_with_objects(raw))
    if line.timestamp is None:  # an export may lack the field, as it is also the index's own
        line.timestamp = line.event.start or line.event.end
    if not line.source.ip and line.client is not None:
        line.source = line.client
    if not line.destination.ip and line.server is not None:
        line.destination = line.server
    line.known_own = None
    line.is_turned = bool(line.flow) and _is_turned(line.source.port, line.destination.port)
    if line.is_turned:
        line.source, line.destination = line.destination, line.source
    return line


def _decoded(raw: bytes) -> Line:
    """Decode a line, with its `flow`, `http`, `url` and `tls` if all of them are valid. Raises the same errors as `read`."""
    try:
        return _WHOLE.decode(raw)
    except UNREADABLE:
        return _LINE.decode(raw)


def several(written: str | list[str] | None) -> Sequence[str]:
    """Return the values of a field that is a string or a list of strings."""
    return (written,) if isinstance(written, str) else written or ()


def is_loopback(ip: str) -> bool:
    """Return whether an address is a loopback address."""
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


def dotted(raw: bytes) -> dict[str, Any]:
    """Decode a line of dotted names. Raises msgspec's errors; ValidationError for a line that is too long."""
    if len(raw) > DOTTED_BYTES_MAX:
        raise msgspec.ValidationError(f"{len(raw)} bytes with dotted names; at most {DOTTED_BYTES_MAX} are read")
    return _ANY.decode(raw)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Convert dotted names to nested objects. Raises msgspec.ValidationError if a name is both a value and an object."""
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


def _with_objects(raw: bytes) -> bytes:
    """Return the line with nested objects in place of dotted names; unused fields may be missing.

    Raises the errors of decoding and of `nested`.
    """
    flat = dotted(raw)
    is_usual = len(raw) <= SHAPE_BYTES_MAX and len(flat) <= SHAPE_NAMES_MAX and dict not in map(type, flat.values())
    shape = _remembered_shape(frozenset(flat)) if is_usual else None
    if shape is None:
        return _encoded(nested(flat))
    text, values_of = shape
    return text % tuple(map(_encoded, values_of(flat)))


def _shape(names: frozenset[str]) -> tuple[bytes, Callable[[dict[str, Any]], tuple[Any, ...]]] | None:
    """Return a template of a line with these names, and a function that takes their values from a decoded line.

    The template has `%b` for each value. None if `nested` must convert the line: a name is both a value and an object, or few of
    the names are used.
    """
    try:
        whole = nested({name: name for name in sorted(names)})
    except msgspec.ValidationError:
        return None
    used: list[str] = []
    text = _encoded(_blank(whole, used)).replace(b'"%b"', b"%b")
    return (text, itemgetter(*used)) if len(used) > 1 else None


def _blank(whole: dict[str, Any], used: list[str]) -> dict[str, Any]:
    """Return the objects with `%b` in place of each used value, and append the value's dotted name to `used`."""
    blank: dict[str, Any] = {}
    for name, value in whole.items():
        if name in _USED:
            if isinstance(value, dict):
                blank[name] = _blank(value, used)
            else:
                blank[name] = "%b"
                used.append(value)
    return blank


_remembered_shape = lru_cache(maxsize=SHAPES_MAX)(_shape)


def _path(name: str) -> tuple[list[str], str]:
    *parents, last = name.split(".", DOTS_MAX)
    return parents, last


_remembered_path = lru_cache(maxsize=4_096)(_path)
