"""Envoy's access log: the default text format, and JSON with the keys of Envoy Gateway, Istio and the manual's examples.

Source: envoyproxy.io/docs, "Access logging". Envoy rewrites the target of a forwarded request. Only a CONNECT, or a cluster of
the dynamic forward proxy, therefore shows that the request was made to a proxy. The default text has no client address except in
a header that the client can forge, so it is not used. Istio's text has the address after everything that a client writes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from schemas.address import REMEMBERED_LENGTH_MAX
from schemas.clock import parse_micros
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried, carried_again, uncarried
from schemas.parsers.common.proxy_log import (
    CONNECT,
    COUNT_DIGITS_MAX,
    address,
    count,
    destination,
    endpoint,
    epoch,
    later,
    logged,
    maybe_address,
    millis,
    port,
    proxy_dialect,
    status,
)
from schemas.parsers.common.rejects import FAULTS, Unread, reject_of
from schemas.parsers.common.values import STATUS_MAX

REFUSED_FLAGS = frozenset({"RL", "RLSE", "UAEX"})
"""Response flags for rate limits and the external authorisation service; the role-based filter is named in the details."""
REFUSED_DETAILS = ("rbac_access_denied", "ext_authz_denied")
FAILED_FLAGS = frozenset((
    "DC", "DF", "DPE", "DT", "IH", "LH", "LR", "NC", "NFCF", "NR", "OM", "SI", "UC", "UDO", "UF", "UH", "UMSDR", "UO",
    "UPE", "UR", "URX", "UT",
))  # fmt: skip
"""Response flags for a destination that was not reached, or a client that disconnected first."""
FORWARD_CLUSTERS = ("dynamic_forward_proxy", "DFPCluster:")
"""Names of clusters of the dynamic forward proxy, which connect to the requested host; other clusters connect to fixed hosts."""
OK_FROM, OK_TO = 200, 299
COUNT_MAX = 10**COUNT_DIGITS_MAX - 1

_TEXT = re.compile(r'\[(\d{4}-\d\d-\d\dT[\d:.]{8,18}Z?)\] "(\S*) (\S*) (\S*)" (?:\d{1,3}|-) \S+ ')
_ISTIO = re.compile(
    r'\[(\d{4}-\d\d-\d\dT[\d:.]{8,18}Z?)\] "(\S*) (\S*) \S*" (\d{1,3}|-) (\S+) (\S+) \S+ "[^"]*" '
    r"(\d{1,18}|-) (\d{1,18}|-) (\d{1,18}|-) .*"  # headers, as the client sent them
    r' "([^"\s]*)" "([^"\s]*)" (\S+) \S+ (\S+) (\S+) \S+ \S+'
)
"""Istio's text format; at its end are authority, upstream, cluster, and both ends of the client's connection."""


class _Json(msgspec.Struct, gc=False):
    """The used keys. Numbers may be strings; a value of any other type counts as missing."""

    start_time: Any = ""
    timestamp: Any = ""
    at_timestamp: Any = msgspec.field(default="", name="@timestamp")
    time: Any = ""
    duration: Any = ""
    downstream_remote_address: Any = ""
    downstream_direct_remote_address: Any = ""
    downstream_local_address: Any = ""
    method: Any = ""
    pseudo_method: Any = msgspec.field(default="", name=":method")
    request_method: Any = ""
    req_method: Any = ""
    pseudo_authority: Any = msgspec.field(default="", name=":authority")
    authority: Any = ""
    host: Any = ""
    original_path: Any = msgspec.field(default="", name="x-envoy-original-path")
    origin_path: Any = msgspec.field(default="", name="x-envoy-origin-path")
    path: Any = ""
    pseudo_path: Any = msgspec.field(default="", name=":path")
    upstream_cluster: Any = ""
    upstream_host: Any = ""
    response_code: Any = ""
    response_code_details: Any = ""
    response_flags: Any = ""
    bytes_received: Any = ""
    bytes_sent: Any = ""
    message: Any = ""
    """Member of a shipper's object with the line."""
    SyslogMessage: Any = ""
    RawData: Any = ""
    """Column of Azure's tables with the line."""


_DECODE = msgspec.json.Decoder(_Json).decode


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        found = uncarried(raw, _DECODE)
        if found is not None and not (found.message or found.SyslogMessage or found.RawData):
            return _logged(found, raw, "")
        return _read(carried(raw))
    except FAULTS as error:
        return reject_of(error, raw)


def _read(line: Carried) -> Parsed:
    if line.text[:1] == "{":
        raw = line.text.encode()
        return _logged(_DECODE(raw), raw, line.host)
    found = _TEXT.match(line.text)
    if found is None:
        raise Unread(Reason.MALFORMED, "neither JSON nor the default format")
    whole = _ISTIO.fullmatch(line.text)
    if whole is not None:
        return _logged(_istios(whole), line.text.encode(), line.host)
    return Ignored("", parse_micros(found[1]), "no_client" if found[2] == "CONNECT" else "not_proxied")


def _istios(found: re.Match[str]) -> _Json:
    """Return the fields of a line in Istio's text format."""
    start, method, path, answer, flags, details, received, sent, took, asked, host, cluster, local, remote = (
        found.groups()
    )
    return _Json(
        start_time=start,
        method=method,
        path=path,
        response_code=answer,
        response_flags=flags,
        response_code_details=details,
        bytes_received=received,
        bytes_sent=sent,
        duration=took,
        authority=asked,
        upstream_host=host,
        upstream_cluster=cluster,
        downstream_local_address=local,
        downstream_remote_address=remote,
    )


