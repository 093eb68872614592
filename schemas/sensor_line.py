"""Lines of `unproxy sensor` about connections to proxies: the sensor writes them, the dialect `sensor` parses them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.events import ProtectionMode

FLOW_CHARS_MAX = 64

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Status = Annotated[int, msgspec.Meta(ge=100, le=999)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
FlowName = Annotated[str, msgspec.Meta(min_length=1, max_length=FLOW_CHARS_MAX)]


class OnFlow(msgspec.Struct, tag_field="kind", omit_defaults=True, gc=False):
    """Common fields of all lines about a connection; all lines of a connection have the same `flow`."""

    device: Name
    ts: str
    """ISO 8601, UTC."""
    local_ip: str
    local_port: Port
    remote_ip: str
    remote_port: Port
    flow: FlowName


class Http(OnFlow, tag="http", gc=False):
    """An HTTP request; written after its response or after the timeout for it."""

    tx: Count
    """Number of the request on its connection, from 0."""
    method: Name
    target: Name
    """The request target; `?` if the host is uncertain or the bytes are not a request."""
    host: str = ""
    """The Host field."""
    status: Status | None = None
    user_agent: str = ""
    ts_attempt: str = ""
    """Time of the connection's first SYN; "" if the sensor did not see it. `tls`, `verdict` and `socks` have it, too."""


class Tls(OnFlow, tag="tls", gc=False):
    """A TLS client hello."""

    sni: str
    """The server name in the client hello; "" if it has none."""
    tunnelled: bool
    """Whether the client hello was sent inside a CONNECT tunnel, and not to the proxy itself."""
    ech: bool = False
    """Whether the client hello may be encrypted (ECH); the name is then only the outer one."""
    ts_attempt: str = ""


class Verdict(OnFlow, tag="verdict", gc=False):
    """A request for a host on the deny list, or an unreadable request, that was blocked or only reported."""

    host: str
    """The host on the deny list; "" for an unreadable request."""
    action: str
    tx: Count = 0
    method: str = ""
    target: str = ""
    port: int = 0
    title: str = ""
    how: str = ""
    """How the request was blocked: `inline` or `socket_destroyed`."""
    why: str = ""
    """Why the request was only reported although the mode was block."""
    ts_attempt: str = ""


class Socks(OnFlow, tag="socks", gc=False):
    """A SOCKS request; written after its answer or after the timeout for it."""

    tx: Count
    """Number of the request on its connection, from 0."""
    version: Annotated[int, msgspec.Meta(ge=4, le=5)]
    host: str = ""
    """The requested host; "" if the request is not for a connection, if there was none, or if the login is of a kind that hides
    it."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    granted: bool | None = None
    """Whether the server granted the request; None if it did not answer."""
    ts_attempt: str = ""


class Mode(msgspec.Struct, tag_field="kind", tag="mode", omit_defaults=True, gc=False):
    """The protection mode that applies from this time on."""

    device: Name
    ts: str
    mode: ProtectionMode
    before: ProtectionMode | None = None


Line = Http | Tls | Verdict | Mode | Socks
