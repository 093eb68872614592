"""Logs of proxies: what each trap in them becomes. Lines here are constructed; the golden files have real ones as well."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import msgspec
import pytest

from schemas.address import REMEMBERED_LENGTH_MAX, canonical_host
from schemas.carried import carried
from schemas.dialects import dialects, w3c
from schemas.events import TEXT_CHARS_MAX, Ignored, ProxyDecision, ProxyLogged, Reason, Reject
from schemas.proxy_log import _remembered, destination, epoch, status
from tests.schemas.reading import kind, read, reason

DATA = Path(__file__).parents[1] / "data"
PROXIES = ("envoy", "forcepoint", "haproxy", "sophos", "squid", "tinyproxy", "w3c", "wsa", "zscaler")
HAPROXY = '192.0.2.7:51000 [20/Sep/2018:15:44:23.285] fwd pool/out 0/0/1/2/503 %s 4711 - - %s 1/1/0/0/0 0/0 "%s"'
ENVOY = {
    "start_time": "2026-01-24T01:34:36.743Z",
    "duration": 503,
    "method": "CONNECT",
    ":authority": "a.example:443",
    "downstream_remote_address": "192.0.2.7:51000",
    "response_code": 200,
    "response_flags": "-",
    "upstream_cluster": "parents",
    "upstream_host": "203.0.113.9:443",
}
WSA = "1726597763.348 12 192.0.2.7 %s %s - DIRECT/a.example - %s-A-B-NONE-NONE-NONE-NONE-NONE <-,-> -"
PROXYSG = (
    "2020-05-02 02:16:40 12 192.0.2.7 - - %s %s none - %s %s GET - http a.example 80 / - - ua 192.0.2.80 1 2 - - -"
)
ZSCALER = {
    "action": "Allowed",
    "requestmethod": "GET",
    "ClientIP": "192.0.2.7",
    "url": "a.example/",
    "protocol": "HTTP",
}

JSON = {
    "envoy": json.dumps(ENVOY),
    "w3c": json.dumps(
        {
            "date": "2020-05-02",
            "time": "02:16:40",
            "c-ip": "192.0.2.7",
            "sc-status": "200",
            "s-action": "TCP_MISS",
            "cs-method": "GET",
            "cs-uri-scheme": "http",
            "cs-host": "a.example",
            "cs-uri-port": "80",
            "s-port": "3128",
        }
    ),
    "zscaler": json.dumps({"event": {"datetime": "2020-11-03 12:41:27"} | ZSCALER}),
}
"""What is read of its bytes where nothing carries it."""
SOPHOS = (
    'h=192.0.2.7 u="DOMAIN\\\\user7" s=200 X=- t=1604407287 T=284453 act=1 in=1255 out=26198 '
    'ref="http://b.example/" ua="a \\" h=192.0.2.8" req="GET http://a.example/ HTTP/1.1" target_ip="203.0.113.9"'
)
FORCEPOINT = (
    "<159>1 2026-03-06T22:39:30Z gw-1 websense - - - vendor=Forcepoint product=Security product_version=8.5.4 action=permitted "
    "severity=1 category=153 user=LDAP://192.0.2.1 OU=A B,DC=corp/User Seven loginID=user7 src_host=192.0.2.7 src_port=51000 "
    "dst_host=a.example dst_ip=203.0.113.9 dst_port=443 bytes_out=310 bytes_in=512 http_response=200 http_method=GET "
    "http_user_agent=x dst_host=b.example url=http://b.example/ reason=- url=https://a.example/?u= logRecordSource=0"
)


def logged(dialect: str, line: str) -> ProxyLogged:
    """The event of a line that has one."""
    parsed = read(dialect, line)
    assert isinstance(parsed, ProxyLogged), parsed
    return parsed


def native(
    result: str = "TCP_MISS/200", request: str = "GET http://a.example/", peer: str = "HIER_DIRECT/203.0.113.9"
) -> str:
    """A line of squid's native format."""
    return f"1570784654.576    111 192.0.2.7 {result} 491 {request} - {peer} text/html"


def envoy(**changed: object) -> str:
    """A line of Envoy's JSON."""
    return json.dumps(ENVOY | changed)


