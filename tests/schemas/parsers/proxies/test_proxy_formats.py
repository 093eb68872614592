"""Other shapes in which vendors let a proxy's log be written: CEF, LEEF, other names, other orders. All lines are constructed."""

from __future__ import annotations

import base64
import json
import re

import msgspec
import pytest

from schemas.events import ProxyDecision, ProxyLogged, Reason
from schemas.parsers import dialects
from schemas.parsers.common.cef_leef import formatted, moment, names
from tests.schemas.parsers.reading import kind, read, reason

AT = 1_604_407_287_000_000
"""2020-11-03 12:41:27."""
ZSCALER_CEF = (
    "zscaler-nss CEF:0|Zscaler|NSSWeblog|5.7|Allowed|Allowed|3|act=Allowed app=HTTPS dhost=a.example dst=203.0.113.9 "
    "src=192.0.2.7 sourceTranslatedAddress=198.51.100.1 in=6500 out=110 request=a.example/x?y=1 outcome=200 "
    "requestClientApplication=Agent 1 requestMethod=GET suser=u7@corp.example rt=Nov 03 2020 12:41:27"
)
ZSCALER_LEEF = (
    "zscaler-nss: LEEF:1.0|Zscaler|NSS|4.1|Allowed|cat=Allowed\tdevTime=Nov 03 2020 12:41:27 GMT\tsrc=192.0.2.7\tdst=203.0.113.9"
    "\tusrName=u7@corp.example\tsrcBytes=110\tdstBytes=6500\turl=a.example/x?y=1\tuseragent=x\tappproto=HTTPS\treqmethod=GET"
)
ZSCALER_OWN = {
    "time": "Tue Nov 03 12:41:27 2020",
    "login": "u7@corp.example",
    "proto": "HTTPS",
    "eurl": "a.example/x?y=1",
    "action": "Allowed",
    "reqsize": "110",
    "respsize": "6500",
    "cip": "192.0.2.7",
    "sip": "203.0.113.9",
    "reqmethod": "GET",
    "respcode": "200",
}


def logged(dialect: str, line: str) -> ProxyLogged:
    """The event of a line that has one, and that no other dialect claims."""
    parsed = read(dialect, line)
    assert isinstance(parsed, ProxyLogged), parsed
    assert [other.name for other in dialects().values() if other.claims(line.encode())] == [dialect]
    assert dialects()[dialect].device_of(line.encode()) == parsed.device
    return parsed


def without_line(event: ProxyLogged) -> ProxyLogged:
    """What an event states, whatever line stated it."""
    return msgspec.structs.replace(event, event_id="", proxy="")


def test_cef_and_leef_are_taken_apart() -> None:
    """Header and pairs, with or without what stands before; a backslash before `=` is none of the value."""
    cef = formatted("Nov  3 12:41:27 gw CEF:0|V|P|1|c|n|3|a=b c d=e\\=f\\\\g h=")
    leef = formatted("LEEF:1.0|V|P|1|e|a=b c\td=e x=y\th=")

    assert cef is not None
    assert leef is not None
    assert (cef.vendor, cef.product, cef.fields) == ("V", "P", {"a": "b c", "d": "e=f\\g", "h": ""})
    assert leef.fields == {"a": "b c", "d": "e x=y", "h": ""}
    assert formatted("0|V|P|1|c|n|3|a=b") == formatted("CEF: 0|V|P|1|c|n|3|a=b")
    assert formatted("CEF:0|V|P|1|c|n") is None
    assert formatted("a=1 CEF:0|V|P|1|c|n|3|a=b") is None
    assert names("<134>CEF:0|V|P|1", "V|P|")
    assert not names("CEF:0|V|PP|1", "V|P|")


def test_what_a_client_states_of_itself_is_no_pair() -> None:
    """What stood before its words counts; of what is reported again behind them nothing does."""
    reported = formatted(
        "CEF:0|V|P|1|c|n|3|src=1 requestClientApplication=x src=2 suser=admin requestMethod=GET suser=u7"
    )

    assert reported is not None
    assert (reported.fields["src"], reported.fields["suser"], reported.fields["requestMethod"]) == ("1", "", "GET")


