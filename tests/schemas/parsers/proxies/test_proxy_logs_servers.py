"""What squid, HAProxy and Envoy state of a request in their logs."""

from __future__ import annotations

import json

import pytest

from schemas.events import ProxyDecision, Reason
from schemas.parsers import dialects
from tests.schemas.parsers.proxies.proxy_log_lines import ENVOY, HAPROXY, envoy, logged, native
from tests.schemas.parsers.reading import kind, reason


@pytest.mark.parametrize(
    ("result", "decision", "status"),
    [
        ("TCP_MISS/200", ProxyDecision.SERVED, 200),
        ("TCP_MISS/404", ProxyDecision.SERVED, 404),
        ("TCP_MISS/500", ProxyDecision.SERVED, 500),
        ("TCP_MEM_HIT/200", ProxyDecision.SERVED, 200),
        ("TCP_MISS_ABORTED/200", ProxyDecision.SERVED, 200),
        ("TCP_DENIED/403", ProxyDecision.DENIED, 403),
        ("TCP_DENIED/200", ProxyDecision.DENIED, 200),
        ("TCP_DENIED_REPLY/403", ProxyDecision.DENIED, 403),
        ("TCP_DENIED/407", ProxyDecision.SIGN_IN, 407),
        ("TCP_MISS/407", ProxyDecision.SIGN_IN, 407),
        ("TCP_MISS/503", ProxyDecision.FAILED, 503),
        ("TCP_MISS_ABORTED/000", ProxyDecision.FAILED, None),
        ("NONE_NONE/409", ProxyDecision.FAILED, 409),
        ("TAG_NONE/400", ProxyDecision.FAILED, 400),
        ("NONE/200", ProxyDecision.SERVED, 200),
    ],
)
def test_squid_states_what_it_did(result: str, decision: ProxyDecision, status: int | None) -> None:
    """Its code comes first, the status reports the rest."""
    event = logged("squid", native(result))

    assert (event.decision, event.status) == (decision, status)


@pytest.mark.parametrize(
    ("result", "request_", "peer", "upstream"),
    [
        ("TCP_MISS/200", "GET http://a.example/", "HIER_DIRECT/203.0.113.9", "203.0.113.9"),
        ("TCP_MISS/200", "GET http://a.example/", "DIRECT/203.0.113.9", "203.0.113.9"),
        ("TCP_MISS/200", "GET http://a.example/", "TIMEOUT_HIER_DIRECT/203.0.113.9", "203.0.113.9"),
        ("TCP_TUNNEL/200", "CONNECT a.example:443", "ORIGINAL_DST/2001:db8::9", "2001:db8::9"),
        ("TCP_MISS/200", "GET http://a.example/", "FIRSTUP_PARENT/203.0.113.80", ""),
        ("TCP_MISS/200", "GET http://a.example/", "PINNED/203.0.113.9", ""),
        ("TCP_MISS/200", "GET http://a.example/", "DIRECT/a.example", ""),
        ("TCP_MISS/200", "GET http://a.example/", "HIER_NONE/-", ""),
        ("TCP_MISS/503", "GET http://a.example/", "HIER_DIRECT/203.0.113.9", ""),
        ("TCP_MISS_ABORTED/000", "GET http://a.example/", "HIER_DIRECT/203.0.113.9", ""),
        ("TCP_MISS/502", "GET http://a.example/", "HIER_DIRECT/203.0.113.9", "203.0.113.9"),
        ("TCP_TUNNEL/502", "CONNECT a.example:443", "HIER_DIRECT/203.0.113.9", ""),
    ],
)
def test_only_the_destinations_own_address_is_given(result: str, request_: str, peer: str, upstream: str) -> None:
    """Not a parent's, not one that was only tried, and no name."""
    assert logged("squid", native(result, request_, peer)).upstream_ip == upstream


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (native("NONE_NONE/400", "GET /favicon.ico", "HIER_NONE/-"), "not_proxied"),
        (native("NONE_NONE/000", "- error:transaction-end-before-headers", "HIER_NONE/-"), "no_request"),
        (native("NONE_NONE/400", "GET error:invalid-request", "HIER_NONE/-"), "no_request"),
        (native("TCP_MISS/200", "GET cache_object://localhost/info"), "internal"),
        (native("TCP_MISS/200", "GET urn:x:y"), "no_destination"),
        (native("TCP_MISS/200", "CONNECT a.example:0443000"), "no_destination"),
        (native("UDP_HIT/000", "ICP_QUERY http://a.example/"), "icp"),
        (native().replace("192.0.2.7", "-"), "internal"),
        ("2019/10/11 09:14:49 kid1| Starting Squid Cache", "cache_log"),
        ("2019/10/11 09:14:49| WARNING: something", "cache_log"),
    ],
)
def test_squid_lines_that_hold_nothing(line: str, why: str) -> None:
    """They are understood, and counted by kind."""
    assert kind("squid", line) == why