def zscaler(**changed: str) -> str:
    """A line of NSS."""
    return "\t".join(["2020-11-03 12:41:27", *(f"{key}={value}" for key, value in (ZSCALER | changed).items())])


@pytest.mark.parametrize(
    ("target", "default", "found"),
    [
        ("a.example:443", 0, ("a.example", 443)),
        ("8.8.8.8:443/", 0, ("8.8.8.8", 443)),
        ("a.example", 0, ("a.example", 0)),
        ("http://http:8/", 0, ("http", 8)),
        ("http://a.example:443/", 0, ("a.example", 443)),
        ("https://[2001:DB8::1]/x", 0, ("2001:db8::1", 443)),
        ("[2001:db8::1]:8443", 0, ("2001:db8::1", 8443)),
        ("tunnel://a.example:8443/", 0, ("a.example", 8443)),
        ("http://user:pw@a.example/", 0, ("a.example", 80)),
        ("a.example/?u=http://b.example/", 80, ("a.example", 80)),
        ("http://a.example\\@b.example/", 0, ("", 0)),
        ("http://a.example:99999/", 0, ("", 0)),
        ("http:///x", 0, ("", 0)),
        ("", 80, ("", 0)),
        ("-", 80, ("", 0)),
        ("gopher://a.example/", 0, ("a.example", 0)),
        ("a.example/://b.example/", 80, ("a.example", 80)),
        ("/a.example", 80, ("", 0)),
        ("1a://a.example/", 80, ("1a", 80)),
        (f"{'a' * 20}://b.example:8080/x", 0, ("b.example", 8080)),
        (f"{'a' * 21}://b.example:8080/x", 0, ("a" * 21, 0)),
    ],
)
def test_where_a_target_leads(target: str, default: int, found: tuple[str, int]) -> None:
    """The authority counts, and nothing behind it; what two programs read differently counts for nothing."""
    assert destination(target, default) == found


def test_a_destination_is_worked_out_once_for_all_its_pages() -> None:
    """Not so where a client writes what it likes in any length."""
    destination("http://once.example:8080/")
    before = _remembered.cache_info()

    assert destination("http://once.example:8080/a/b?c=http://b.example/") == ("once.example", 8080)
    after = _remembered.cache_info()
    assert (after.hits, after.currsize) == (before.hits + 1, before.currsize)
    assert destination(f"http://{'u' * REMEMBERED_LENGTH_MAX}@once.example:8080/a") == ("once.example", 8080)
    assert _remembered.cache_info() == after


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1588385800", 1_588_385_800_000_000),
        ("1588385800.007", 1_588_385_800_007_000),
        ("1588385800.25", 1_588_385_800_250_000),
        ("1588385800.1234567", 1_588_385_800_123_456),
        ("7.5", 7_500_000),
        ("7258118400.000", 7_258_118_400_000_000),
        ("7258118400.001", None),
        ("1588385800.", None),
        ("1588385800.007Z", None),
        ("15883858001", None),
        ("158838580\N{SUPERSCRIPT TWO}", None),
        ("", None),
    ],
)
def test_seconds_since_1970(text: str, micros: int | None) -> None:
    """With or without decimals, until 2200."""
    if micros is not None:
        assert epoch(text) == micros
        return
    with pytest.raises(ValueError, match="time"):
        epoch(text)


@pytest.mark.parametrize(
    ("header", "host", "at"),
    [
        ("", "", 0),
        ("<134>", "", 0),
        ("<134>Mar  6 22:39:30 gw-1 squid[7]: ", "gw-1", 0),
        ("<134>Mar  6 22:39:30 gw-1 ", "gw-1", 0),
        ("Mar  6 22:39:30 squid[7]: ", "", 0),
        ("Mar  6 22:39:30 ", "", 0),
        ("<134>Mar  6 2026 22:39:30 2001:db8::1 (squid-1): ", "2001:db8::1", 0),
        (
            '<134>1 2026-03-06T22:39:30.5Z gw-1 squid 7 ID1 [a@1 b="\\]" c="d"][e f="g"] \ufeff',
            "gw-1",
            1_772_836_770_500_000,
        ),
        ("<134>1 - - - - - - ", "", 0),
        ("<134> 2026-03-06T22:39:30Z gw-1 squid[0]: ", "gw-1", 1_772_836_770_000_000),
        ("2026-03-06T23:39:30.500000+01:00 gw-1 squid: ", "gw-1", 1_772_836_770_500_000),
        ("2026-03-06T22:39:30.500000000+00:00 stdout F ", "", 1_772_836_770_500_000),
    ],
)
@pytest.mark.parametrize("line", [native(), HAPROXY % (200, "----", "CONNECT a.example:443 HTTP/1.1")])
def test_what_carried_a_line_is_taken_off(header: str, host: str, at: int, line: str) -> None:
    """Syslog of both kinds, with and without its parts, and a container's prefix."""
    found = carried((header + line + "\r\n").encode())

    assert (found.text, found.host, found.at) == (line, host, at)