@pytest.mark.parametrize(
    "text",
    [
        "1604407287000",
        "1604407287",
        "2020-11-03T12:41:27Z",
        "2020-11-03 12:41:27",
        "2020-11-03T13:41:27+01:00",
        "Nov 03 2020 12:41:27",
        "Nov 03 2020 12:41:27 GMT",
        "Tue Nov 03 12:41:27 UTC 2020",
        "Tue Nov 03 12:41:27 2020",
    ],
)
def test_times_of_these_formats(text: str) -> None:
    """Milliseconds or seconds since 1970, ISO 8601, or a month's name."""
    assert moment(text) == AT


@pytest.mark.parametrize("text", ["Nov 03 12:41:27", "Nix 03 2020 12:41:27", "", "9" * 30, "x"])
def test_what_is_no_time(text: str) -> None:
    """Without a year nothing is certain."""
    with pytest.raises(ValueError, match=r"."):
        moment(text)


def test_zscaler_by_other_names_is_the_same_event() -> None:
    """CEF, LEEF, the fields' own names flat or in `event`, and the vendor's CSV."""
    plain = without_line(logged("zscaler", json.dumps({"sourcetype": "zscalernss-web", "event": ZSCALER_OWN})))
    values = dict.fromkeys((str(number) for number in range(25)), "None")
    places = {"time": 0, "login": 1, "proto": 2, "eurl": 3, "action": 4, "reqsize": 7, "respsize": 8}
    places |= {"cip": 21, "sip": 22, "reqmethod": 23, "respcode": 24}
    for name, place in places.items():
        values[str(place)] = ZSCALER_OWN[name]

    assert (plain.client_ip, plain.host, plain.port, plain.at) == ("192.0.2.7", "a.example", 443, AT)
    assert (plain.bytes_sent, plain.bytes_received, plain.status, plain.user) == (110, 6_500, 200, "u7@corp.example")
    assert (plain.upstream_ip, plain.decision, plain.method) == ("203.0.113.9", ProxyDecision.SERVED, "GET")
    assert without_line(logged("zscaler", json.dumps({"sourcetype": "zscalernss-web"} | ZSCALER_OWN))) == plain
    assert without_line(logged("zscaler", ZSCALER_CEF)) == plain
    assert without_line(logged("zscaler", ZSCALER_LEEF)) == msgspec.structs.replace(plain, status=None)
    assert without_line(logged("zscaler", ",".join(f'"{value}"' for value in values.values()))) == plain


def test_zscaler_names_the_client_inside_its_site_first() -> None:
    """`cip` may be the site's own address, `cintip` never is."""
    line = json.dumps({"sourcetype": "zscalernss-web", "event": ZSCALER_OWN | {"cintip": "192.0.2.8"}})

    assert logged("zscaler", line).client_ip == "192.0.2.8"


def test_zscaler_urls_in_base64_and_none_at_all() -> None:
    """Then the host that the feed names was asked for."""
    coded = ZSCALER_OWN | {"eurl": "", "b64url": base64.b64encode(b"b.example:8443/x").decode(), "host": "c.example"}
    by_url, by_host, wrong = (
        json.dumps({"sourcetype": "zscalernss-web", "event": coded | changed})
        for changed in ({}, {"b64url": "None"}, {"b64url": "!"})
    )

    assert (logged("zscaler", by_url).host, logged("zscaler", by_url).port) == ("b.example", 8443)
    assert logged("zscaler", by_host).host == "c.example"
    assert reason("zscaler", wrong) is Reason.BAD_VALUE


def test_a_truth_value_is_no_zscaler_url() -> None:
    """No one asked for a host called `false`."""
    for url in (True, False):
        assert reason("zscaler", json.dumps({"event": ZSCALER_OWN | {"eurl": url}})) is Reason.INCOMPLETE


