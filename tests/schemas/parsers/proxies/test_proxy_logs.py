"""What all proxies' logs have in common: targets, carriers, whose line it is, and what is remembered."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from schemas.address import REMEMBERED_LENGTH_MAX, canonical_host
from schemas.events import TEXT_CHARS_MAX, Ignored, ProxyLogged, Reason
from schemas.parsers import dialects
from schemas.parsers.common.carriers import carried
from schemas.parsers.common.proxy_log import _remembered, destination, epoch, status
from schemas.parsers.proxies import w3c
from tests.schemas.parsers.proxies.proxy_log_lines import HAPROXY, JSON, SOPHOS, logged, native
from tests.schemas.parsers.reading import read, reason

DATA = Path(__file__).parents[3] / "data"
PROXIES = ("envoy", "forcepoint", "haproxy", "sophos", "squid", "tinyproxy", "w3c", "wsa", "zscaler")


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
    assert destination("GET", target, default) == found


def test_a_destination_is_worked_out_once_for_all_its_pages() -> None:
    """Not so where a client writes what it likes in any length."""
    destination("GET", "http://once.example:8080/")
    before = _remembered.cache_info()

    assert destination("GET", "http://once.example:8080/a/b?c=http://b.example/") == ("once.example", 8080)
    after = _remembered.cache_info()
    assert (after.hits, after.currsize) == (before.hits + 1, before.currsize)
    assert destination("GET", f"http://{'u' * REMEMBERED_LENGTH_MAX}@once.example:8080/a") == ("once.example", 8080)
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
    """Beats wrap a line unless reported otherwise; in it may be a syslog header as well. The event is the same."""
    line = json.dumps({"@timestamp": "2026-03-06T22:39:30Z", "message": "<134>" + native(), "host": {"name": "gw-1"}})
    wrapped = logged("squid", line)

    assert wrapped.proxy == "gw-1"
    assert wrapped.event_id == logged("squid", native()).event_id


def test_the_same_request_by_two_ways_is_one_event() -> None:
    """The identity is the line's own, not the header's."""
    ways = ("", "<134>1 2026-03-06T22:39:30Z gw-1 squid 7 - - ", "<134>Mar  6 22:39:31 gw-2 squid: ")

    assert len({logged("squid", way + native()).event_id for way in ways}) == 1


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


def test_long_texts_are_cut() -> None:
    """A target of any length names its destination; of it, and of a user, so much is kept."""
    event = logged(
        "squid", native(request="GET http://a.example/" + "x" * 5_000).replace(" - HIER", f" {'u' * 5_000} HIER")
    )

    assert (event.host, len(event.target), len(event.user)) == ("a.example", TEXT_CHARS_MAX, TEXT_CHARS_MAX)


def test_a_request_that_is_cut_off_names_unknown() -> None:
    """Half a name is another name, and half an address another one."""
    request = HAPROXY % (200, "----", "CONNECT bank.example.evil.test:443 HTTP/1.1")
    pairs = "<134> 2026-03-06T22:39:30Z gw-1 bluecoat[0]: c-ip=192.0.2.7 cs-method=GET cs-host=bank.example"

    assert reason("haproxy", request[:-20]) is Reason.INCOMPLETE
    assert reason("w3c", pairs) is Reason.INCOMPLETE
    assert logged("w3c", f"{pairs} sc-status=200").host == "bank.example"
    assert reason("squid", native().removesuffix("9 text/html")) is Reason.MALFORMED
    assert reason("sophos", SOPHOS.partition("/ HTTP")[0]) is Reason.INCOMPLETE


def test_tinyproxys_lines_by_themselves_state_nothing() -> None:
    """Who asked and what was asked are two lines; nothing on either names both (`test_tinyproxy.py` has them together)."""
    lines = gzip.decompress((DATA / "proxylogs/tinyproxy.log.gz").read_bytes()).decode().splitlines()

    assert {type(read("tinyproxy", line)) for line in lines} == {Ignored}
    assert {read("tinyproxy", line).device for line in lines} == {""}


@pytest.mark.parametrize("path", sorted((DATA / "proxylogs").glob("*.gz")), ids=lambda path: path.name)
def test_each_real_line_is_claimed_by_its_own_dialect(path: Path) -> None:
    """And by no other: so a file may mix them."""
    for line in gzip.decompress(path.read_bytes()).splitlines():
        stated = [
            dialect.name for dialect in dialects().values() if dialect.claims is not None and dialect.claims(line)
        ]

        assert stated == [path.name.partition(".")[0].partition("-")[0]]


def test_lines_of_other_sensors_are_not_claimed() -> None:
    """Events in JSON, XML and text of everything else that is recorded."""
    for path in sorted(DATA.rglob("*.gz")):
        if path.parent.name != "proxylogs":
            for line in gzip.decompress(path.read_bytes()).splitlines():
                for name in PROXIES:
                    claims = dialects()[name].claims
                    assert claims is not None
                    assert not claims(line), f"{name} claims a line of {path.name}"


def test_a_web_servers_combined_log_is_not_squids() -> None:
    """Nginx answers 400 to a CONNECT: nothing was proxied, and squid's code is missing."""
    line = '127.0.0.1 - - [24/Sep/2021:06:20:32 +0000] "CONNECT foo.com:25 HTTP/1.1" 400 166 "-" "-"'

    assert reason("squid", line) is Reason.MALFORMED
    assert not any(dialect.claims(line.encode()) for dialect in dialects().values() if dialect.claims is not None)


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


@pytest.mark.parametrize("member", ["date", "time", "cs-uri-port", "s-port"])
@pytest.mark.parametrize("value", ["x" * 100_000, "1" * 100_000, "\u0662"])
def test_a_row_s_times_and_ports_are_remembered_if_they_are_some(member: str, value: str) -> None:
    """So what is remembered is short, whatever a line has."""
    remembered = (w3c._moment, w3c._often)
    logged("w3c", JSON["w3c"])
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


def test_a_supplier_of_any_length_is_not_remembered() -> None:
    """A name longer than a host's may be (RFC 1035) is none, and a stream of such names must not fill the memory."""
    lines = (DATA / "golden/w3c.in.jsonl").read_bytes().splitlines()
    fields = json.loads(next(line for line in lines if line.startswith(b"{")))
    one, other = (json.dumps({**fields, "s-supplier-name": letter * 300}).encode() for letter in "xy")
    assert isinstance(dialects()["w3c"].parse(one), ProxyLogged)
    before = canonical_host.cache_info().currsize
    dialects()["w3c"].parse(other)

    assert canonical_host.cache_info().currsize == before