def test_a_shippers_json_is_taken_off() -> None:
    """Beats wrap a line unless told otherwise; in it may be a syslog header as well. The event is the same."""
    line = json.dumps({"@timestamp": "2026-03-06T22:39:30Z", "message": "<134>" + native(), "host": {"name": "gw-1"}})
    wrapped = logged("squid", line)

    assert wrapped.proxy == "gw-1"
    assert wrapped.event_id == logged("squid", native()).event_id


def test_the_same_request_by_two_ways_is_one_event() -> None:
    """The identity is the line's own, not the header's."""
    ways = ("", "<134>1 2026-03-06T22:39:30Z gw-1 squid 7 - - ", "<134>Mar  6 22:39:31 gw-2 squid: ")

    assert len({logged("squid", way + native()).event_id for way in ways}) == 1


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
def test_squid_says_what_it_did(result: str, decision: ProxyDecision, status: int | None) -> None:
    """Its code comes first, the status tells the rest."""
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


@pytest.mark.parametrize(
    "line",
    [
        native().replace("192.0.2.7", "192.0.2.777"),
        native().replace("192.0.2.7", "pc7.corp.example"),
        native().replace("   111", f"   {'9' * 17}"),
        native().replace(" 491 ", " many "),
        native().replace("1570784654.576", "9999999999.999"),
    ],
)
def test_bad_values_are_rejected(line: str) -> None:
    """A client without an address, times outside 1970 to 2200, counts that are none."""
    assert reason("squid", line) is Reason.BAD_VALUE


def test_squid_combined() -> None:
    """With or without the two headers, which are the client's own words and say nothing. How long it took is not told."""
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


def test_a_web_servers_combined_log_is_not_squids() -> None:
    """Nginx answers 400 to a CONNECT: nothing was proxied, and squid's code is missing."""
    line = '127.0.0.1 - - [24/Sep/2021:06:20:32 +0000] "CONNECT foo.com:25 HTTP/1.1" 400 166 "-" "-"'

    assert reason("squid", line) is Reason.MALFORMED
    assert not any(dialect.claims(line.encode()) for dialect in dialects().values() if dialect.claims is not None)


def test_squid_json_as_documented() -> None:
    """Numbers in quotes, dashes for what there is not, other keys beside; both ports and the address spoken to."""
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


def test_long_texts_are_cut() -> None:
    """A target of any length names its destination; of it, and of a user, so much is kept."""
    event = logged(
        "squid", native(request="GET http://a.example/" + "x" * 5_000).replace(" - HIER", f" {'u' * 5_000} HIER")
    )

    assert (event.host, len(event.target), len(event.user)) == ("a.example", TEXT_CHARS_MAX, TEXT_CHARS_MAX)


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
def test_haproxy_says_how_it_ended(status: str, ended: str, request_: str, decision: ProxyDecision) -> None:
    """The termination state tells; a CONNECT that any server answered with an error made no tunnel."""
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