def test_zscalers_pairs_without_a_date() -> None:
    """Of a feed that leaves the date to the header, with the header's year; without one there is no time."""
    line = "action=Blocked\tClientIP=192.0.2.7\turl=a.example\tprotocol=DNSOVERHTTPS\trequestmethod=GET"
    event = logged("zscaler", f"<134>1 2020-11-03T12:41:27Z gw-1 nss - - - {line}")

    assert (event.at, event.decision, event.port) == (AT, ProxyDecision.DENIED, 443)
    assert logged("zscaler", f"{line}\tepochtime=1604407287").at == AT
    assert logged("zscaler", f"{line}\tdatetime=2020-11-03 12:41:27").at == AT
    assert reason("zscaler", f"<134>Nov  3 12:41:27 gw-1 nss: {line}") is Reason.INCOMPLETE
    assert reason("zscaler", ZSCALER_CEF.partition(" rt=")[0]) is Reason.INCOMPLETE


def test_zscaler_lines_that_hold_nothing() -> None:
    """Other feeds of NSS, and what NSS states of itself; another vendor's CEF is not read."""
    assert kind("zscaler", json.dumps({"sourcetype": "zscalernss-fw", "event": {"csip": "192.0.2.7"}})) == "other_log"
    assert kind("zscaler", "<134>Nov  3 12:41:27 gw-1 ZscalerNSS: memory") == "service"
    assert reason("zscaler", ZSCALER_CEF.replace("|Zscaler|", "|Other|")) is Reason.MALFORMED
    assert reason("zscaler", ZSCALER_CEF.replace("NSSWeblog", "NSSFWlog")) is Reason.MALFORMED


MAIN = (
    "2020-11-03 12:41:27 12 192.0.2.7 {status} {action} 6500 110 {method} {scheme} a.example 443 / - u7 - - - {agent} {result} "
    '"Technology/Internet" - 198.51.100.80'
)
BARS = (
    "Bluecoat|src=192.0.2.7|srcport=51000|dst=203.0.113.9|dstport=443|username=u7|devicetime=[03/11/2020:12:41:27 GMT]"
    "|s-action=TCP_TUNNELED|sc-status=200|cs-method=CONNECT|time-taken=12|sc-bytes=6500|cs-bytes=110|cs-uri-scheme=tcp|cs-host=a.example|cs-uri-path=/|"
    "cs(User-Agent)=x|sc-filter-result=OBSERVED|cs-uri=tcp://a.example:443/"
)
ROW = {
    "date": "2020-11-03",
    "time": "12:41:27",
    "c-ip": "192.0.2.7",
    "cs-method": "CONNECT",
    "cs-host": "a.example",
    "cs-uri-port": "443",
    "s-action": "TCP_TUNNELED",
    "sc-status": "200",
}
CISCO = {
    "timestamp": "1604407287.000",
    "x-elapsed-time": "12",
    "c-ip": "192.0.2.7",
    "c-port": "51000",
    "x-resultcode-httpstatus": "TCP_MISS_SSL/200",
    "sc-bytes": "6500",
    "cs-method": "GET",
    "cs-url": "https://a.example:443/x",
    "cs-username": "u7",
    "s-ip": "203.0.113.9",
    "s-port": "443",
    "x-acltag": "DECRYPT_WBRS_7-A-B",
}


def main(
    status: str = "200",
    action: str = "TCP_TUNNELED",
    method: str = "CONNECT",
    result: str = "OBSERVED",
    agent: str = "-",
) -> str:
    """A row in the order of ProxySG's format `main`, without its `#Fields`."""
    scheme = "tcp" if method == "CONNECT" else "ssl"
    return MAIN.format(status=status, action=action, method=method, scheme=scheme, result=result, agent=agent)


