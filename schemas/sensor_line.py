"""A line of `unproxy sensor` about connections to proxies: the sensor writes it, the dialect `sensor` reads it."""

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
    """Common fields of all lines about a connection; `flow` identifies it in all of them."""

    device: Name
    ts: str
    """ISO 8601, UTC."""
    local_ip: str
    local_port: Port
    remote_ip: str
    remote_port: Port
    flow: FlowName


class Http(OnFlow, tag="http", gc=False):
    """A request, after its answer or after the end of waiting for one."""

    tx: Count
    """Number of the request on its connection, from 0."""
    method: Name
    target: Name
    """`?` if the host is not certain, or if it is no request."""
    host: str = ""
    """The Host field."""
    status: Status | None = None
    user_agent: str = ""
    ts_attempt: str = ""
    """Time of the connection's first SYN; "" if the sensor did not see it. The same in `tls`, `verdict` and `socks`."""


class Tls(OnFlow, tag="tls", gc=False):
    """A client hello."""

    sni: str
    """The server name in it; "" without one."""
    tunnelled: bool
    """In a CONNECT tunnel, not to the proxy itself."""
    ech: bool = False
    """The name may be only the outer one of an encrypted client hello."""
    ts_attempt: str = ""


class Verdict(OnFlow, tag="verdict", gc=False):
    """A request for a listed destination, or an unreadable one, was blocked or only recorded."""

    host: str
    """The listed host; "" for an unreadable request."""
    action: str
    tx: Count = 0
    method: str = ""
    target: str = ""
    port: int = 0
    title: str = ""
    how: str = ""
    """How it was blocked."""
    why: str = ""
    """Why it was only recorded although the mode was block."""
    ts_attempt: str = ""


class Socks(OnFlow, tag="socks", gc=False):
    """A SOCKS request, after its answer or after the end of waiting for one."""

    tx: Count
    """Number of the request on its connection, from 0."""
    version: Annotated[int, msgspec.Meta(ge=4, le=5)]
    host: str = ""
    """The target; "" if the client requested no connection or nothing, or if its login hides the target."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    granted: bool | None = None
    """The server's answer."""
    ts_attempt: str = ""


class Mode(msgspec.Struct, tag_field="kind", tag="mode", omit_defaults=True, gc=False):
    """The mode that applies from this time on."""

    device: Name
    ts: str
    mode: ProtectionMode
    before: ProtectionMode | None = None


Line = Http | Tls | Verdict | Mode | Socks