def test_a_request_that_is_cut_off_names_nobody() -> None:
    """Half a name is another name, and half an address another one."""
    request = HAPROXY % (200, "----", "CONNECT bank.example.evil.test:443 HTTP/1.1")
    pairs = "<134> 2026-03-06T22:39:30Z gw-1 bluecoat[0]: c-ip=192.0.2.7 cs-method=GET cs-host=bank.example"

    assert reason("haproxy", request[:-20]) is Reason.INCOMPLETE
    assert reason("w3c", pairs) is Reason.INCOMPLETE
    assert logged("w3c", f"{pairs} sc-status=200").host == "bank.example"
    assert reason("squid", native().removesuffix("9 text/html")) is Reason.MALFORMED
    assert reason("sophos", SOPHOS.partition("/ HTTP")[0]) is Reason.INCOMPLETE


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
def test_envoy_says_what_it_did(changed: dict[str, object], decision: ProxyDecision, upstream: str) -> None:
    """By its flags; its host is the destination's only where the cluster says so, or the address was asked for."""
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
    """Its text has only a header of the client's for the client, which may say anything."""
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


@pytest.mark.parametrize(
    ("exception", "result", "status", "action", "decision"),
    [
        ("-", "OBSERVED", "200", "TCP_TUNNELED", ProxyDecision.SERVED),
        ("-", "PROXIED", "404", "TCP_NC_MISS", ProxyDecision.SERVED),
        ("policy_denied", "DENIED", "403", "TCP_DENIED", ProxyDecision.DENIED),
        ("-", "OBSERVED", "403", "TCP_DENIED", ProxyDecision.DENIED),
        ("authentication_failed", "DENIED", "407", "TCP_DENIED", ProxyDecision.SIGN_IN),
        ("dns_unresolved_hostname", "OBSERVED", "503", "TCP_ERR_MISS", ProxyDecision.FAILED),
        ("-", "OBSERVED", "0", "TCP_MISS", ProxyDecision.FAILED),
    ],
)
def test_proxysg_says_what_it_did(
    exception: str, result: str, status: str, action: str, decision: ProxyDecision
) -> None:
    """By filter result, action and exception."""
    assert logged("w3c", PROXYSG % (exception, result, status, action)).decision is decision


def test_proxysg_supplier_is_the_destination_only_by_name() -> None:
    """With forwarding it is another proxy, and what came from the cache came from nowhere."""
    header = "<134> 2026-03-06T22:39:30Z gw-1 bluecoat[0]: "
    line = header + "c-ip=192.0.2.7 cs-host=a.example cs-method=GET cs-uri-scheme=http sc-status=200"
    given = {
        (name, action): logged(
            "w3c", f"{line} s-supplier-name={name} s-supplier-ip=203.0.113.9 s-action={action}"
        ).upstream_ip
        for name in ("a.example", "parent-1")
        for action in ("TCP_MISS", "TCP_HIT")
    }

    assert [pair for pair, ip in given.items() if ip] == [("a.example", "TCP_MISS")]


def test_proxysg_needs_an_order_that_is_known_and_a_time() -> None:
    """A web server's line is none of a proxy; an order nobody knows, and a time without a year, are rejected."""
    iis = (
        "2002-05-02 17:42:15 172.22.255.255 - 172.30.255.255 80 GET /images/picture.jpg - 200 Mozilla/4.0+(compatible)"
    )

    assert kind("w3c", iis) == "not_proxied"
    assert kind("w3c", "#Fields: date time c-ip") == "directive"
    assert kind("w3c", "<134>1 2026-03-06T22:39:30Z gw-1 ProxySG - - - some message") == "message"
    assert reason("w3c", "<134>1 2026-03-06T22:39:30Z gw-1 other - - - some message") is Reason.MALFORMED
    assert reason("w3c", "2002-05-02 17:42:15 a.example CONNECT 192.0.2.7") is Reason.MALFORMED
    assert (
        reason("w3c", "Mar  6 22:39:30 gw-1 bluecoat: c-ip=192.0.2.7 cs-host=a.example cs-method=GET")
        is Reason.INCOMPLETE
    )
    assert (
        reason("w3c", PROXYSG.replace("192.0.2.7", "172.88.888.2") % ("-", "OBSERVED", "200", "TCP_MISS"))
        is Reason.BAD_VALUE
    )
    # The proxy's own address is no more than a help: masked, it is left out.
    masked = PROXYSG.replace("192.0.2.80", "172.88.888.2") % ("-", "OBSERVED", "200", "TCP_MISS")
    assert logged("w3c", masked).proxy_ip == ""


