"""The traps of Zeek's logs, most of them met in real records (tests/data/zeek), and its tab-separated rows made into JSON."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.files.lines import Lines
from producers.sources.source import SourceFile
from schemas.clock import parse_micros
from schemas.events import FlowSummary, HttpExchange, Ignored, Parsed, Reason, Reject, TlsName
from schemas.parsers import dialects
from schemas.parsers.network.zeek import DIALECT, claims, device_of, parse, written_at
from schemas.parsers.network.zeek_tsv import ZeekRows
from schemas.parsers.recognition import AUTO, NOBODYS

DATA = Path(__file__).parents[3] / "data"
FILES = sorted((DATA / "zeek").glob("*.gz"))
HEADER = [
    rb"#separator \x09",
    b"#set_separator\t,",
    b"#empty_field\t(empty)",
    b"#unset_field\t-",
    b"#path\thttp",
    b"#open\t2025-03-04-09-15-22",
    b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\ttrans_depth\thost\turi\tresumed\trtt\ttags",
    b"#types\ttime\tstring\taddr\tport\taddr\tport\tcount\tstring\tstring\tbool\tinterval\tset[enum]",
]
ROW = b"1741079722.001000\tCAa1\t10.0.0.1\t4000\t10.0.0.9\t3128\t1\thost.example\t/a\tT\t0.25\t(empty)"


def lines(path: Path) -> list[bytes]:
    """The recorded lines of a file as they are published."""
    rows = ZeekRows()
    return [made for line in gzip.decompress(path.read_bytes()).splitlines() for made in rows.take(line, 0)]


def record(log: str, **values: Any) -> bytes:
    """A constructed line of JSON; a value of None is left out."""
    ends = {"id.orig_h": "10.0.0.1", "id.orig_p": 4000, "id.resp_h": "10.0.0.9", "id.resp_p": 3128}
    whole = {"_path": log, "ts": 1741079722.5, "uid": "CAa1", **ends, **values}
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def conn(**values: Any) -> Parsed:
    """What becomes of a conn record."""
    common = {"proto": "tcp", "duration": 2.0, "conn_state": "SF", "history": "ShADadFf"}
    return parse(record("conn", **{**common, **values}))


def http(**values: Any) -> HttpExchange:
    """What becomes of an http record."""
    parsed = parse(record("http", **{"trans_depth": 1, "method": "GET", **values}))
    assert isinstance(parsed, HttpExchange)
    return parsed


def rows_of(*rows: bytes, header: list[bytes] = HEADER) -> list[Any]:
    """Rows under a header as published: JSON, or the bytes that did not fit."""
    framing = ZeekRows()
    made = [one for line in (*header, *rows) for one in framing.take(line, 0)]
    return [json.loads(one) if one.startswith(b"{") else one for one in made]


EXTENDED = {
    "in front, as Zeek writes them": (
        b"_write_ts\t_stream\t_system_name\t",
        b"time\tstring\tstring\t",
        b"1741079723.000001\thttp\tzeek\t",
    ),
    "the log's name first": (b"_path\t_write_ts\t", b"string\ttime\t", b"http\t1741079723.000001\t"),
    "the system's name first": (b"_system_name\t", b"string\t", b"tap-1\t"),
    "an unset one first": (b"_node\t", b"string\t", b"-\t"),
}
"""Fields that `Log::default_ext_func` adds to every log (docs.zeek.org, "Logging Framework", log extension fields)."""


@pytest.mark.parametrize("extension", EXTENDED.values(), ids=EXTENDED)
def test_extension_fields_are_columns(extension: tuple[bytes, bytes, bytes]) -> None:
    """The header names them, so their place and number do not matter; `auto` finds header and rows as well."""
    names, types, values = extension
    header = [
        line.replace(b"#fields\t", b"#fields\t" + names).replace(b"#types\t", b"#types\t" + types) for line in HEADER
    ]
    subject = Lines(SourceFile(AUTO, "p", "s"), NOBODYS, 1_000)
    (line,) = subject.feed(b"\n".join([*header, values + ROW, b"#close\t2025-03-04-09-15-23", b""]))
    found = parse(line.value)

    assert line.dialect == "zeek"
    assert rows_of(values + ROW, header=header) == [json.loads(line.value)]
    assert isinstance(found, HttpExchange)
    assert (found.flow.id, found.host, found.target, found.at) == ("CAa1", "host.example", "/a", 1741079722001000)


def test_rows_of_another_separator_are_their_headers() -> None:
    """`LogAscii::separator` is any text; nothing but the header reports what such a row is."""
    separator = b"|"
    header = [HEADER[0].replace(rb"\x09", rb"\x7c"), *(line.replace(b"\t", separator) for line in HEADER[1:])]
    subject = Lines(SourceFile(AUTO, "p", "s"), NOBODYS, 1_000)
    (line,) = subject.feed(b"\n".join([*header, ROW.replace(b"\t", separator), b""]))

    assert (line.dialect, parse(line.value)) == ("zeek", parse(json.dumps(rows_of(ROW)[0]).encode()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_real_record_is_rejected(path: Path) -> None:
    """Every record is read, is claimed, and names its device and time without being read whole."""
    for line in lines(path):
        parsed = parse(line)

        assert not isinstance(parsed, Reject)
        assert claims(line)
        assert (device_of(line), written_at(line)) == (parsed.device, parsed.at)


def test_rows_become_the_json_that_zeek_writes(request: pytest.FixtureRequest) -> None:
    """`pytest --bless` writes the file again; the difference is reviewed like code."""
    found = [line for path in FILES if path.name.endswith(".log.gz") for line in lines(path)]
    golden = DATA / "zeek" / "rows.out.jsonl"
    if request.config.getoption("--bless"):
        golden.write_bytes(b"\n".join(found) + b"\n")

    assert found == golden.read_bytes().splitlines()


def test_only_zeek_claims_its_lines() -> None:
    """Other sensors' recorded lines are theirs; rows and headers of tab-separated files are Zeek's."""
    others = [path for path in DATA.rglob("*.gz") if path.parent.name != "zeek"]

    assert not any(claims(line) for path in others for line in gzip.decompress(path.read_bytes()).splitlines())
    assert all(claims(line) for path in FILES for line in gzip.decompress(path.read_bytes()).splitlines())
    for other in dialects().values():
        claimed = other.claims if other.name != "zeek" else None
        assert claimed is None or not any(claimed(line) for path in FILES for line in lines(path))
    for odd in (
        b"#Fields: date time",
        b"# comment",
        b'{"ts":1741079722.5,"level":"info"}',
        b"1741079722.001 5 10.0.0.1 x",
    ):
        assert not claims(odd)


def test_the_same_request_in_every_shape() -> None:
    """Dotted, underscored and nested keys; `_path`, `@stream`, a tag or none; by syslog or Filebeat; times; null for unset."""
    reported = {
        "trans_depth": 1,
        "method": "CONNECT",
        "host": "a.example:443",
        "uri": "a.example:443",
        "status_code": 200,
    }
    reported["request_body_len"] = 0
    ends = {"orig_h": "10.0.0.1", "orig_p": 4000, "resp_h": "10.0.0.9", "resp_p": 3128}
    dotted, scored = ({f"id{mark}{key}": value for key, value in ends.items()} for mark in "._")
    head = {"ts": 1741079722.5, "uid": "CAa1"}
    shapes: list[dict[str, Any]] = [
        {"_path": "http", **head, **dotted, **reported},
        {"@stream": "http", **head, **scored, **reported},
        {"_stream": "http", **head, **scored, **reported},
        {**reported, "id": ends, "_path": "http", **head},
        {**head, **dotted, **reported},
        {"_path": "http_internal", **head, **dotted, **reported},
        {"http": {**head, **dotted, **reported}},
        {"_path": "http", **head, "ts": "2025-03-04T09:15:22.500000Z", **dotted, **reported},
        {"_path": "http", **head, "ts": 1741079722500, **dotted, **reported},
        {"_path": "http", **head, "ts": "1741079722.500000", **dotted, **reported},
        {"_path": "http", **head, **dotted, **reported, "username": None, "conn_state": None, "duration": None},
    ]
    written = [json.dumps(shape).encode() for shape in shapes]
    written.append(b"<134>Mar  4 09:15:22 sensor " + written[0])
    written.append(b"<134>1 2025-03-04T09:15:22Z sensor zeek - - - " + written[0])
    written.append(json.dumps({"@timestamp": "2025-03-04T09:15:23Z", "message": written[0].decode()}).encode())
    (event,) = {repr(parse(line)) for line in written}

    assert event == repr(parse(written[0])) != ""
    assert isinstance(parse(written[0]), HttpExchange)
    assert {(device_of(line), written_at(line)) for line in written} == {("10.0.0.1", 1_741_079_722_500_000)}
    assert all(claims(line) for line in written)


def test_connect_names_its_target_and_the_device_is_the_client() -> None:
    """`host` may carry the port or not; `trans_depth` counts from 1; uid is the flow."""
    with_port = http(method="CONNECT", host="A.example:443", uri="a.example:443", status_code=200, trans_depth=2)
    without = http(method="CONNECT", host="a.example", uri="a.example:443", status_code=200, trans_depth=2)

    assert with_port == without
    assert (with_port.device, with_port.flow.id, with_port.tx) == ("10.0.0.1", "CAa1", 1)
    assert (with_port.target, with_port.host, with_port.status) == ("a.example:443", "a.example", 200)


def test_a_request_that_could_not_be_read() -> None:
    """No method, host or target: something was asked, and it names nothing. Nor does an IPv6 host, cut at a colon as of old."""
    assert (http(method=None).method, http(method=None).target, http(method=None).status) == ("", "", None)
    assert http(host="[2001").host == ""
    assert http(host="[2001:db8::1]:80").host == "2001:db8::1"


def test_an_unescaped_target_that_names_another_host_is_none() -> None:
    """Zeek undoes escapes: `http://good.example%2F@evil.example/` stands there as a request to good.example."""
    assert http(uri="http://good.example/@evil.example/", host="evil.example").target == ""
    assert http(uri="http://good.example/@evil.example/").target == ""
    for harmless in ("http://a.example/@b", "/login?to=http://b.example/@c", "http://a.example:81/"):
        assert http(uri=harmless, host="a.example:81").target == harmless


def test_a_connection_that_ended() -> None:
    """`ts` is the start; the end is `duration` later, and is when the line counts as written."""
    closed = conn(orig_bytes=5, resp_bytes=7, service="http,ssl")

    assert isinstance(closed, FlowSummary)
    assert (closed.started, closed.ended, closed.at) == (1741079722500000, 1741079724500000, 1741079724500000)
    assert (closed.bytes_sent, closed.bytes_received) == (5, 7)
    assert (closed.answered, closed.midstream, closed.tls) == (True, False, False)
    assert written_at(record("conn", proto="tcp", duration=2.0)) == closed.at


@pytest.mark.parametrize(
    ("state", "history", "ended", "answered", "midstream"),
    [
        ("S1", "ShADad", False, True, False),  # open when Zeek released it
        ("S0", "S", True, False, False),
        ("S0", "SAD", True, True, False),  # the answers were not captured, but the client went on
        ("REJ", "Sr", True, False, False),
        ("RSTOS0", "SR", True, False, False),
        ("RSTR", "ShADadr", True, True, False),
        ("SHR", "^hadf", True, True, False),  # only the server's side was captured
        ("SF", "FafA", True, True, True),  # only the end was seen
        ("OTH", "DdA", False, True, True),
        ("OTH", "DdAR", True, True, True),
        ("OTH", None, False, True, True),
        ("S0", None, True, False, False),
        ("SF", None, True, True, False),
    ],
)
def test_states(state: str, history: str | None, ended: bool, answered: bool, midstream: bool) -> None:
    """The history's letters state what the state leaves open."""
    closed = conn(conn_state=state, history=history)

    assert isinstance(closed, FlowSummary)
    assert (closed.ended > 0, closed.answered, closed.midstream) == (ended, answered, midstream)


