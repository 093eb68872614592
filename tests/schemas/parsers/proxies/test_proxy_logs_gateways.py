"""What web gateways (ProxySG, Cisco's, Zscaler's, Sophos's, Forcepoint's) state of a request in their logs."""

from __future__ import annotations

import json

import msgspec
import pytest

from schemas.events import Ignored, ProxyDecision, Reason, Reject
from schemas.parsers import dialects
from tests.schemas.parsers.proxies.proxy_log_lines import (
    FORCEPOINT,
    JSON,
    PROXYSG,
    SOPHOS,
    WSA,
    logged,
    native,
    zscaler,
)
from tests.schemas.parsers.reading import kind, read, reason


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
def test_proxysg_states_what_it_did(
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
    """A web server's line is none of a proxy; an order no one knows, and a time without a year, are rejected."""
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
    without, dash = (logged("w3c", json.dumps(reported)) for reported in (row | {member: ""}, row | {member: "-"}))

    assert msgspec.structs.replace(dash, event_id=without.event_id) == without


def test_a_dash_for_method_scheme_or_host() -> None:
    """No request, no URL to put together, no destination."""
    row = json.loads(JSON["w3c"])

    assert kind("w3c", json.dumps(row | {"cs-method": "-"})) == "no_request"
    assert logged("w3c", json.dumps(row | {"cs-uri-scheme": "-"})).target == "a.example:80"
    assert kind("w3c", json.dumps(row | {"cs-host": "-"})) == "no_destination"


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
    """The traffic monitor reports of connections beside the proxy, with a zone or without."""
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
    """The client's own, never that of its site; of the destination what it is, unless blocked or not reported."""
    assert logged("zscaler", zscaler(serverip="203.0.113.9")).upstream_ip == "203.0.113.9"
    assert logged("zscaler", zscaler(serverip="203.0.113.9", action="Blocked")).upstream_ip == ""
    assert logged("zscaler", zscaler(serverip="0.0.0.0")).upstream_ip == ""  # as the feed has it
    assert reason("zscaler", zscaler(ClientIP="None", clientpublicIP="198.51.100.1")) is Reason.INCOMPLETE


def test_zscaler_times() -> None:
    """Without a zone it is UTC; seconds since 1970 state it better, unless they are of another day."""
    at = 1_604_407_287_000_000
    reported = [
        logged("zscaler", zscaler(**extra)).at - at
        for extra in ({}, {"epochtime": "1604403687"}, {"epochtime": "1583117516"})
    ]

    assert reported == [0, -3_600_000_000, 0]


def test_pairs_that_unknown_reads_are_pairs() -> None:
    """Of Zscaler's line with other keys alone it is reported what is missing; without a value it is no such line at all."""
    other, none = (
        dialects()["zscaler"].parse(f"2020-11-03 12:41:27\tdepartment={word}".encode()) for word in ("a", "NA")
    )

    assert isinstance(other, Reject)
    assert other.reason is Reason.INCOMPLETE
    assert isinstance(none, Reject)
    assert none.reason is Reason.MALFORMED


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
    """Values without quotes end at the next key; what a client states cannot stand for the address, the host or the URL."""
    event = logged("forcepoint", FORCEPOINT)

    assert (event.device, event.client_port, event.host, event.port) == ("192.0.2.7", 51_000, "a.example", 443)
    assert (event.upstream_ip, event.target) == ("203.0.113.9", "https://a.example/?u=")
    assert event.user == "LDAP://192.0.2.1 OU=A B,DC=corp/User Seven"
    assert logged("forcepoint", FORCEPOINT.replace("permitted", "blocked")).decision is ProxyDecision.DENIED
    assert logged("forcepoint", FORCEPOINT.replace("permitted", "blocked")).upstream_ip == ""
    assert reason("forcepoint", FORCEPOINT.partition(" - - - ")[2]) is Reason.INCOMPLETE
