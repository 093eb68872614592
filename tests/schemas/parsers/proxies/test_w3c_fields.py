"""Rows of the extended log under their `#Fields`, in any order, and those of servers. All lines are constructed."""

from __future__ import annotations

import json

import msgspec
import pytest

from schemas.events import Ignored, Parsed, ProxyDecision, ProxyLogged, Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.common.extended_log import FieldRows
from schemas.parsers.proxies import w3c

W3C = dialects()["w3c"]
MAIN = (
    "date time time-taken c-ip cs-username cs-auth-group s-supplier-name s-supplier-ip s-supplier-country x-exception-id "
    "x-unknown sc-filter-result cs-categories cs(Referer) sc-status s-action cs-method rs(Content-Type) cs-uri-scheme cs-host "
    "cs-uri-port cs-uri-path cs-uri-query cs-uri-extension cs(User-Agent) s-ip sc-bytes cs-bytes x-virus-id"
)
ROW = (
    "2020-05-02 02:16:40 12 192.0.2.7 DOMAIN\\user7 - www.example.com 203.0.113.9 Germany - - OBSERVED "
    '"Technology/Internet" - 200 TCP_TUNNELED CONNECT - tcp www.example.com 443 / - - "A \\"B\\"" 192.0.2.80 5414 2416 -'
)
ASKED = {
    "date": "2020-05-02",
    "time": "02:16:40",
    "c-ip": "192.0.2.7",
    "cs-method": "GET",
    "sc-status": "200",
    "s-action": "TCP_MISS",
}


def framed(*lines: str) -> list[bytes]:
    """What is published of a file's lines."""
    rows = FieldRows()
    return [row for line in lines for row in rows.take(line.encode(), 0)]


def read(*lines: str) -> Parsed:
    """What becomes of a file's only row."""
    (row,) = framed(*lines)
    return W3C.parse(row)


def of(**reported: str | None) -> Parsed:
    """What becomes of a row that reports these, `_` for `-`, beside the least that there must be."""
    fields = ASKED | {name.replace("_", "-"): value for name, value in reported.items()}
    return W3C.parse(json.dumps({name: value for name, value in fields.items() if value is not None}).encode())


def logged(parsed: Parsed) -> ProxyLogged:
    """The event, which there must be."""
    assert isinstance(parsed, ProxyLogged), parsed
    return parsed


def test_a_row_is_read_as_its_fields_state() -> None:
    """In the vendor's order it is what it is without them; in another order it is the same."""
    alone, names, values = logged(W3C.parse(ROW.encode())), MAIN.split(), FieldRows()
    below = logged(read("#Software: SGOS 7.3", f"#Fields: {MAIN}", ROW))
    values.take(f"#Fields: {MAIN}".encode(), 0)
    reported = json.loads(values.take(ROW.encode(), 0)[0])
    turned = " ".join(f'"{reported[name]}"' if name in reported else "-" for name in map(str.lower, reversed(names)))
    other = logged(read(f"#Fields: {' '.join(reversed(names))}", turned.replace('\\"', "")))

    assert alone.upstream_ip == "203.0.113.9"
    assert msgspec.structs.replace(below, event_id="") == msgspec.structs.replace(alone, event_id="")
    assert msgspec.structs.replace(other, event_id="") == msgspec.structs.replace(alone, event_id="")


def test_only_rows_that_fit_are_read_by_their_fields() -> None:
    """Others go on as they are, as does all that stands under no fields that can be."""
    assert framed(ROW) == [ROW.encode()]
    assert framed("#Fields: date time c-ip", ROW) == [ROW.encode()]
    assert framed("#Fields: date time c-ip", "2020-05-02 02:16:40") == [b"2020-05-02 02:16:40"]
    assert framed("#Fields: c-ip c-ip", "192.0.2.7 192.0.2.8") == [b"192.0.2.7 192.0.2.8"]
    assert framed("#Fields: " + " ".join(f"f{n}" for n in range(300)), " ".join("1" * 300)) == [b" ".join([b"1"] * 300)]
    assert framed("#Fields: c-ip x", "#Fields: x c-ip", "a 192.0.2.7\r") == [b'{"x":"a","c-ip":"192.0.2.7"}']
    assert framed("#close") == [b"#close"]
    assert framed("#Fields: c-ip x", '192.0.2.7 "a b') == [b'192.0.2.7 "a b']
    assert framed("#Fields:\tc-ip\tx\ty", "192.0.2.7\ta b\t-") == [b'{"c-ip":"192.0.2.7","x":"a b"}']
    rows = FieldRows()
    rows.take(b"#Fields: x", 0)
    assert rows.take(b"\xe4", 0) == [b'{"x":"\\\\xe4"}']


