"""Lines of Zeek's logs in JSON, from Zeek or a shipper: their fields, the log they belong to, the client and the time.

| format | recognised by |
|---|---|
| Zeek itself, Corelight, json-streaming-logs | dotted keys, `_path` or none |
| ROCK, `Log::default_scope_sep` | `id_orig_h`, `@stream` or `_stream` |
| nested | `id` is an object |
| zeek-kafka with `tag_json` | one key, the log's name |
| Filebeat, Vector, Splunk's export and other carriers | `schemas.parsers.common.envelopes` |
| any of these behind a syslog header | `{` after the header |
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from schemas.address import canonical_ip
from schemas.clock import EARLIEST, LATEST, MICROS, parse_micros
from schemas.events import DEVICE_CHARS_MAX, Micros
from schemas.parsers.common.envelopes import PLACES, anywhere_within
from schemas.parsers.common.rejects import UNREADABLE, Missing
from schemas.parsers.common.values import COUNT_MAX, PORT_MAX, STATUS_MAX

# fmt: off
LOGS = frozenset((
    "analyzer", "broker", "capture_loss", "cluster", "config", "conn", "conn_long", "conn_red", "dce_rpc", "dhcp", "dnp3",
    "dns", "dns_red", "dpd", "files", "files_red", "ftp", "http", "http_red", "intel", "irc", "kerberos", "known_certs",
    "known_devices", "known_hosts", "known_services", "ldap", "ldap_search", "loaded_scripts", "modbus", "mqtt_connect",
    "mqtt_publish", "mqtt_subscribe", "mysql", "notice", "notice_alarm", "ntlm", "ntp", "ocsp", "packet_filter", "pe",
    "postgresql", "print", "quic", "radius", "rdp", "redis", "reporter", "rfb", "signatures", "sip", "smb_cmd", "smb_files",
    "smb_mapping", "smtp", "snmp", "socks", "software", "ssh", "ssl", "ssl_red", "stats", "syslog", "telemetry",
    "traceroute", "tunnel", "weird", "weird_stats", "websocket", "x509",
))
# fmt: on
"""Zeek's names of logs. A log of another name, such as one that was split, is recognised by its keys."""
LOG_OF_KEY = {"AA": "dns", "fuid": "files", "certificate": "x509", "tunnel_type": "tunnel", "request_p": "socks"}
"""Keys that occur in one log only, for logs that are not used."""
UNSPECIFIED = frozenset({"0.0.0.0", "::"})
"""Addresses of a host that has no address yet."""
MILLIS_MIN = 1e11
"""A number from here on is a time in milliseconds (`JSON::TS_MILLIS`); in seconds it would be the year 5138."""

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Port = Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)]
Status = Annotated[int, msgspec.Meta(ge=0, le=STATUS_MAX)]
Uid = Annotated[str, msgspec.Meta(max_length=64)]


class Head(msgspec.Struct, gc=False):
    """Fields of every log, and fields that show which log it is."""

    ts: float | str | None = None
    duration: float | None = None
    orig_h: str | None = msgspec.field(default=None, name="id.orig_h")
    orig_h_: str | None = msgspec.field(default=None, name="id_orig_h")
    id: Any = None
    path: str | None = msgspec.field(default=None, name="_path")
    stream: str | None = msgspec.field(default=None, name="@stream")
    stream_: str | None = msgspec.field(default=None, name="_stream")
    system: str | None = msgspec.field(default=None, name="_system_name")
    system_: str | None = msgspec.field(default=None, name="@system")
    conn_state: Any = None
    trans_depth: Any = None
    request_body_len: Any = None
    request_path: Any = None
    established: Any = None
    AA: Any = None
    fuid: Any = None
    certificate: Any = msgspec.field(default=None, name="certificate.version")
    tunnel_type: Any = None
    request_p: Any = None

    @property
    def log(self) -> str:
        """Name of the log that the line belongs to; `other` if it is unknown."""
        named = self.path or self.stream or self.stream_ or ""
        if named in LOGS:
            return named
        if self.conn_state is not None:
            return "conn"
        # The keys of SIP's log are nearly those of HTTP's.
        if self.trans_depth is not None and self.request_body_len is not None and self.request_path is None:
            return "http"
        if self.established is not None:
            return "ssl"
        return next((log for key, log in LOG_OF_KEY.items() if getattr(self, key) is not None), "other")

    @property
    def client(self) -> str:
        """The client's address as it is written."""
        address = self.orig_h or self.orig_h_ or (self.id.get("orig_h") if isinstance(self.id, dict) else None)
        return address if isinstance(address, str) else ""