def test_squid_times_and_spaces() -> None:
    """Whole seconds, any run of spaces, more fields at the end; the beginning is the end less what it took."""
    event = logged("squid", native().replace("1570784654.576    111", "1570784654  \t   111") + " [a: b] [c: d] id7")

    assert (event.at, event.started) == (1_570_784_654_000_000, 1_570_784_653_889_000)


def test_squid_combined() -> None:
    """With or without the two headers, which are the client's own words and state nothing. How long it took is not reported."""
    request = '192.0.2.7 - DOMAIN\\u7 [12/Sep/2024:12:38:20 +0530] "CONNECT a.example:443 HTTP/1.1" 403 7 '
    headers = '"-" "a \\" TCP_MISS:HIER_DIRECT b" '
    for line in (request + "TCP_DENIED:HIER_NONE", request + headers + "TCP_DENIED:HIER_NONE [x: y]"):
        event = logged("squid", line)

        assert (event.decision, event.user, event.at, event.started) == (
            ProxyDecision.DENIED,
            "DOMAIN\\u7",
            1_726_124_900_000_000,
            0,
        )


def test_squid_json_as_documented() -> None:
    """Numbers in quotes, dashes for what there is not, other keys beside; both ports and the address used to."""
    line = (
        '{"ts_start":"1795547249.781","ts_end":"1795547249.788","dur_ms":"-","client_ip":"192.0.2.7","client_port":"55694",'
        '"proxy_ip":"::ffff:192.0.2.80","proxy_port":"3128","method":"CONNECT","url":"a.example:443","status":"200","tag":"TCP_TUNNEL",'
        '"hier":"HIER_DIRECT","server_ip":"203.0.113.9","server_port":"443","bytes_out":"-","bytes_in":"-","user":"-","new":[1]}'
    )
    event = logged("squid", line)

    assert (event.client_port, event.proxy_ip, event.proxy_port) == (55_694, "192.0.2.80", 3_128)
    assert (event.upstream_ip, event.upstream_port, event.user) == ("203.0.113.9", 443, "")
    assert (event.bytes_sent, event.bytes_received) == (None, None)
    assert event.at - event.started == 7_000
    assert logged("squid", line.replace("249.781", "249.789")).started == event.at
    assert reason("squid", line.replace('"client_ip":"192.0.2.7",', "")) is Reason.INCOMPLETE
    assert reason("squid", line.replace('"55694"', "70000")) is Reason.BAD_VALUE
    assert reason("squid", line[:-1]) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("status", "ended", "request_", "decision"),
    [
        ("200", "----", "CONNECT a.example:443 HTTP/1.1", ProxyDecision.SERVED),
        ("200", "CD--", "CONNECT a.example:443 HTTP/1.1", ProxyDecision.SERVED),
        ("200", "cD--", "GET http://a.example/ HTTP/1.1", ProxyDecision.SERVED),
        ("302", "LR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.SERVED),
        ("403", "LR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.DENIED),
        ("403", "PR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.DENIED),
        ("429", "PR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.DENIED),
        ("407", "PR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.SIGN_IN),
        ("502", "PH--", "GET http://a.example/ HTTP/1.1", ProxyDecision.FAILED),
        ("503", "SC--", "GET http://a.example/ HTTP/1.1", ProxyDecision.FAILED),
        ("504", "sH--", "GET http://a.example/ HTTP/1.1", ProxyDecision.FAILED),
        ("-1", "CR--", "GET http://a.example/ HTTP/1.1", ProxyDecision.FAILED),
        ("405", "----", "CONNECT a.example:443 HTTP/1.1", ProxyDecision.FAILED),
        ("405", "----", "GET http://a.example/ HTTP/1.1", ProxyDecision.SERVED),
    ],
)
def test_haproxy_states_how_it_ended(status: str, ended: str, request_: str, decision: ProxyDecision) -> None:
    """The termination state reports; a CONNECT that any server answered with an error made no tunnel."""
    event = logged("haproxy", HAPROXY % (status, ended, request_))

    assert (event.decision, event.client_port, event.upstream_ip) == (decision, 51_000, "")
    assert (event.started, event.at - event.started) == (1_537_458_263_285_000, 503_000)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (HAPROXY % (200, "----", "GET / HTTP/1.1"), "not_proxied"),
        (HAPROXY % (200, "----", "GET https://a.example/ HTTP/2.0"), "not_proxied"),
        (HAPROXY % (200, "----", "GET http://a.example/ HTTP/2.0"), "not_proxied"),
        (HAPROXY % (400, "PR--", "<BADREQ>"), "no_request"),
        (HAPROXY.replace("192.0.2.7:51000", "-") % (200, "----", "GET http://a.example/ HTTP/1.1"), "no_client"),
        (HAPROXY.replace("192.0.2.7:51000", "unix:1") % (200, "----", "CONNECT a.example:1 HTTP/1.1"), "no_client"),
        ("::1:40962 [20/Sep/2018:15:44:23.285] main app/<NOSRV> -1/-1/+1 +212 SC 1/1/0/0/0 0/0", "tcp"),
        ("Connect from 192.0.2.7:33312 to 192.0.2.80:8012 (www/HTTP)", "connect"),
        ("Sep 20 15:44:23 gw-1 haproxy[7]: Proxy main started.", "service"),
        ("192.0.2.7:50033 [28/Feb/2025:02:43:10.123] web/1: SSL handshake failure", "error"),
    ],
)
def test_haproxy_lines_that_hold_nothing(line: str, why: str) -> None:
    """A web server's request, HTTP/2 that is written as if absolute, connections without a request."""
    assert kind("haproxy", line) == why


def test_haproxys_captured_headers_are_not_the_request() -> None:
    """They stand before it, in braces; an encoded quote in them opens nothing."""
    line = (HAPROXY % (200, "----", "CONNECT a.example:443 HTTP/1.1")).replace(
        '"CONNECT', '{b.example|#22CONNECT c.example:1} {} "CONNECT'
    )

    assert logged("haproxy", line).host == "a.example"


@pytest.mark.parametrize(
    ("changed", "decision", "upstream"),
    [
        ({}, ProxyDecision.SERVED, ""),
        ({"upstream_cluster": "dynamic_forward_proxy_cluster"}, ProxyDecision.SERVED, "203.0.113.9"),
        ({"upstream_cluster": "DFPCluster:a.example:443", "response_flags": "DC"}, ProxyDecision.SERVED, "203.0.113.9"),
        ({":authority": "203.0.113.9:443"}, ProxyDecision.SERVED, "203.0.113.9"),
        ({"response_code": 503, "response_flags": "UF,URX"}, ProxyDecision.FAILED, ""),
        ({"response_code": 0, "response_flags": "DC"}, ProxyDecision.FAILED, ""),
        (
            {"response_code": "403", "response_code_details": "rbac_access_denied_matched_policy[x]"},
            ProxyDecision.DENIED,
            "",
        ),
        ({"response_code": 403, "response_flags": "UAEX"}, ProxyDecision.DENIED, ""),
        ({"response_code": 407}, ProxyDecision.SIGN_IN, ""),
        ({"response_code": 404}, ProxyDecision.FAILED, ""),
    ],
)
def test_envoy_states_what_it_did(changed: dict[str, object], decision: ProxyDecision, upstream: str) -> None:
    """By its flags; its host is the destination's only where the cluster states so, or the address was asked for."""
    event = logged("envoy", envoy(**changed))

    assert (event.decision, event.upstream_ip) == (decision, upstream)
    assert (event.host, event.port) == (event.target.partition(":")[0], 443)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (envoy(method="GET", path="/"), "not_proxied"),
        (envoy(method=None), "no_request"),
        (envoy(downstream_remote_address=None), "no_client"),
        (envoy(downstream_remote_address="envoy://internal/"), "no_client"),
        (
            '[2026-01-24T01:34:36.743Z] "GET / HTTP/1.1" 200 - 0 1 2 3 "192.0.2.7" "-" "-" "a.example" "203.0.113.9:80"',
            "not_proxied",
        ),
        (
            '[2026-01-24T01:34:36.743Z] "CONNECT - HTTP/1.1" 200 - 0 1 2 - "192.0.2.7" "-" "-" "a.example:443" "203.0.113.9:443"',
            "no_client",
        ),
    ],
)
def test_envoy_lines_that_hold_nothing(line: str, why: str) -> None:
    """Its text has only a header of the client's for the client, which may state anything."""
    assert kind("envoy", line) == why