def test_fields_beyond_the_usual_count() -> None:
    """The client's port joins the line to its connection; a URL in one piece is as good as its parts."""
    found = logged(
        of(
            cs_uri="http://a.example:8080/p?q=1",
            c_port="51000",
            s_port="3128",
            s_ip="192.0.2.80",
            cs_uri_query="?q=1",
            cs_host=None,
        )
    )

    assert (found.client_port, found.proxy_ip, found.proxy_port) == (51000, "192.0.2.80", 3128)
    assert (found.host, found.port, found.target) == ("a.example", 8080, "http://a.example:8080/p?q=1")
    stem = logged(of(cs_uri_stem="https://a.example/p", cs_uri_query="?q=1"))
    assert (stem.host, stem.port, stem.target) == ("a.example", 443, "https://a.example/p?q=1")
    tunnel = logged(of(cs_method="CONNECT", cs_host="a.example", cs_uri_port="443"))
    assert (tunnel.host, tunnel.port, tunnel.target) == ("a.example", 443, "a.example:443")
    assert logged(of(cs_uri="http://a.example/", s_action="TCP_DENIED")).decision is ProxyDecision.DENIED


@pytest.mark.parametrize("place", ["message", "_raw", "log"])
def test_a_row_in_a_shippers_json_is_taken_out(place: str) -> None:
    """Unless what is there is none."""
    row = {**ASKED, "cs-uri": "http://a.example/"}
    alone = logged(W3C.parse(json.dumps(row, separators=(",", ":")).encode()))
    carrier = {**row, "c-ip": "192.0.2.8", place: json.dumps(row, separators=(",", ":"))}

    assert logged(W3C.parse(json.dumps(carrier, separators=(",", ":")).encode())) == alone
    assert logged(of(cs_uri="http://a.example/", **{place: ""})).client_ip == "192.0.2.7"


def test_a_row_is_read_once_for_its_time_and_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer asks for both."""
    read_rows: list[bytes] = []
    read_row = w3c._row

    def counted(reported: dict[str, str], line: bytes, proxy: str) -> Parsed:
        read_rows.append(line)
        return read_row(reported, line, proxy)

    monkeypatch.setattr(w3c, "_row", counted)
    row = json.dumps({**ASKED, "cs-uri": "http://once.example/"}).encode()

    assert (W3C.written_at(row), W3C.device_of(row)) == (1_588_385_800_000_000, "192.0.2.7")
    assert read_rows == [row]


@pytest.mark.parametrize(
    ("reported", "at"),
    [
        ({}, 1_588_385_800_000_000),
        ({"date": None, "timestamp": "1588385800"}, 1_588_385_800_000_000),
        ({"date": None, "x-timestamp-unix": "1588385800.25"}, 1_588_385_800_250_000),
        ({"time": None, "localtime": "[02/May/2020:04:16:40 +0200]"}, 1_588_385_800_000_000),
        ({"time": None, "gmttime": "[02/May/2020:02:16:40 GMT]"}, 1_588_385_800_000_000),
    ],
)
def test_a_time_in_any_of_its_fields(reported: dict[str, str | None], at: int) -> None:
    """Date and time are GMT; others report their zone."""
    assert logged(of(cs_uri="http://a.example/", **reported)).at == at


def test_a_row_without_what_it_takes_is_rejected() -> None:
    """A day without its time, or the reverse, is no time; a masked client is no one."""

    def reason(**reported: str | None) -> Reason:
        parsed = of(cs_uri="http://a.example/", **reported)
        assert isinstance(parsed, Reject)
        return parsed.reason

    assert reason(date=None) is Reason.INCOMPLETE
    assert reason(c_ip=None) is Reason.INCOMPLETE
    assert reason(c_ip="172.88.888.2") is Reason.BAD_VALUE
    assert reason(sc_status="two") is Reason.BAD_VALUE


def test_servers_are_no_proxies() -> None:
    """IIS and CloudFront name a path only, IIS also beside the host; who does not state what was done is not believed."""
    iis = "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs-host sc-status time-taken"
    cloud = "#Fields: date time x-edge-location c-ip cs-method cs(Host) cs-uri-stem sc-status"
    found = [
        read(iis, "2020-05-02 02:16:40 192.0.2.80 GET /x - 80 - 192.0.2.7 a.example 200 15"),
        read(cloud, "2020-05-02\t02:16:40\tFRA2\t192.0.2.7\tGET\td1.cloudfront.net\t/x\t200".replace("\t", " ")),
        of(cs_method="CONNECT", cs_uri="a.example:443"),
        of(cs_uri="http://a.example/", s_action=None),
        of(cs_method=None),
    ]

    kinds = [parsed.kind for parsed in found if isinstance(parsed, Ignored)]
    assert kinds == ["not_proxied", "not_proxied", "no_destination", "no_verdict", "no_request"]


def test_rows_among_others_are_recognised() -> None:
    """By the vendor's word for what was done, wherever it stands; a row that is published by its names."""
    row = b"2020-05-02 02:16:40 192.0.2.7 51000 200 TCP_NC_MISS GET http://a.example/"

    assert W3C.claims(row)
    assert not W3C.claims(row.replace(b"TCP_NC_MISS", b"done"))
    assert W3C.claims(framed("#Fields: " + MAIN, ROW)[0])
    assert [name for name, dialect in dialects().items() if dialect.claims(row)] == ["w3c"]