class ZeekLine(Head, gc=False):
    """Further fields of the logs conn, http and ssl."""

    uid: Uid | None = None
    orig_p: Port | None = msgspec.field(default=None, name="id.orig_p")
    orig_p_: Port | None = msgspec.field(default=None, name="id_orig_p")
    resp_h: str | None = msgspec.field(default=None, name="id.resp_h")
    resp_h_: str | None = msgspec.field(default=None, name="id_resp_h")
    resp_p: Port | None = msgspec.field(default=None, name="id.resp_p")
    resp_p_: Port | None = msgspec.field(default=None, name="id_resp_p")
    proto: str | None = None
    service: str | list[str] | dict[str, Any] | None = None
    orig_bytes: Count | None = None
    resp_bytes: Count | None = None
    history: str | None = None
    method: str | None = None
    host: str | dict[str, Any] | None = None
    """The Host header. Shippers use this name and `service` for objects of their own."""
    uri: str | None = None
    status_code: Status | None = None
    version: Any = None
    server_name: str | None = None


class Ends(msgspec.Struct, gc=False):
    """The ends of a connection, if they are a separate object."""

    orig_h: str | None = None
    orig_p: Port | None = None
    resp_h: str | None = None
    resp_p: Port | None = None


Kind = TypeVar("Kind", bound=Head)
LINE = msgspec.json.Decoder(ZeekLine)
HEAD = msgspec.json.Decoder(Head)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(raw: bytes, decoder: msgspec.json.Decoder[Kind]) -> Kind:
    """Decode a line of JSON, with or without a syslog header and an envelope. Raises the errors of msgspec."""
    if not raw.startswith(b"{"):
        begin = raw.find(b"{")
        if begin < 0:
            raise msgspec.DecodeError("no JSON; tab-separated rows are read from files only, with their header")
        raw = raw[begin:]
    try:
        line = decoder.decode(raw)
    except msgspec.ValidationError:
        held = _inside(raw, decoder)
        if held is None:
            raise
        return held
    return line if line.ts is not None else _inside(raw, decoder) or line


def _inside(raw: bytes, decoder: msgspec.json.Decoder[Kind]) -> Kind | None:
    """Return the line from an envelope, or from under its log's name (Zeek's Kafka writer); None if there is none."""
    strange: msgspec.ValidationError | None = None
    for held in anywhere_within(raw):
        try:
            line = decoder.decode(held)
        except msgspec.ValidationError as error:
            strange = error
        except UNREADABLE:
            continue
        else:
            if line.ts is not None:
                return line
    keys = _KEYS.decode(raw)
    name, inner = next(iter(keys.items()), ("", msgspec.Raw(b"")))
    if len(keys) == 1 and name not in PLACES and bytes(inner).startswith(b"{"):
        line = decoder.decode(inner)
        line.path = name
        return line
    if strange is not None:
        raise strange
    return None


def device(line: Head) -> str:
    """Return the client's address, else the name of the system that wrote the line, else ""."""
    try:
        client = canonical_ip(line.client)
    except ValueError:
        client = ""
    return client if client and client not in UNSPECIFIED else (line.system or line.system_ or "")[:DEVICE_CHARS_MAX]


def written(line: Head) -> Micros:
    """Return the time at which the logged activity ended: for a connection, its last packet. Raises ValueError."""
    at = micros(line.ts)
    if line.duration and line.log == "conn":
        if line.duration < 0:
            raise ValueError(f"a duration of {line.duration} s")
        at = _in_range(at + round(line.duration * MICROS))
    return at


def micros(ts: float | str | None) -> Micros:
    """Parse a time in any format of `LogAscii::json_timestamps`. Raises ValueError."""
    if ts is None:
        raise Missing("no ts")
    if isinstance(ts, str):
        if ts[4:5] == "-":
            return parse_micros(ts)
        ts = float(ts)
    return _in_range(round(ts * 1000) if ts >= MILLIS_MIN else round(ts * MICROS))


def _in_range(at: Micros) -> Micros:
    if not EARLIEST <= at <= LATEST:
        raise ValueError("time is outside 1970 to 2200")
    return at
