"""A line of `unproxy sensor` about connections to the proxies: the sensor writes it, the dialect `sensor` reads it."""

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
    """What all lines about a connection begin with; `flow` names the connection, the same in all its lines."""

    device: Name
    ts: str
    """ISO 8601, UTC."""
    local_ip: str
    local_port: Port
    remote_ip: str
    remote_port: Port
    flow: FlowName


class Http(OnFlow, tag="http", gc=False):
    """A request, once it is answered or will not be."""

    tx: Count
    """Which request of its connection, from 0."""
    method: Name
    target: Name
    """`?` where the host is not certain, or it is no request."""
    host: str = ""
    """What the Host field says."""
    status: Status | None = None
    user_agent: str = ""
    ts_attempt: str = ""
    """When the connection began: its first SYN. "" where the sensor did not see it; the same in `tls` and `verdict`."""


class Tls(OnFlow, tag="tls", gc=False):
    """A client hello."""

    sni: str
    """The server that it names; "" where it names none."""
    tunnelled: bool
    """In a CONNECT tunnel, not to the proxy itself."""
    ech: bool = False
    """The name may be only the outer one of an encrypted client hello."""
    ts_attempt: str = ""


class Verdict(OnFlow, tag="verdict", gc=False):
    """A request for a listed destination, or one that cannot be read, was blocked, or only noted."""

    host: str
    """The listed one; "" for what was stopped because it cannot be read."""
    action: str
    tx: Count = 0
    method: str = ""
    target: str = ""
    port: int = 0
    title: str = ""
    how: str = ""
    """How it was blocked."""
    why: str = ""
    """Why it was only noted although the mode was block."""
    ts_attempt: str = ""


class Socks(OnFlow, tag="socks", gc=False):
    """A SOCKS request, once it is answered or will not be."""

    tx: Count
    """Which request of its connection, from 0."""
    version: Annotated[int, msgspec.Meta(ge=4, le=5)]
    host: str = ""
    """The target; "" where the client asked for no connection, or its login hides the target, or it asked for nothing."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    granted: bool | None = None
    """The server's answer."""
    ts_attempt: str = ""


class Mode(msgspec.Struct, tag_field="kind", tag="mode", omit_defaults=True, gc=False):
    """The mode is in force from now on."""

    device: Name
    ts: str
    mode: ProtectionMode
    before: ProtectionMode | None = None


Line = Http | Tls | Verdict | Mode | Socks