def _logged(found: _Json, line: bytes, proxy: str) -> Parsed:
    started = _start(found)
    at = later(started, _took(found.duration))
    client, client_port = _client(
        _text(found.downstream_remote_address) or _text(found.downstream_direct_remote_address)
    )
    method = _text(found.method) or _text(found.pseudo_method) or _text(found.request_method) or _text(found.req_method)
    cluster = _text(found.upstream_cluster)
    forward = cluster.startswith(FORWARD_CLUSTERS) or ("|" not in cluster and FORWARD_CLUSTERS[0] in cluster)
    if method != "CONNECT" and not forward:
        return Ignored(client, at, "not_proxied" if method else "no_request")
    if not client:
        return Ignored("", at, "no_client")
    authority = _text(found.pseudo_authority) or _text(found.authority) or _text(found.host)
    # HTTP/2's `:authority` has no userinfo either (RFC 9113 section 8.3.1).
    answer, asked = _status(found.response_code), destination(CONNECT, authority)
    ip, ip_port = _endpoint(_text(found.upstream_host).removeprefix("tcp://"), "upstream_host")
    proxy_ip, proxy_port = _endpoint(_text(found.downstream_local_address), "downstream_local_address")
    return logged(
        "envoy",
        proxy,
        line,
        client,
        at,
        started,
        method,
        authority if method == "CONNECT" else _path(found),
        answer,
        decide(_text(found.response_flags), _text(found.response_code_details), answer),
        client_port=client_port,
        proxy_ip=proxy_ip,
        proxy_port=proxy_port,
        asked=asked,
        upstream_ip=ip if forward or ip == asked[0] else "",
        upstream_port=ip_port,
        sent=_count(found.bytes_received, "bytes_received"),
        received=_count(found.bytes_sent, "bytes_sent"),
    )


def _path(found: _Json) -> str:
    return _text(found.original_path) or _text(found.origin_path) or _text(found.path) or _text(found.pseudo_path)


def _client(text: str) -> tuple[str, int]:
    """Return the client's address and port; port 0 if the format has none.

    ("", 0) for a socket path and for Envoy's internal listeners.
    """
    ip, _, number = text.rpartition(":")
    if ip[:1].isdigit() and ":" not in ip:  # IPv4 with a port, the most common case
        return address(ip, "downstream_remote_address"), port(number, "downstream_remote_address")
    if not text or text.startswith(("/", "@", "envoy://")):
        return "", 0
    if text.count(":") == 1 or text[:1] == "[":
        return endpoint(text, "downstream_remote_address")
    return address(text, "downstream_remote_address"), 0


def _endpoint(text: str, what: str) -> tuple[str, int]:
    """Return address and port; ("", 0) for a host name, a socket path or an internal listener of Envoy."""
    return _remembered_endpoint(text, what) if len(text) <= REMEMBERED_LENGTH_MAX else _endpoint_of(text, what)


def _endpoint_of(text: str, what: str) -> tuple[str, int]:
    ip, colon, _ = text.rpartition(":")
    return endpoint(text, what) if colon and maybe_address(ip) else ("", 0)


_remembered_endpoint = lru_cache(maxsize=8_192)(_endpoint_of)


def _start(found: _Json) -> Micros:
    text = _text(found.start_time) or _text(found.timestamp) or _text(found.at_timestamp) or _text(found.time)
    if not text:
        raise Unread(Reason.INCOMPLETE, "no start_time")
    return parse_micros(text) if "-" in text else epoch(text)  # %START_TIME(%s.%3f)%


def _took(value: Any) -> Micros:
    if type(value) is int and 0 <= value <= COUNT_MAX:  # the most common case
        return 1_000 * value
    return millis(_text(value))


def _status(value: Any) -> int | None:
    if type(value) is int and 0 <= value <= STATUS_MAX:  # the most common case
        return value or None
    return status(_text(value))


def _count(value: Any, what: str) -> int | None:
    if type(value) is int and 0 <= value <= COUNT_MAX:  # the most common case
        return value
    return count(_text(value), what)


def _text(value: Any) -> str:
    """Return a value as text; "" for a dash. A number may be written as text or as a number."""
    if value.__class__ is str:
        return value if value != "-" else ""
    return str(value) if value.__class__ is int else ""  # excludes bool, whose class is another


def decide(flags: str, details: str, answer: int | None) -> ProxyDecision:
    """Return the decision by Envoy's flags. A tunnel, or a response that had begun, counts as served, whichever side ended it."""
    response_flags = flags.split(",") if flags else ()
    if not REFUSED_FLAGS.isdisjoint(response_flags) or details.startswith(REFUSED_DETAILS):
        return ProxyDecision.DENIED
    if answer is None:
        return ProxyDecision.FAILED
    if OK_FROM <= answer <= OK_TO:
        return ProxyDecision.SERVED
    return ProxyDecision.SERVED if FAILED_FLAGS.isdisjoint(response_flags) else ProxyDecision.FAILED


def claims(raw: bytes) -> bool:
    """Return whether a line begins as in the default format, or is JSON with keys that are typical of Envoy.

    The operator chooses the keys of JSON: Envoy Gateway's default has all of these, shortened formats have some.
    """
    text = carried_again(raw).text
    if text[:1] == "{":
        if "response_" not in text:  # without a quote, as a line may contain many quotes
            return False
        if '"response_flags":' in text:
            return '"upstream_cluster":' in text or '"upstream_host":' in text or _has_headers(text)
        return '"response_code":' in text and _has_headers(text)
    return _TEXT.match(text) is not None


def _has_headers(text: str) -> bool:
    return any(f'"{name}":' in text for name in (":authority", "x-envoy-origin-path", "x-envoy-original-path"))


DIALECT = proxy_dialect(
    "envoy",
    parse,
    claims,
    title="Envoy's access log (JSON, default text)",
    gives="From JSON, CONNECT and what a dynamic forward proxy sent on, of that with the address, and both ports; else nothing.",
)