@pytest.mark.parametrize(
    ("result", "tag", "decision"),
    [
        ("TCP_MISS/200", "DEFAULT_CASE_12", ProxyDecision.SERVED),
        ("TCP_MISS/200", "PASSTHRU_WBRS_7", ProxyDecision.SERVED),
        ("TCP_MISS/200", "DECRYPT_WEBCAT_7", ProxyDecision.SERVED),
        ("TCP_MISS/200", "BLOCK_AMW_RESP_URL_258", ProxyDecision.DENIED),
        ("TCP_DENIED/403", "BLOCK_WEBCAT_245", ProxyDecision.DENIED),
        ("TCP_DENIED/403", "DEFAULT_CASE_331", ProxyDecision.DENIED),
        ("TCP_DENIED/407", "OTHER", ProxyDecision.SIGN_IN),
        ("NONE/504", "PASSTHRU_ADMIN_252", ProxyDecision.FAILED),
        ("TCP_MISS/200", "REDIRECT_CUSTOMCAT_11", ProxyDecision.DENIED),
    ],
)
def test_the_policy_of_a_wsa_decides(result: str, tag: str, decision: ProxyDecision) -> None:
    """What was blocked on its way back has a status of 200."""
    event = logged("wsa", WSA % (result, "298 CONNECT tunnel://a.example:443/", tag))

    assert (event.decision, event.host, event.port, event.upstream_ip) == (decision, "a.example", 443, "")


def test_wsa_lines_that_hold_nothing() -> None:
    """The traffic monitor tells of connections beside the proxy, with a zone or without."""
    blocked = read(
        "wsa",
        "<134>Nov  3 12:41:27 gw-1 04 May 2020 12:59:59 (GMT+5:00) Info: Firewall blocked TCP data from 192.0.2.7:1 to x.",
    )

    assert blocked == Ignored("192.0.2.7", 1_588_579_199_000_000, "traffic_monitor")
    assert kind("wsa", "Mon May 04 12:59:54 2020 Info: Begin Logfile") == "service"
    assert reason("wsa", native()) is Reason.MALFORMED


def test_zscaler_urls_have_no_scheme() -> None:
    """The port comes from the protocol; another URL in the query is not where it went; CONNECT has its port or none."""
    asked = [
        (event.host, event.port)
        for event in (
            logged("zscaler", zscaler()),
            logged("zscaler", zscaler(protocol="HTTPS", url="a.example/?u=http://b.example/")),
            logged("zscaler", zscaler(requestmethod="CONNECT", url="a.example:8443")),
            logged("zscaler", zscaler(requestmethod="CONNECT", url="a.example", protocol="HTTPS")),
            logged("zscaler", zscaler(url='"a.example:81/x"')),
        )
    ]

    assert asked == [("a.example", 80), ("a.example", 443), ("a.example", 8443), ("a.example", 0), ("a.example", 81)]


def test_zscaler_addresses() -> None:
    """The client's own, never that of its site; of the destination what it is, unless blocked or not told."""
    assert logged("zscaler", zscaler(serverip="203.0.113.9")).upstream_ip == "203.0.113.9"
    assert logged("zscaler", zscaler(serverip="203.0.113.9", action="Blocked")).upstream_ip == ""
    assert logged("zscaler", zscaler(serverip="0.0.0.0")).upstream_ip == ""  # as the feed has it
    assert reason("zscaler", zscaler(ClientIP="None", clientpublicIP="198.51.100.1")) is Reason.INCOMPLETE


def test_zscaler_times() -> None:
    """Without a zone it is UTC; seconds since 1970 say it better, unless they are of another day."""
    at = 1_604_407_287_000_000
    told = [
        logged("zscaler", zscaler(**extra)).at - at
        for extra in ({}, {"epochtime": "1604403687"}, {"epochtime": "1583117516"})
    ]

    assert told == [0, -3_600_000_000, 0]


