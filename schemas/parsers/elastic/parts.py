"""The used parts of an event in the Elastic Common Schema. Frozen parts are the defaults of lines that lack them."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.parsers.common.values import Scalar


class Event(msgspec.Struct, frozen=True, gc=False):
    """The field `event`: kind and outcome of the event."""

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
    """The agent that wrote the event."""

    type: str | None = None
    name: str | None = None
    hostname: str | None = None


class End(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection; `source` and `client` are the end that started it."""

    ip: str | None = None
    port: Scalar = None
    bytes: Scalar = None
    packets: Scalar = None
    domain: str | None = None
    process: msgspec.Raw = msgspec.Raw(b"")


class Network(msgspec.Struct, frozen=True, gc=False):
    """Transport and direction of the connection."""

    transport: str | None = None
    iana_number: Scalar = None
    direction: str | None = None


class DataStream(msgspec.Struct, frozen=True, gc=False):
    """The data stream into which Elastic Agent writes the event."""

    dataset: str | None = None


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
    """Hashes of a process's image."""

    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None


class User(msgspec.Struct, gc=False):
    """The user of the process; in Packetbeat's events the user who logged in at the server."""

    id: Scalar = None
    name: str | None = None
    domain: str | None = None


class Body(msgspec.Struct, gc=False):
    """Body of a request; Elastic Defend stores the whole message here."""

    content: str | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request."""

    method: str | None = None
    headers: dict[str, Any] | None = None
    body: Body | None = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """An HTTP response."""

    status_code: Scalar = None


class Http(msgspec.Struct, frozen=True, gc=False):
    """A request with its response."""

    request: Request = Request()
    response: Response = Response()


class Url(msgspec.Struct, frozen=True, gc=False):
    """The requested URL."""

    original: str | None = None
    domain: str | None = None
    port: Scalar = None
    path: str | None = None
    query: str | None = None


class TlsClient(msgspec.Struct, frozen=True, gc=False):
    """The TLS client hello."""

    server_name: str | None = None


class Tls(msgspec.Struct, frozen=True, gc=False):
    """A TLS handshake."""

    client: TlsClient = TlsClient()


class FlowPart(msgspec.Struct, gc=False):
    """The flow object of Packetbeat and Auditbeat."""

    final: bool = False


WORDS = frozenset(
    word
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    for word in kind.__struct_encode_fields__
)
"""Names of all fields of the parts."""