def test_proxysgs_format_main_is_an_order_that_is_known() -> None:
    """Status and action stand at the beginning, the filter result behind what the client states, whether or not that is there."""
    event = logged("w3c", main())

    assert (event.client_ip, event.host, event.port, event.user) == ("192.0.2.7", "a.example", 443, "u7")
    assert (event.bytes_sent, event.bytes_received, event.at - event.started) == (110, 6_500, 12_000)
    assert logged("w3c", main(result="DENIED")).decision is ProxyDecision.DENIED
    assert logged("w3c", main(result="DENIED", agent="OBSERVED")).decision is ProxyDecision.DENIED
    assert logged("w3c", main(result="DENIED", agent='"A B"')).decision is ProxyDecision.DENIED
    assert reason("w3c", main().replace(" 6500 ", " many ")) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("action", "result", "decision"),
    [
        ("TUNNELED", "OBSERVED", ProxyDecision.SERVED),
        ("TUNNELED", "DENIED", ProxyDecision.DENIED),
        ("TCP_ERR_MISS", "OBSERVED", ProxyDecision.FAILED),
    ],
)
def test_what_proxysg_passed_on_unread_has_no_status(action: str, result: str, decision: ProxyDecision) -> None:
    """TLS that is not looked into is `unknown` with a status of 0, and was served."""
    assert logged("w3c", main("0", action, "unknown", result)).decision is decision
    row = ROW | {"sc-status": "0", "s-action": action, "sc-filter-result": result}
    assert logged("w3c", json.dumps(row)).decision is decision
    with_error = logged("w3c", json.dumps(row | {"x-exception-id": "ssl_failed"}))
    assert with_error.decision is (ProxyDecision.DENIED if result == "DENIED" else ProxyDecision.FAILED)


def test_proxysg_without_an_action() -> None:
    """A dash stands there where no one was asked for an answer."""
    line = "2020-11-03 12:41:27 1 192.0.2.7 - - - PROXIED none - 0 - GET - http a.example 80 /x - x - 192.0.2.80 0 112 - - - -"

    assert logged("w3c", line).decision is ProxyDecision.FAILED


def test_proxysg_for_qradar() -> None:
    """Bars between the pairs, other names, a time with day and month as numbers."""
    event = logged("w3c", BARS)
    forged = BARS.replace("Agent)=x", "Agent)=x|src=192.0.2.8|sc-filter-result=OBSERVED").replace(
        "t=OBSERVED|cs-uri", "t=DENIED|cs-uri"
    )

    assert (event.client_ip, event.client_port, event.host, event.port) == ("192.0.2.7", 51_000, "a.example", 443)
    assert (event.at, event.user, event.decision, event.upstream_ip) == (AT, "u7", ProxyDecision.SERVED, "")
    assert logged("w3c", forged).client_ip == "192.0.2.7"
    assert logged("w3c", forged).decision is ProxyDecision.DENIED
    assert reason("w3c", BARS.replace("|src=", "|")) is Reason.INCOMPLETE
    assert (
        logged("w3c", json.dumps({"gmttime": "[03/11/2020:12:41:27 GMT]"} | {n: ROW[n] for n in ROW if n != "date"})).at
        == AT
    )


def test_proxysgs_pairs_report_the_time_in_a_cookies_date() -> None:
    """It is GMT for sure; what is glued to the name of the machine may be local time."""
    pairs = "c-ip=192.0.2.7 cs-host=a.example cs-method=CONNECT cs-uri-port=443 s-action=TCP_TUNNELED sc-status=200"
    glued = f"2020-11-03T13:41:27gw-1.example bluecoat - splunk_format - {pairs}"
    event = logged("w3c", f"{glued} x-cookie-date=Tue,%2003-Nov-20%2012:41:27%20GMT cs-uri-path=/")

    assert (event.at, event.proxy) == (AT, "gw-1.example")
    assert reason("w3c", glued) is Reason.INCOMPLETE


def test_proxysgs_numbers_may_be_some_and_a_distinguished_name_is_a_user() -> None:
    """A shipper that parses makes numbers of them; what is neither they nor text is left out."""
    row = ROW | {
        "cs-uri-port": 443,
        "sc-status": 200,
        "sc-bytes": 6_500,
        "cs-categories": ["a"],
        "cs-userdn": "CORP\\u7",
    }
    event = logged("w3c", json.dumps(row))

    assert (event.port, event.status, event.bytes_received, event.user) == (443, 200, 6_500, "CORP\\u7")


