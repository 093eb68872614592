"""The parts of an event in the Elastic Common Schema that we use. Those that are frozen are shared by lines without them."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.parsers.common.values import Scalar


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


class Http(msgspec.Struct, frozen=True, gc=False):
    """One exchange."""

    request: Request = Request()
    response: Response = Response()


class Url(msgspec.Struct, frozen=True, gc=False):
    """What was asked for."""

    original: str | None = None
    domain: str | None = None
    port: Scalar = None
    path: str | None = None
    query: str | None = None


class TlsClient(msgspec.Struct, frozen=True, gc=False):
    """The client's hello."""

    server_name: str | None = None


class Tls(msgspec.Struct, frozen=True, gc=False):
    """A handshake."""

    client: TlsClient = TlsClient()


class FlowPart(msgspec.Struct, gc=False):
    """Packetbeat's and Auditbeat's own part of a flow."""

    final: bool = False


WORDS = frozenset(
    word
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    for word in kind.__struct_encode_fields__
)
"""The names of all that is in the parts."""