def test_envoys_numbers_and_names_may_differ() -> None:
    """Istio's key, numbers as text, seconds since 1970, an address without a port."""
    found = dict(ENVOY, authority="a.example:443", duration="503", start_time="1769218476.743")
    del found[":authority"]
    event = logged("envoy", json.dumps(found | {"downstream_remote_address": "2001:db8::7"}))

    assert (event.host, event.device, event.client_port, event.started) == (
        "a.example",
        "2001:db8::7",
        0,
        1_769_218_476_743_000,
    )
    assert reason("envoy", envoy(downstream_remote_address="192.0.2.777:1")) is Reason.BAD_VALUE
    assert reason("envoy", envoy(start_time=None)) is Reason.INCOMPLETE


SHORT = {
    name: ENVOY[name] for name in ("start_time", "method", ":authority", "downstream_remote_address", "response_code")
}
"""The keys that a format needs at least; `duration` and the flags are missing."""


@pytest.mark.parametrize(
    "header", ["", "2026-01-24T01:34:37.246Z stdout F ", "2026-01-24T02:34:37.246000000+01:00 stderr F "]
)
@pytest.mark.parametrize(
    "line",
    [
        SHORT,
        {**SHORT, "x-envoy-origin-path": "/admin"},
        {**{name: value for name, value in SHORT.items() if name != ":authority"}, "x-envoy-origin-path": "/"},
        {**{name: value for name, value in SHORT.items() if name != ":authority"}, "x-envoy-original-path": "/"},
        {**{name: value for name, value in ENVOY.items() if not name.startswith("upstream")}},
    ],
)
def test_envoys_short_formats_are_recognised(header: str, line: dict[str, object]) -> None:
    """By the names of pseudo headers and of Envoy's own headers, which no other program logs; also in a container's log."""
    raw = header.encode() + json.dumps(line).encode()

    assert [dialect.name for dialect in dialects().values() if dialect.claims(raw)] == ["envoy"]