def test_ciscos_rows_are_read_by_its_names() -> None:
    """The policy decides; the address beside is the server's, so it is no proxy's; a tunnel is a CONNECT."""
    event = logged("w3c", json.dumps(CISCO))
    tunnel = json.dumps(CISCO | {"cs-method": "TCP_CONNECT", "cs-url": "tunnel://a.example:8443/"})

    assert (event.client_port, event.host, event.port, event.proxy_ip) == (51_000, "a.example", 443, "")
    assert (event.at - event.started, event.status, event.user) == (12_000, 200, "u7")
    assert (logged("w3c", tunnel).method, logged("w3c", tunnel).port) == ("CONNECT", 8_443)
    for changed, decision in (
        ({}, ProxyDecision.SERVED),
        ({"x-acltag": "BLOCK_WEBCAT_7-A"}, ProxyDecision.DENIED),
        ({"x-resultcode-httpstatus": "TCP_DENIED/403"}, ProxyDecision.DENIED),
        ({"x-resultcode-httpstatus": "NONE/504"}, ProxyDecision.FAILED),
    ):
        assert logged("w3c", json.dumps(CISCO | changed)).decision is decision
    parts = {"sc-result-code": "TCP_MISS", "sc-http-status": "404"}
    apart = json.dumps({name: value for name, value in CISCO.items() if name != "x-resultcode-httpstatus"} | parts)
    assert logged("w3c", apart).status == 404
    assert kind("w3c", json.dumps(CISCO | {"cs-url": "/x"})) == "not_proxied"


SQUID = "1604407287.000    111 192.0.2.7 TCP_TUNNEL/200 6500 CONNECT a.example:443 u7 HIER_DIRECT/203.0.113.9 -"
SQUID_PAIRS = (
    "1604407287.000 logformat=splunk_recommended_squid duration=111 src_ip=192.0.2.7 src_port=51000 dest_ip=203.0.113.9 "
    'dest_port=443 user_ident="-" user="u7" local_time=[03/Nov/2020:12:41:27 +0000] http_method=CONNECT '
    'request_method_from_client=CONNECT request_method_to_server=- url="a.example:443" http_referrer="-" '
    'http_user_agent="x \\" status=407 src_ip=192.0.2.8 " status=200 vendor_action=TCP_TUNNEL dest_status=HIER_DIRECT '
    'total_time_milliseconds=52 http_content_type="-" bytes=6610 bytes_in=110 bytes_out=6500 sni="a.example"'
)


def test_squids_format_for_splunk() -> None:
    """The same request as in the native format, with both ports and both counts; what the client states is in quotes."""
    event = logged("squid", SQUID_PAIRS)
    plain = msgspec.structs.replace(logged("squid", SQUID), client_port=51_000, upstream_port=443, bytes_sent=110)

    assert without_line(event) == without_line(plain)
    assert dialects()["squid"].written_at(SQUID_PAIRS.encode()) == AT
    assert without_line(logged("squid", f"<134>gw-1 {SQUID_PAIRS}")) == without_line(event)
    denied = SQUID_PAIRS.replace("TCP_TUNNEL", "TCP_DENIED").replace("dest_status=HIER_DIRECT", "dest_status=HIER_NONE")
    assert (
        logged("squid", denied.replace("dest_ip=203.0.113.9 dest_port=443", "dest_ip=- dest_port=-")).upstream_ip == ""
    )
    assert logged("squid", denied).decision is ProxyDecision.DENIED
    assert reason("squid", SQUID_PAIRS.replace(" vendor_action=TCP_TUNNEL", "")) is Reason.INCOMPLETE


@pytest.mark.parametrize("name", ["src_port", "dest_port", "duration", "status", "bytes_in", "bytes_out"])
def test_a_time_in_brackets_is_no_number(name: str) -> None:
    """As `local_time` is written; found by `make fuzz`."""
    line = re.sub(rf" {name}=\d+", f" {name}=[1,2,3]", SQUID_PAIRS)

    assert reason("squid", line) is Reason.BAD_VALUE


def test_squids_native_format_with_the_clients_port() -> None:
    """And with more numbers behind the size, the first of them what the client sent; the version and the server's port beside."""
    wide = SQUID.replace("192.0.2.7", "192.0.2.7 51000").replace(" 6500 ", " 6500 110 39 120 - ")
    wide = wide.replace(":443 u7", ":443 1.1 u7").replace("203.0.113.9 -", "203.0.113.9 443 - -")
    port_alone = SQUID.replace("192.0.2.7", "192.0.2.7 51000")
    plain = msgspec.structs.replace(logged("squid", SQUID), client_port=51_000)

    assert without_line(logged("squid", port_alone)) == without_line(plain)
    assert without_line(logged("squid", wide)) == without_line(
        msgspec.structs.replace(plain, upstream_port=443, bytes_sent=110)
    )