def test_tls_from_the_first_byte() -> None:
    """Only where no other protocol was used before: after CONNECT the service is `http,ssl`."""
    services = ("ssl", "http,ssl", "ssl,http", "smtp,ssl", "http", None, ["ssl"])

    assert [getattr(conn(service=one), "tls", None) for one in services] == [True, *5 * [False], True]


def test_names() -> None:
    """A hello gives its name, one without a name states that TLS was used; DTLS has no connection."""
    named, nameless = parse(record("ssl", server_name="WWW.A.example", version="TLSv13")), parse(record("ssl"))

    assert isinstance(named, TlsName)
    assert isinstance(nameless, TlsName)
    assert (named.sni, nameless.sni, named.tunnelled) == ("www.a.example", "", False)
    assert getattr(parse(record("ssl", version="DTLSv12")), "kind", "") == "ssl_not_tcp"


def test_what_holds_nothing_is_ignored_by_kind() -> None:
    """A closed set: the names of logs, what is not TCP or has no ports, and `other`."""
    kinds = {
        b'{"_path":"socks","ts":1.5,"request.name":"a.example","version":5}': "socks",
        record("tunnel", **{"id.orig_p": 0, "tunnel_type": "Tunnel::HTTP"}): "tunnel",
        record("conn", proto="udp"): "conn_not_tcp",
        record("conn", proto="icmp", **{"id.orig_p": 8, "id.resp_p": 0}): "conn_not_tcp",
        record("conn", proto="tcp", conn_state="REJ", **{"id.resp_p": 0}): "conn_no_ports",
        record("http", **{"id.orig_p": 0}): "http_no_ports",
        record("ssl", **{"id.orig_p": 0}): "ssl_no_ports",
        record("my_own_script"): "other",
        record("", AA=False, query="a.example"): "dns",
        record("", trans_depth=0, request_body_len=0, request_path=[], method="INVITE"): "other",  # SIP
        record("", trans_depth=1, helo="a.example"): "other",  # SMTP
        record("conn_long", proto="tcp", conn_state="S1"): "conn_long",
    }

    assert {line: getattr(parse(line), "kind", parse(line)) for line in kinds} == kinds