def test_sophos() -> None:
    """The action decides; `t` is the beginning; a client's own words are in quotes; what went past the appliance is nothing."""
    event = logged("sophos", SOPHOS)
    decisions = [logged("sophos", SOPHOS.replace("act=1", f"act={code}")).decision for code in (-1, -2, 2, 3)]

    assert (event.host, event.upstream_ip, event.user) == ("a.example", "203.0.113.9", "DOMAIN\\user7")
    assert (event.started, event.at) == (1_604_407_287_000_000, 1_604_407_287_284_453)
    assert decisions == [ProxyDecision.DENIED] * 2 + [ProxyDecision.SERVED] * 2
    assert logged("sophos", SOPHOS.replace("s=200", "s=503")).upstream_ip == ""
    assert kind("sophos", f"ep=1 {SOPHOS}") == "endpoint"


def test_forcepoint() -> None:
    """Values without quotes end at the next key; what a client says cannot stand for the address, the host or the URL."""
    event = logged("forcepoint", FORCEPOINT)

    assert (event.device, event.client_port, event.host, event.port) == ("192.0.2.7", 51_000, "a.example", 443)
    assert (event.upstream_ip, event.target) == ("203.0.113.9", "https://a.example/?u=")
    assert event.user == "LDAP://192.0.2.1 OU=A B,DC=corp/User Seven"
    assert logged("forcepoint", FORCEPOINT.replace("permitted", "blocked")).decision is ProxyDecision.DENIED
    assert logged("forcepoint", FORCEPOINT.replace("permitted", "blocked")).upstream_ip == ""
    assert reason("forcepoint", FORCEPOINT.partition(" - - - ")[2]) is Reason.INCOMPLETE


def test_tinyproxys_lines_by_themselves_say_nothing() -> None:
    """Who asked and what was asked are two lines; nothing on either names both (`test_tinyproxy.py` has them together)."""
    lines = gzip.decompress((DATA / "proxylogs/tinyproxy.log.gz").read_bytes()).decode().splitlines()

    assert {type(read("tinyproxy", line)) for line in lines} == {Ignored}
    assert {read("tinyproxy", line).device for line in lines} == {""}


@pytest.mark.parametrize("path", sorted((DATA / "proxylogs").glob("*.gz")), ids=lambda path: path.name)
def test_each_real_line_is_claimed_by_its_own_dialect(path: Path) -> None:
    """And by no other: so a file may mix them."""
    for line in gzip.decompress(path.read_bytes()).splitlines():
        said = [dialect.name for dialect in dialects().values() if dialect.claims is not None and dialect.claims(line)]

        assert said == [path.name.partition(".")[0].partition("-")[0]]