@pytest.mark.parametrize(
    "way",
    [
        {"message": SQUID, "host": {"name": "gw-1"}},
        {"log": SQUID + "\n", "stream": "stdout", "time": "2020-11-03T12:41:28.1Z", "host": "gw-1"},
        {"_raw": SQUID, "_time": 1604407287.5, "host": "gw-1"},
        {"message": {"a": 1}, "log": SQUID, "host": {"name": "gw-1"}},
        {"log": {"file": "x"}, "message": SQUID, "host": "gw-1"},
    ],
)
def test_shippers_json_is_taken_off(way: dict[str, object]) -> None:
    """Beats and others have the line in `message`, containers and Fluent Bit in `log`, Cribl in `_raw`."""
    event = logged("squid", json.dumps(way, separators=(",", ":")))

    assert event == msgspec.structs.replace(logged("squid", SQUID), proxy="gw-1")


def test_json_in_a_containers_json_is_taken_out() -> None:
    """A dialect whose own lines are JSON looks into it as well; the container's time is the line's where it reports none."""
    inner = json.dumps(
        {"sourcetype": "zscalernss-web"} | {name: ZSCALER_OWN[name] for name in ZSCALER_OWN if name != "time"}
    )
    line = json.dumps({"log": inner + "\n", "stream": "stdout", "time": "2020-11-03T12:41:27Z"}, separators=(",", ":"))

    assert logged("zscaler", line).at == AT


WSA = "1604407287.123 12 {referrer} 192.0.2.7 TCP_MISS/200 873 CONNECT tunnel://a.example:443/ {fields} application/octet-stream "
WSA += 'DEFAULT_CASE_12-A-B-NONE-NONE-NONE-NONE-NONE "192.0.2.1, 192.0.2.2" 51000 {ends} 1 IW_srch 6.9 1 - -'


@pytest.mark.parametrize("referrer", ["-", "https://b.example/x"])
def test_a_wsas_w3c_log_without_its_fields(referrer: str) -> None:
    """Behind the URL stand the server, something else and the user; the client's port is one if the server's follow."""
    event = logged("wsa", WSA.format(referrer=referrer, fields="www.a.example - u7", ends="a.example 443"))
    other = logged("wsa", WSA.format(referrer=referrer, fields="www.a.example - u7", ends="a.example 8443"))

    assert (event.client_ip, event.client_port, event.user, event.upstream_ip) == ("192.0.2.7", 51_000, "u7", "")
    assert other.client_port == 0
    assert logged("wsa", WSA.format(referrer=referrer, fields="www.a.example - -", ends="a.example 443")).user == ""


FORCEPOINT_CEF = (
    "CEF:0|Forcepoint|Security|8.5.4|9|Transaction permitted|1| act=permitted app=https dvc=192.0.2.80 dst=203.0.113.9 "
    "dhost=a.example dpt=443 src=192.0.2.7 spt=51000 suser=LDAP://x OU\\=A,DC\\=B/User 7 loginID=u7 rt=1604407287000 in=6500 "
    "out=110 requestMethod=GET requestClientApplication=x src=192.0.2.8 request=http://b.example/ cn1=1 request=https://a.example/x"
)
FORCEPOINT_LEEF = (
    "LEEF:1.0|Forcepoint|Security|8.5.0|transaction:permitted|sev=1\tusrName=u7\tsrc=192.0.2.7\tsrcPort=51000\tsrcBytes=110\t"
    "dstBytes=6500\tdst=203.0.113.9\tdstPort=443\tproxyStatus-code=200\tmethod=-\turl=https://a.example/x"
)