def test_a_strange_field_of_a_log_not_for_us_is_no_reject() -> None:
    """Logs share names of fields: only in conn, http and ssl must they be what we know."""
    assert isinstance(parse(record("smtp", host=["a"], version=3)), Ignored)
    assert isinstance(parse(record("http", host=["a"])), Reject)


def test_a_shippers_own_host_is_no_host_header() -> None:
    """Filebeat that puts keys at the top writes `host` and `service` over Zeek's: the target states what was asked for."""
    ours = {"host": {"name": "tap-1"}, "service": {"type": "zeek"}}
    request = parse(record("http", method="CONNECT", uri="a.example:443", **ours))
    closed = parse(record("conn", proto="tcp", conn_state="SF", **ours))

    assert isinstance(request, HttpExchange)
    assert (request.target, request.host) == ("a.example:443", "")
    assert isinstance(closed, FlowSummary)
    assert not closed.tls


def test_a_line_without_a_client_is_of_who_wrote_it() -> None:
    """Logs about the sensor itself name no address."""
    line = b'{"_path":"stats","_system_name":"tap1","ts":"2025-03-04T09:15:22.500000Z","peer":"worker-1"}'

    assert parse(line) == Ignored("tap1", parse_micros("2025-03-04T09:15:22.5Z"), "stats")
    assert device_of(line) == "tap1"
    assert device_of(record("conn", proto="udp", **{"id.orig_h": "0.0.0.0"})) == ""  # asks for an address


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (ROW, Reason.MALFORMED),
        (HEADER[0], Reason.MALFORMED),
        (b'{"_path":"conn"}', Reason.INCOMPLETE),
        (b'{"message":"started"}', Reason.INCOMPLETE),
        (b'{"message":["started"]}', Reason.INCOMPLETE),
        (json.dumps({"message": record("http", status_code=1000).decode()}).encode(), Reason.BAD_VALUE),
        (record("conn"), Reason.INCOMPLETE),
        (record("conn", proto="tcp"), Reason.INCOMPLETE),
        (record("http", **{"id.orig_h": None}), Reason.INCOMPLETE),
        (record("http", **{"id.resp_p": None}), Reason.INCOMPLETE),
        (record("http", **{"id.orig_h": "unknown"}), Reason.BAD_VALUE),
        (record("http", **{"id.resp_p": 70_000}), Reason.BAD_VALUE),
        (record("http", **{"id.orig_h": "0.0.0.0"}), Reason.BAD_VALUE),
        (record("http", status_code=1000), Reason.BAD_VALUE),
        (record("http", trans_depth="one"), Reason.BAD_VALUE),
        (record("http", ts=-1.0), Reason.BAD_VALUE),
        (record("http", ts="soon"), Reason.BAD_VALUE),
        (record("http", ts=1e300), Reason.BAD_VALUE),
        (record("conn", proto="tcp", conn_state="SF", duration=-1.0), Reason.BAD_VALUE),
        (record("conn", proto="tcp", conn_state="SF", duration=1e300), Reason.BAD_VALUE),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_bytes(line: bytes, reason: Reason) -> None:
    """Nothing is guessed: a row without its header has no meaning."""
    parsed = parse(line)

    assert isinstance(parsed, Reject)
    assert (parsed.reason, parsed.raw) == (reason, line)


