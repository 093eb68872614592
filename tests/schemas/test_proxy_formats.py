"""Other shapes in which vendors let a proxy's log be written: CEF, LEEF, other names, other orders. All lines are constructed."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest

from schemas.dialects import dialects
from schemas.event_format import formatted, moment, names
from schemas.events import Ignored, Parsed, ProxyDecision, ProxyLogged, Reason, Reject

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


def read(dialect: str, line: str) -> Parsed:
    """What becomes of a line."""
    return dialects()[dialect].parse(line.encode())


def logged(dialect: str, line: str) -> ProxyLogged:
    """The event of a line that has one, and that no other dialect claims."""
    parsed = read(dialect, line)
    assert isinstance(parsed, ProxyLogged), parsed
    assert [other.name for other in dialects().values() if other.claims(line.encode())] == [dialect]
    assert dialects()[dialect].device_of(line.encode()) == parsed.device
    return parsed


def kind(dialect: str, line: str) -> str:
    """What a line that holds nothing is counted as."""
    parsed = read(dialect, line)
    assert isinstance(parsed, Ignored), parsed
    return parsed.kind


def reason(dialect: str, line: str) -> Reason:
    """Why a line is rejected."""
    parsed = read(dialect, line)
    assert isinstance(parsed, Reject), parsed
    return parsed.reason


def without_line(event: ProxyLogged) -> ProxyLogged:
    """What an event says, whatever line said it."""
    return msgspec.structs.replace(event, event_id="", proxy="")


def test_cef_and_leef_are_taken_apart() -> None:
    """Header and pairs, with or without what stands before; a backslash before `=` is none of the value."""
    cef = formatted("Nov  3 12:41:27 gw CEF:0|V|P|1|c|n|3|a=b c d=e\\=f\\\\g h=")
    leef = formatted("LEEF:1.0|V|P|1|e|a=b c\td=e x=y\th=")

    assert cef is not None
    assert leef is not None
    assert (cef.vendor, cef.product, cef.told) == ("V", "P", {"a": "b c", "d": "e=f\\g", "h": ""})
    assert leef.told == {"a": "b c", "d": "e x=y", "h": ""}
    assert formatted("0|V|P|1|c|n|3|a=b") == formatted("CEF: 0|V|P|1|c|n|3|a=b")
    assert formatted("CEF:0|V|P|1|c|n") is None
    assert formatted("a=1 CEF:0|V|P|1|c|n|3|a=b") is None
    assert names("<134>CEF:0|V|P|1", "V|P|")
    assert not names("CEF:0|V|PP|1", "V|P|")


def test_what_a_client_says_of_itself_is_no_pair() -> None:
    """What stood before its words counts; of what is told again behind them nothing does."""
    told = formatted("CEF:0|V|P|1|c|n|3|src=1 requestClientApplication=x src=2 suser=admin requestMethod=GET suser=u7")

    assert told is not None
    assert (told.told["src"], told.told["suser"], told.told["requestMethod"]) == ("1", "", "GET")


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
    """Other feeds of NSS, and what NSS says of itself; another vendor's CEF is not read."""
    assert kind("zscaler", json.dumps({"sourcetype": "zscalernss-fw", "event": {"csip": "192.0.2.7"}})) == "other_log"
    assert kind("zscaler", "<134>Nov  3 12:41:27 gw-1 ZscalerNSS: memory") == "service"
    assert reason("zscaler", ZSCALER_CEF.replace("|Zscaler|", "|Other|")) is Reason.MALFORMED
    assert reason("zscaler", ZSCALER_CEF.replace("NSSWeblog", "NSSFWlog")) is Reason.MALFORMED