def test_lines_of_other_sensors_are_not_claimed() -> None:
    """Events in JSON, XML and text of everything else that is recorded."""
    for path in sorted(DATA.rglob("*.gz")):
        if path.parent.name != "proxylogs":
            for line in gzip.decompress(path.read_bytes()).splitlines():
                for name in PROXIES:
                    claims = dialects()[name].claims
                    assert claims is not None
                    assert not claims(line), f"{name} claims a line of {path.name}"


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize(
    "filling", ["a", "\\", '"', " ", "-", "1", "/", "[", "=", "\t", '"\\', "a-", "a=", "1/", "A_", '["']
)
def test_no_line_takes_long(name: str, filling: str) -> None:
    """Time grows with the length of a line, whatever is in it."""
    dialect = dialects()[name]
    assert dialect.claims is not None
    real = (DATA / f"golden/{name}.in.jsonl").read_bytes().splitlines()
    begins = [line[: len(line) * part // 4] for line in real[:: len(real) // 3 or 1] for part in (1, 2, 3)]
    for begin in (*begins, b"", b"<134>1 - a b c d ", b"Mar  6 22:39:30 "):
        line = begin + filling.encode() * (50_000 // len(filling))
        began = time.process_time()
        dialect.parse(line)
        dialect.claims(line)

        assert time.process_time() - began < 1, begin


@pytest.mark.parametrize(("name", "line"), JSON.items())
def test_json_is_the_same_event_by_itself_and_carried(name: str, line: str) -> None:
    """With a line's end, in syslog and in a shipper's JSON it is read another way, to the same end."""
    by_itself = logged(name, line)

    assert by_itself.host == "a.example"
    for way in (
        line + "\r\n",
        "<134>" + line,
        json.dumps({"message": line}),
        json.dumps({"host": "", "message": line}),
    ):
        assert logged(name, way) == by_itself, way


@pytest.mark.parametrize(("name", "line"), JSON.items())
def test_an_empty_message_carries_nothing(name: str, line: str) -> None:
    """The line has then a member of that name itself."""
    assert logged(name, line[:-1] + ', "message": ""}').target == logged(name, line).target


@pytest.mark.parametrize(("name", "line"), JSON.items())
def test_what_is_no_utf8_in_json_is_replaced(name: str, line: str) -> None:
    """Also where it is not read: the event is the same as of the line with what replaces it."""
    given, replaced = (line[:-1].encode() + b', "note": "' + byte + b'"}' for byte in (b"\xff", "\ufffd".encode()))

    assert dialects()[name].parse(given) == dialects()[name].parse(replaced)
    assert isinstance(dialects()[name].parse(given), ProxyLogged)


@pytest.mark.parametrize(
    "member",
    [
        "c-port",
        "cs-bytes",
        "cs-uri-path",
        "cs-uri-port",
        "cs-uri-query",
        "cs-username",
        "s-ip",
        "s-port",
        "s-supplier-ip",
        "s-supplier-name",
        "sc-bytes",
        "sc-filter-result",
        "sc-status",
        "time-taken",
        "x-exception-id",
    ],
)
def test_a_dash_in_a_row_is_nothing(member: str) -> None:
    """As if the field was not there."""
    row = json.loads(JSON["w3c"])
    without, dash = (logged("w3c", json.dumps(told)) for told in (row | {member: ""}, row | {member: "-"}))

    assert msgspec.structs.replace(dash, event_id=without.event_id) == without


def test_a_dash_for_method_scheme_or_host() -> None:
    """No request, no URL to put together, no destination."""
    row = json.loads(JSON["w3c"])

    assert kind("w3c", json.dumps(row | {"cs-method": "-"})) == "no_request"
    assert logged("w3c", json.dumps(row | {"cs-uri-scheme": "-"})).target == "a.example:80"
    assert kind("w3c", json.dumps(row | {"cs-host": "-"})) == "no_destination"


@pytest.mark.parametrize("member", ["date", "time", "cs-uri-port", "s-port"])
@pytest.mark.parametrize("value", ["x" * 100_000, "1" * 100_000, "\u0662"])
def test_a_row_s_times_and_ports_are_remembered_if_they_are_some(member: str, value: str) -> None:
    """So what is remembered is short, whatever a line has."""
    remembered = (w3c._moment, w3c._often)
    before = [memory.cache_info().currsize for memory in remembered]

    assert reason("w3c", json.dumps({**json.loads(JSON["w3c"]), member: value})) is Reason.BAD_VALUE
    assert [memory.cache_info().currsize for memory in remembered] == before


@pytest.mark.parametrize("text", ["1000", "2" * 100_000, "x" * 100_000, "\u0662\u0660\u0660"])
def test_what_is_no_status_is_not_remembered(text: str) -> None:
    """Only what can be a status is kept, so that lines cannot fill the memory."""
    before = status.cache_info().currsize
    with pytest.raises(ValueError, match="status is"):
        status(text)

    assert status.cache_info().currsize == before


def test_pairs_that_nobody_reads_are_pairs() -> None:
    """Of Zscaler's line with other keys alone it is told what is missing; without a value it is no such line at all."""
    other, none = (
        dialects()["zscaler"].parse(f"2020-11-03 12:41:27\tdepartment={word}".encode()) for word in ("a", "NA")
    )

    assert isinstance(other, Reject)
    assert other.reason is Reason.INCOMPLETE
    assert isinstance(none, Reject)
    assert none.reason is Reason.MALFORMED


def test_a_supplier_of_any_length_is_not_remembered() -> None:
    """A name longer than a host's may be (RFC 1035) is none, and a stream of such names must not fill the memory."""
    lines = (DATA / "golden/w3c.in.jsonl").read_bytes().splitlines()
    fields = json.loads(next(line for line in lines if line.startswith(b"{")))
    one, other = (json.dumps({**fields, "s-supplier-name": letter * 300}).encode() for letter in "xy")
    assert isinstance(dialects()["w3c"].parse(one), ProxyLogged)
    before = canonical_host.cache_info().currsize
    dialects()["w3c"].parse(other)

    assert canonical_host.cache_info().currsize == before