def test_forcepoint_in_cef() -> None:
    """It has a time of its own. What a client claims to be does not change where it went, nor who it is."""
    event = logged("forcepoint", f"<159>Nov  3 12:41:27 gw-1 {FORCEPOINT_CEF}")

    assert (event.at, event.client_ip, event.client_port) == (AT, "192.0.2.7", 51_000)
    assert (event.host, event.port, event.target, event.upstream_ip) == (
        "a.example",
        443,
        "a.example:443",
        "203.0.113.9",
    )
    assert (event.bytes_sent, event.bytes_received, event.user) == (110, 6_500, "LDAP://x OU=A,DC=B/User 7")
    blocked = logged("forcepoint", FORCEPOINT_CEF.replace("act=permitted", "act=blocked").removeprefix("CEF:"))
    assert (blocked.decision, blocked.upstream_ip) == (ProxyDecision.DENIED, "")
    assert without_line(logged("forcepoint", " " + FORCEPOINT_CEF.removeprefix("CEF:"))) == without_line(event)
    assert reason("forcepoint", FORCEPOINT_CEF.replace("|Security|", "|NGFW|")) is Reason.MALFORMED


def test_forcepoint_in_leef() -> None:
    """What happened stands in the header; the time is that of the header before it, with its year."""
    event = logged("forcepoint", f"2020-11-03T12:41:27Z gw-1 {FORCEPOINT_LEEF}")

    assert (event.at, event.client_port, event.status, event.method) == (AT, 51_000, 200, "")
    assert (event.host, event.port, event.decision) == ("a.example", 443, ProxyDecision.SERVED)
    assert (
        logged(
            "forcepoint",
            f"2020-11-03T12:41:27Z gw-1 {FORCEPOINT_LEEF.replace('transaction:permitted', 'transaction:blocked')}",
        ).decision
        is ProxyDecision.DENIED
    )
    assert reason("forcepoint", f"<159>Nov  3 12:41:27 gw-1 {FORCEPOINT_LEEF}") is Reason.INCOMPLETE


def test_websenses_header_has_a_zone() -> None:
    """And no year, so there is no time; it is known whose line that is."""
    line = (
        "<159>Nov  3 12:41:27 EST 192.0.2.80 vendor=Websense product=Security action=permitted src_host=192.0.2.7 "
        "dst_host=a.example url=http://a.example/"
    )

    assert reason("forcepoint", line) is Reason.INCOMPLETE
    assert [dialect.name for dialect in dialects().values() if dialect.claims(line.encode())] == ["forcepoint"]


def test_haproxy_with_the_host_before_the_timers() -> None:
    """As some formats have it; it is not the host that counts."""
    line = '192.0.2.7:51000 [03/Nov/2020:12:41:27.000] fwd~ pool/out b.example 0/0/1/2/503 200 11 - - ---- 1/1/0/0/0 0/0 "%s"'

    assert logged("haproxy", line % "CONNECT a.example:443 HTTP/1.1").host == "a.example"
    assert kind("haproxy", line % "GET / HTTP/1.1") == "not_proxied"


ISTIO = (
    '[2020-11-03T12:41:27.000Z] "{method} - HTTP/1.1" 200 - via_upstream - "-" 110 6500 100 50 "-" "{agent}" "-" "a.example:443" '
    '"203.0.113.9:443" {cluster} 192.0.2.80:40000 192.0.2.80:3128 192.0.2.7:51000 - -'
)


def test_istios_text_has_the_clients_address() -> None:
    """At the end, behind all that a client writes: what it claims changes nothing."""
    line = ISTIO.format(method="CONNECT", agent="x", cluster="dynamic_forward_proxy_cluster")
    forged = 'x" "-" "b.example:443" "198.51.100.9:443" dynamic_forward_proxy 1.1.1.1:1 1.1.1.1:1 1.1.1.1:1 - -'
    event = logged("envoy", line)

    assert (event.client_ip, event.client_port, event.proxy_ip, event.proxy_port) == (
        "192.0.2.7",
        51_000,
        "192.0.2.80",
        3_128,
    )
    assert (event.host, event.port, event.upstream_ip, event.upstream_port) == ("a.example", 443, "203.0.113.9", 443)
    assert (event.bytes_sent, event.bytes_received, event.started, event.at) == (110, 6_500, AT, AT + 100_000)
    stated = logged("envoy", ISTIO.format(method="CONNECT", agent=forged, cluster="dynamic_forward_proxy_cluster"))
    assert without_line(stated) == without_line(event)
    assert kind("envoy", ISTIO.format(method="GET", agent="x", cluster="outbound|80||a.example")) == "not_proxied"