def test_a_row_by_its_types() -> None:
    """Numbers, truth values, sets and text; an unset value is left out, an empty one is empty, the header itself is nothing."""
    unset, empty, elements = rows_of(
        ROW.replace(b"/a", b"-"), ROW.replace(b"/a", b"(empty)"), ROW.replace(b"(empty)", b"A,-,B")
    )

    ends = {"id.orig_h": "10.0.0.1", "id.orig_p": 4000, "id.resp_h": "10.0.0.9", "id.resp_p": 3128}
    reported = {"trans_depth": 1, "host": "host.example", "resumed": True, "rtt": 0.25, "tags": []}
    assert unset == {"_path": "http", "ts": 1741079722.001, "uid": "CAa1", **ends, **reported}
    assert next(iter(unset)) == "_path"
    assert empty == {**unset, "uri": ""}
    assert elements == {**unset, "uri": "/a", "tags": ["A", None, "B"]}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (rb"\x2d", "-"),
        (rb"\x28empty)", "(empty)"),
        (rb"a\x09b", "a\tb"),
        (rb"O=Entrust\\, Inc", r"O=Entrust\, Inc"),
        (rb"r\xfchma", r"r\xfchma"),
        (rb"\xc3\xbc", "ü"),
        ("ü".encode(), "ü"),
        (rb'say "x"', 'say "x"'),
        (b"\x01\xff", "\x01\\xff"),
        (b"not\\x2", r"not\x2"),
    ],
)
def test_escapes(written: bytes, meant: str) -> None:
    r"""A value that looks unset is written `\x2d`; bytes that are no UTF-8 stay written out, as in Zeek's JSON."""
    assert rows_of(ROW.replace(b"/a", written))[0]["uri"] == meant