def test_envoys_short_formats_are_read() -> None:
    """A CONNECT is a request to a proxy whatever else is logged; a request without it is not."""
    header = "2026-01-24T01:34:37.246Z stdout F "
    tunnel = logged("envoy", header + json.dumps(SHORT))
    other = header + json.dumps({**SHORT, "method": "GET", "x-envoy-origin-path": "/admin", ":authority": "a.example"})

    assert (tunnel.client_ip, tunnel.client_port, tunnel.host, tunnel.port) == ("192.0.2.7", 51_000, "a.example", 443)
    assert kind("envoy", other) == "not_proxied"


@pytest.mark.parametrize(
    "line",
    [
        {"path": "/", "response_code": 200, "method": "GET"},
        {":authority": "a.example", "status": 200},
        {"message": json.dumps({":authority": "a.example"}), "x": "response_code"},
    ],
)
def test_json_of_other_programs_is_not_envoys(line: dict[str, object]) -> None:
    """Common names alone state nothing."""
    assert not dialects()["envoy"].claims(json.dumps(line).encode())


def test_haproxys_line_cut_in_the_path_was_made_to_the_server_itself() -> None:
    """Syslog cuts at 1024 characters. A path is no destination, however it ends; a cut authority is another host."""
    path, authority = (
        HAPROXY % (200, "----", f"{begin}{'s' * 900}") for begin in ("GET /path?", "GET http://a.example/")
    )

    assert kind("haproxy", path.removesuffix('"')) == "not_proxied"
    assert reason("haproxy", authority.removesuffix('"')) is Reason.INCOMPLETE


def test_haproxys_name_may_be_left_of_the_header() -> None:
    """As in the manual's table of fields, and in what some collectors keep."""
    line = HAPROXY % (200, "----", "CONNECT a.example:443 HTTP/1.1")

    assert dialects()["haproxy"].claims(b"haproxy[14389]: " + line.encode())
    assert logged("haproxy", "haproxy[14389]: " + line).client_port == logged("haproxy", line).client_port