def test_columns_in_any_order_and_other_marks() -> None:
    """Only the header states where a value stands, what separates, what is unset and what is empty."""
    header = [
        rb"#separator \x7c",
        b"#set_separator|;",
        b"#empty_field|EMPTY",
        b"#unset_field|NULL",
        b"#path|http",
        b"#fields|tags|uri|ts|host",
        b"#types|set[string]|string|time|string",
    ]

    assert rows_of(b"a;b|-|1741079722.5|NULL", b"EMPTY|EMPTY|1741079722.5|a\tb", header=header) == [
        {"_path": "http", "tags": ["a", "b"], "uri": "-", "ts": 1741079722.5},
        {"_path": "http", "tags": [], "uri": "", "ts": 1741079722.5, "host": "a\tb"},
    ]


def test_a_header_again_in_the_middle() -> None:
    """A file that was joined of two: each row is read by the header above it. Windows line ends are no part of a value."""
    other = [rb"#separator \x09", b"#path\tdns", b"#fields\tquery\tts\r", b"#types\tstring\ttime"]
    found = rows_of(
        ROW + b"\r",
        b"### a remark",
        b"#end\t2025-03-04-10-00-00",
        b"#close\t2025-03-04-10-00-00",
        *other,
        b"a.example\t1741079722.5\r",
    )

    assert [row["_path"] for row in found] == ["http", "dns"]
    assert found[0]["tags"] == []
    assert found[1] == {"_path": "dns", "query": "a.example", "ts": 1741079722.5}


@pytest.mark.parametrize(
    "odd",
    [
        ROW.rpartition(b"\t")[0],
        ROW + b"\t-",
        ROW.replace(b"4000", b"port"),
        ROW.replace(b"4000", b"04000"),
        ROW.replace(b"1741079722.001000", b"soon"),
        ROW.replace(b"0.25", b"NaN"),
        ROW.replace(b"\tT\t", b"\tyes\t"),
        b"garbage",
    ],
)
def test_a_row_that_does_not_fit_goes_on_as_it_is(odd: bytes) -> None:
    """It is then rejected with its bytes, and those after it are read."""
    before, kept, after = rows_of(ROW, odd, ROW)

    assert kept == odd
    assert before == after
    assert isinstance(parse(odd), Reject)


@pytest.mark.parametrize("without", [b"#fields", b"#types", b"#separator"])
def test_rows_without_their_header_go_on_as_they_are(without: bytes) -> None:
    """Half a header states nothing of a column's type; only the separator has a default."""
    header = [line for line in HEADER if not line.startswith(without)]

    assert (rows_of(ROW, header=header) == [ROW]) == (without != b"#separator")


def test_json_in_the_file_goes_on_as_it_is() -> None:
    """A file may be of JSON, or be switched to it."""
    assert rows_of(record("ssl")) == [json.loads(record("ssl"))]


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60).map(lambda part: part.replace(b"\n", b" ")) | st.sampled_from([*HEADER, ROW])))
def test_any_lines_lose_nothing(found: list[bytes]) -> None:
    """Whatever stands in a file, each line that is no header gives one line, which can be read or is itself."""
    framing = ZeekRows()
    for line in found:
        made = framing.take(line, 0)

        assert len(made) == (not line.startswith(b"#"))
        assert all(one == line or isinstance(json.loads(one), dict) for one in made)


@pytest.mark.parametrize(
    "part", [b'"ts":1234567890.1', b'"id": {', b'"id":{"ts":1234567890.1', b'"_path" ', b"{", b"1 "]
)
def test_a_hostile_line_costs_no_more_than_its_length(part: bytes) -> None:
    """What repeats itself a hundred thousand times is reported at once; a pattern that looks back would take minutes."""
    line = b'"ts":1234567890.1,' + part * 100_000

    assert not claims(line) or b"_path" in line
    assert isinstance(parse(line), Reject)


def test_the_sample_gives_all_kinds_of_events() -> None:
    """What the recorded files come to."""
    found = Counter(type(parse(line)).__name__ for path in FILES for line in lines(path))

    assert DIALECT.framing is not None
    assert isinstance(DIALECT.framing(lambda _: 0), ZeekRows)
    assert found == {"FlowSummary": 62, "HttpExchange": 88, "TlsName": 12, "Ignored": 54}
