"""The traps of Defender's exported rows (tests/data/mde), constructed from the vendor's table reference.

No real row with a free licence was found.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.clock import iso_micros
from schemas.defender.rows import ROWS_MAX, split
from schemas.dialects import dialects
from schemas.dialects.mde import DIALECT, KINDS, VERDICTS, device_of, parse, written_at
from schemas.events import (
    TEXT_CHARS_MAX,
    Action,
    ConnectionOpened,
    HttpExchange,
    Ignored,
    Parsed,
    Process,
    ProcessVerdict,
    Reason,
    Reject,
    TlsName,
)
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

DATA = Path(__file__).parents[1] / "data" / "mde"
PARSED_AND_IGNORED = {
    "eventhub-records.constructed.json.gz": (6, 0),
    "storage-lines.constructed.jsonl.gz": (3, 0),
    "traps.constructed.jsonl.gz": (22, 14),
}
"""Of each file, how many rows give an event and how many hold nothing for us; none is rejected."""

PROCESS: dict[str, Any] = {
    "InitiatingProcessFileName": "chrome.exe",
    "InitiatingProcessFolderPath": "c:\\program files\\google\\chrome\\application\\chrome.exe",
    "InitiatingProcessId": 7412,
    "InitiatingProcessCreationTime": "2025-03-04T09:10:00.4019871Z",
    "InitiatingProcessCommandLine": '"chrome.exe" --type=utility',
    "InitiatingProcessParentFileName": "explorer.exe",
    "InitiatingProcessParentId": 5216,
    "InitiatingProcessAccountName": "a.meyer",
    "InitiatingProcessAccountDomain": "corp",
    "InitiatingProcessAccountSid": "S-1-5-21-1",
    "InitiatingProcessSHA1": "25f6bb19be3498752f0665b33793b97780b82e0b",
    "InitiatingProcessSHA256": None,
}
NOBODY: dict[str, Any] = {**dict.fromkeys(PROCESS), "InitiatingProcessId": 0}
CONNECT = {"direction": "Out", "method": "CONNECT", "host": "bad1.example:443", "uri": "bad1.example:443"}
CONNECT["status_code"] = "200"
PACKET = {"Source Mac": "00-00-5E-00-53-01", "Destination Mac": "00-00-5E-00-53-02", "Tcp Flags": 2, "Packet Size": 66}


def columns(action: str, more: dict[str, Any] | str | None = None, **values: Any) -> dict[str, Any]:
    """A row as a query gives it."""
    usual = {
        "Timestamp": "2025-03-04T09:15:21.9981234Z",
        "DeviceId": "3f9a1c6e2b8d4f70a5e1c9b3d7f2a6e4c8b0d1f5",
        "DeviceName": "WS-0142.corp.example",
        "ReportId": 48221,
        "ActionType": action,
        "LocalIP": "198.51.100.11",
        "LocalPort": 52817,
        "RemoteIP": "198.51.100.80",
        "RemotePort": 3128,
        "RemoteUrl": None,
        "Protocol": "Tcp",
        "AdditionalFields": json.dumps(more) if isinstance(more, dict) else more,
    }
    return {**usual, **PROCESS, **values}


def envelope(row: dict[str, Any], table: str = "DeviceNetworkEvents") -> dict[str, Any]:
    """A row as it is streamed: `time` is when it was published."""
    head = {"time": "2025-03-04T09:17:41.2286134Z", "operationName": "Publish", "Tenant": "DefaultTenant"}
    return {**head, "category": f"AdvancedHunting-{table}", "properties": row}


def row(action: str, more: dict[str, Any] | str | None = None, **values: Any) -> bytes:
    """A streamed row of DeviceNetworkEvents."""
    return json.dumps(envelope(columns(action, more, **values))).encode()


def judged(action: str, url: str | None = "https://Bad1.example./a?b=c", **more: Any) -> bytes:
    """A streamed row of DeviceEvents: no addresses, and columns of somebody else."""
    nowhere = dict.fromkeys(("LocalIP", "LocalPort", "RemoteIP", "RemotePort", "Protocol"))
    other = {"FileName": "other.exe", "ProcessId": 1, "AccountName": "other", "RemoteUrl": url, **nowhere}
    return json.dumps(envelope({**columns(action, more), **other}, "DeviceEvents")).encode()


def opened(parsed: Parsed) -> ConnectionOpened:
    """It must be a connection."""
    assert isinstance(parsed, ConnectionOpened), parsed
    return parsed


def request(parsed: Parsed) -> HttpExchange:
    """It must be a request."""
    assert isinstance(parsed, HttpExchange), parsed
    return parsed


def verdict(parsed: Parsed) -> ProcessVerdict:
    """It must be a verdict."""
    assert isinstance(parsed, ProcessVerdict), parsed
    return parsed


def kind(parsed: Parsed) -> str:
    """It must be ignored: as what."""
    assert isinstance(parsed, Ignored), parsed
    return parsed.kind


def reject(parsed: Parsed) -> Reject:
    """It must be rejected."""
    assert isinstance(parsed, Reject), parsed
    return parsed


def rows_of(name: str) -> list[bytes]:
    """The rows of a file."""
    return [one for line in gzip.decompress((DATA / name).read_bytes()).splitlines() for one in split(line)]


@pytest.mark.parametrize("name", PARSED_AND_IGNORED)
def test_rows_are_read(name: str) -> None:
    """Each row is an event or holds nothing for us; it names its device, and when it was."""
    counts: Counter[bool] = Counter()
    for line in rows_of(name):
        parsed = parse(line)
        assert not isinstance(parsed, Reject), parsed
        assert device_of(line) == parsed.device != ""
        assert written_at(line) == parsed.at
        counts[isinstance(parsed, Ignored)] += 1

    assert (counts[False], counts[True]) == PARSED_AND_IGNORED[name]


def test_every_file_is_counted() -> None:
    """A file that is put there and not counted would look as if it were read."""
    assert set(PARSED_AND_IGNORED) == {path.name for path in DATA.glob("*.gz")}


def test_one_row_in_every_shape() -> None:
    """Streamed, bare, of Log Analytics, with line end: the very same event."""
    bare = columns("ConnectionSuccess")
    analytics = {**bare, "Type": "DeviceNetworkEvents", "TimeGenerated": bare["Timestamp"], "AdditionalFields": {}}
    del analytics["Timestamp"]
    shapes = [json.dumps(shape).encode() for shape in (envelope(bare), bare, analytics)]
    shapes.append(shapes[0] + b"\r")

    assert len({msgspec.json.encode(opened(parse(shape))) for shape in shapes}) == 1
    assert {device_of(shape) for shape in shapes} == {"ws-0142.corp.example"}


def test_a_connection_has_its_process() -> None:
    """Both ends, who did it, and the event's own time instead of that of publishing."""
    event = opened(parse(row("ConnectionSuccess")))

    assert event.device == "ws-0142.corp.example"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert iso_micros(event.at) == "2025-03-04T09:15:21.998123Z"
    assert event.at == event.started == event.established
    assert event.process == Process(
        7412, "chrome.exe", "c:\\program files\\google\\chrome\\application\\chrome.exe", '"chrome.exe" --type=utility',
        1_741_079_400_401_987, "a.meyer", "corp", "S-1-5-21-1", 5216, "explorer.exe",
        "25f6bb19be3498752f0665b33793b97780b82e0b",
    )  # fmt: skip
    assert event.event_id == "mde/ConnectionSuccess/48221/2025-03-04T09:15:21.9981234Z"


@pytest.mark.parametrize("decimals", ["9981234", "99812", "998123", "998", "9"])
def test_times_have_one_to_seven_decimals(decimals: str) -> None:
    """Windows writes seven, macOS five or six."""
    event = opened(parse(row("ConnectionSuccess", Timestamp=f"2025-03-04T09:15:21.{decimals}Z")))

    assert iso_micros(event.at) == f"2025-03-04T09:15:21.{decimals[:6].ljust(6, '0')}Z"


@pytest.mark.parametrize("written", [None, "", "0001-01-01T00:00:00Z", "1601-01-01T00:00:00.0000000Z"])
def test_a_process_without_beginning(written: str | None) -> None:
    """Unknown is null, or the first moment that a calendar knows."""
    assert opened(parse(row("ConnectionSuccess", InitiatingProcessCreationTime=written))).process.started == 0


def test_the_device_is_its_name_else_its_id() -> None:
    """As Windows events name it: lower case, with domain, without the dot at the end."""
    named: tuple[tuple[dict[str, Any], str], ...] = (
        ({"DeviceName": "Ws-0142.Corp.Example."}, "ws-0142.corp.example"),
        ({"DeviceName": "ws-0142"}, "ws-0142"),
        ({"DeviceName": None}, "3f9a1c6e2b8d4f70a5e1c9b3d7f2a6e4c8b0d1f5"),
        ({"DeviceName": " ", "DeviceId": "AB12"}, "ab12"),
        ({"DeviceName": None, "DeviceId": None}, ""),
    )
    for values, name in named:
        line = row("ConnectionSuccess", **values)
        assert device_of(line) == opened(parse(line)).device == name


@pytest.mark.parametrize(
    ("action", "established", "failed"),
    [
        ("ConnectionSuccess", True, False),
        ("ConnectionFound", True, False),
        ("ConnectionFailed", False, True),
        ("ConnectionRequest", False, False),
        ("ConnectionAttempt", False, False),
    ],
)
def test_what_is_known_of_a_connection(action: str, established: bool, failed: bool) -> None:
    """A failed one says nothing of a block; one that was asked for or tried may have come about."""
    event = opened(parse(row(action)))

    assert (event.established > 0, event.failed) == (established, failed)


def test_a_packet_is_no_connection_of_a_process() -> None:
    """What was seen on the wire has PID 0 and no name: the connection has a row of its own, and would be there twice."""
    assert kind(parse(row("ConnectionAttempt", PACKET, Protocol="TcpV4", **NOBODY))) == "network_no_process"
    assert kind(parse(row("ConnectionAcknowledged", PACKET, **NOBODY))) == "network_acknowledged"
    assert kind(parse(row("InboundConnectionAttempt", {**PACKET, "direction": "In"}, **NOBODY))) == "network_inbound"
    assert opened(parse(row("ConnectionSuccess", **NOBODY))).process == Process()


@pytest.mark.parametrize("protocol", ["Tcp", "TcpV4", "TcpV6", "TCP", None])
def test_tcp_has_several_names(protocol: str | None) -> None:
    """With the version of IP, or nothing."""
    assert opened(parse(row("ConnectionSuccess", Protocol=protocol))).flow.remote_port == 3128


def test_what_has_no_ends() -> None:
    """UDP, and rows in which Defender does not know an end: null, or 0 for a port."""
    assert kind(parse(row("ConnectionSuccess", Protocol="Udp"))) == "network_not_tcp"
    for name in ("LocalIP", "LocalPort", "RemoteIP", "RemotePort"):
        assert kind(parse(row("ConnectionFailed", **{name: None}))) == "network_no_ends"
    assert kind(parse(row("HttpConnectionInspected", CONNECT, LocalPort=0))) == "network_no_ends"
    assert kind(parse(row("SslConnectionInspected", LocalPort=0))) == "network_no_ends"


@pytest.mark.parametrize("url", [None, "proxy.corp.example", "https://www.good1.example/"])
def test_the_url_of_a_connection_is_not_its_destination(url: str | None) -> None:
    """Through a proxy it is null or the proxy's own name: the site is in inspected rows and in verdicts alone."""
    assert parse(row("ConnectionSuccess", RemoteUrl=url)) == parse(row("ConnectionSuccess"))


def test_addresses_have_one_spelling() -> None:
    """IPv6 in full or shortened, IPv4 within it."""
    event = opened(parse(row("ConnectionSuccess", LocalIP="::ffff:198.51.100.11", RemoteIP="2001:DB8:0:0:0:0:0:80")))

    assert event.flow.key == "198.51.100.11 52817 2001:db8::80 3128"


def test_connect_of_an_inspected_connection() -> None:
    """No process, numbers in strings: the same ends as the connection's own row."""
    event = request(parse(row("HttpConnectionInspected", CONNECT, **NOBODY)))

    assert event.flow == opened(parse(row("ConnectionSuccess"))).flow
    assert (event.method, event.target, event.host) == ("CONNECT", "bad1.example:443", "bad1.example")
    assert (event.status, event.tx) == (200, 48221)


@pytest.mark.parametrize(
    ("seen", "url", "target", "host", "status"),
    [
        (
            {"method": "GET", "host": "a.example", "uri": "http://a.example/x"},
            None,
            "http://a.example/x",
            "a.example",
            None,
        ),
        ({"method": "GET", "host": "A.example:8080", "uri": "/x", "status_code": 404}, None, "/x", "a.example", 404),
        ({"method": "GET"}, "http://a.example/x", "http://a.example/x", "", None),
        ({"method": "GET", "uri": "/x", "status_code": "0"}, None, "/x", "", None),
        ({"method": "CONNECT", "host": "a.example:443"}, "a.example", "a.example:443", "a.example", None),
    ],
)
def test_requests(seen: dict[str, Any], url: str | None, target: str, host: str, status: int | None) -> None:
    """Absolute or not, answered or not; the row's URL stands in where there is no `uri`."""
    event = request(parse(row("HttpConnectionInspected", seen, RemoteUrl=url)))

    assert (event.target, event.host, event.status) == (target, host, status)


def test_a_request_from_outside_is_not_the_devices() -> None:
    """In inbound rows `LocalPort` is the service's."""
    inbound = {**CONNECT, "direction": "In", "server_name": "a.example"}
    assert kind(parse(row("HttpConnectionInspected", inbound))) == "network_inbound"
    assert kind(parse(row("SslConnectionInspected", inbound))) == "network_inbound"
    assert kind(parse(row("HttpConnectionInspected", {"direction": "Out"}))) == "network_no_request"


def test_tls_names() -> None:
    """Whether it came through a tunnel, the row does not say."""
    event = parse(row("SslConnectionInspected", {"direction": "Out", "server_name": "WWW.Good1.example."}))
    assert isinstance(event, TlsName)
    assert (event.sni, event.tunnelled) == ("www.good1.example", False)

    silent = parse(row("SslConnectionInspected", {"direction": "Out"}))
    assert isinstance(silent, TlsName)
    assert silent.sni == ""


@pytest.mark.parametrize("written", [None, "", "{}", "null", {}])
def test_no_additional_fields(written: str | dict[str, Any] | None) -> None:
    """Null, nothing, nothing in an object, and that in a string."""
    event = verdict(parse(row("ExploitGuardNetworkProtectionBlocked", AdditionalFields=written, RemoteUrl="a.example")))

    assert (event.action, event.title, event.category) == (Action.BLOCKED, "", "")


@pytest.mark.parametrize(
    ("action", "audit", "did"),
    [
        ("ExploitGuardNetworkProtectionBlocked", False, Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", "false", Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", None, Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", True, Action.AUDITED),
        ("ExploitGuardNetworkProtectionBlocked", "True", Action.AUDITED),
        ("ExploitGuardNetworkProtectionBlocked", "1", Action.AUDITED),
        ("ExploitGuardNetworkProtectionAudited", False, Action.AUDITED),
        ("NetworkProtectionUserBypassEvent", True, Action.BYPASSED),
        ("SmartScreenUrlWarning", True, Action.WARNED),
        ("SmartScreenExploitWarning", None, Action.WARNED),
        ("SmartScreenUserOverride", None, Action.BYPASSED),
    ],
)
def test_what_protection_did(action: str, audit: Any, did: Action) -> None:
    """`IsAudit`, a truth value or a word, turns a block into what it would have been."""
    assert verdict(parse(judged(action, IsAudit=audit))).action is did


def test_a_verdict_has_process_and_words() -> None:
    """The initiating process, not the row's other one; category, group and title as hunters know them."""
    words = {
        "ResponseCategory": "CustomBlockList",
        "ResponseCategoryGroup": "CustomIndicator",
        "DisplayName": "Ticket 7",
    }
    event = verdict(parse(judged("ExploitGuardNetworkProtectionBlocked", **words)))

    assert (event.host, event.port, event.url) == ("bad1.example", 0, "https://Bad1.example./a?b=c")
    assert (event.category, event.category_group, event.title) == ("CustomBlockList", "CustomIndicator", "Ticket 7")
    assert (event.process.pid, event.process.name, event.process.account) == (7412, "chrome.exe", "a.meyer")
    assert event.event_id == "mde/ExploitGuardNetworkProtectionBlocked/48221/2025-03-04T09:15:21.9981234Z"
    assert verdict(parse(judged("SmartScreenUrlWarning", Experience="Phishing"))).category == "Phishing"


@pytest.mark.parametrize(
    ("url", "more", "ip", "host", "port"),
    [
        ("bad1.example", {}, None, "bad1.example", 0),
        ("http://bad1.example:8080/x", {}, "198.51.100.80", "bad1.example", 8080),
        (None, {"Uri": "https://bad2.example"}, "198.51.100.80", "bad2.example", 0),
        (None, {}, "2001:DB8::77", "2001:db8::77", 0),
        ("203.0.113.77", {}, None, "203.0.113.77", 0),
    ],
)
def test_what_was_asked_for(url: str | None, more: dict[str, Any], ip: str | None, host: str, port: int) -> None:
    """A URL, a host or an address; of the row's own port nothing is taken, as it may be the proxy's."""
    line = json.loads(judged("ExploitGuardNetworkProtectionBlocked", url, **more))
    line["properties"] |= {"RemoteIP": ip, "RemotePort": 3128}
    event = verdict(parse(json.dumps(line).encode()))

    assert (event.host, event.port) == (host, port)


def test_a_verdict_without_destination() -> None:
    """An application that SmartScreen let pass has none; a block without one makes no sense."""
    assert kind(parse(judged("SmartScreenUserOverride", None))) == "device_no_url"
    assert reject(parse(judged("ExploitGuardNetworkProtectionBlocked", None))).reason is Reason.INCOMPLETE
    assert reject(parse(judged("ExploitGuardNetworkProtectionBlocked", "https://"))).reason is Reason.BAD_VALUE


@pytest.mark.parametrize("action", KINDS)
def test_rows_that_hold_nothing_for_us(action: str) -> None:
    """Counted by what they are."""
    assert kind(parse(row(action))) == KINDS[action]


def test_what_nobody_knows_is_counted_by_its_table() -> None:
    """Action types are an open set, and other tables are not read at all."""
    assert kind(parse(row("SomethingNew"))) == "network_other"
    assert kind(parse(judged("PowerShellCommand"))) == "device_other"
    process = json.dumps(envelope(columns("ConnectionSuccess", RemoteUrl=None), "DeviceProcessEvents")).encode()
    assert kind(parse(process)) == "other_table"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("ConnectionSuccess", Timestamp=None), Reason.INCOMPLETE),
        (row("ConnectionSuccess", ActionType=None), Reason.INCOMPLETE),
        (row("ConnectionSuccess", Timestamp="yesterday"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemotePort=65_536), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemotePort="x"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemoteIP="nowhere"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", InitiatingProcessId=-1), Reason.BAD_VALUE),
        (row("ConnectionSuccess", ReportId=True), Reason.BAD_VALUE),
        (row("HttpConnectionInspected", {**CONNECT, "status_code": "ok"}), Reason.BAD_VALUE),
        (row("HttpConnectionInspected", '{"method":"CONN'), Reason.MALFORMED),
        (row("ConnectionSuccess")[:-2], Reason.MALFORMED),
        (b'{"records":[]}', Reason.INCOMPLETE),
        (b'{"timestamp":"2026-11-24T19:07:28.397055+0000","event_type":"dns","host":"a"}', Reason.INCOMPLETE),
        (b'{"properties":5}', Reason.BAD_VALUE),
        (b"plain text", Reason.MALFORMED),
    ],
)
def test_what_makes_no_sense_is_rejected(line: bytes, reason: Reason) -> None:
    """With its bytes."""
    found = reject(parse(line))

    assert (found.reason, found.raw) == (reason, line)


def test_a_remembered_process_lends_its_number_to_nothing_else() -> None:
    """The parent 1 of one row makes no number of the truth value in the next one."""
    parent = opened(parse(row("ConnectionSuccess", InitiatingProcessParentId=1))).process.parent_pid
    rejected = reject(parse(row("ConnectionSuccess", InitiatingProcessParentId=True)))

    assert parent == 1
    assert rejected.reason is Reason.BAD_VALUE


def test_long_texts_are_cut() -> None:
    """They stay in the state."""
    long = dict.fromkeys(
        (name for name, value in PROCESS.items() if isinstance(value, str) and "Time" not in name), "x" * 5_000
    )
    process = opened(parse(row("ConnectionSuccess", **long))).process

    assert (
        max(map(len, (process.name, process.path, process.command_line, process.sid, process.sha1))) == TEXT_CHARS_MAX
    )


def test_an_envelope_is_taken_apart() -> None:
    """Into the bytes of its rows, in their order; a row is one row, also where a command line speaks of records."""
    rows = [row("ConnectionSuccess", LocalPort=port) for port in (1, 2, 3)]
    talks = row("ConnectionSuccess", InitiatingProcessCommandLine='x {"records":[1,2]}')

    assert split(b'{"records":[' + b", ".join(rows) + b"]}") == rows
    assert split(b' { "records" : [ ' + rows[0] + b" ] }\r") == rows[:1]
    assert split(talks) == [talks]
    assert split(rows[0]) == [rows[0]]


def carriers(event: Any) -> dict[str, bytes]:
    """What a row, or the message of an Event Hub, is passed on in."""
    text, time = json.dumps(event), "2025-03-04T09:18:00.000Z"
    held = {
        "splunk's add-on": {"body": event, "x-opt-sequence-number": 7, "x-opt-enqueued-time": 1741079800000},
        "splunk's search": {"preview": False, "result": {"_raw": text, "host": "a"}},
        "elasticsearch": {"_index": "a", "_source": event},
        "filebeat": {"@timestamp": time, "message": text, "azure": {"eventhub": "a"}, "agent": {"type": "filebeat"}},
        "agent": {"@timestamp": time, "event": {"original": text, "dataset": "m365_defender.event"}},
    }
    return {name: json.dumps(line).encode() for name, line in held.items()}


@pytest.mark.parametrize("carrier", carriers({}))
def test_rows_in_somebodys_envelope(carrier: str) -> None:
    """One row, or several that are taken apart, whoever passed them on; nobody else claims them."""
    one = envelope(columns("ConnectionSuccess"))
    line = carriers(one)[carrier]
    assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["mde"]
    assert opened(parse(line)) == opened(parse(json.dumps(one).encode()))
    assert (device_of(line), written_at(line)) == (parse(line).device, opened(parse(line)).at)

    several = {"records": [envelope(columns("ConnectionSuccess", LocalPort=port)) for port in (1, 2)]}
    line = carriers(several)[carrier]
    assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["mde"]
    assert [opened(parse(row)).flow.local_port for row in split(line)] == [1, 2]


def test_answers_and_lists_are_taken_apart() -> None:
    """What advanced hunting's API answers, and a table exported as a list."""
    rows = [columns("ConnectionSuccess", LocalPort=port) for port in (1, 2)]
    answer = {"Schema": [{"Name": "Timestamp", "Type": "DateTime"}], "Results": rows}
    for line in (json.dumps(answer), json.dumps({"schema": [], "results": rows}), json.dumps(rows)):
        assert DIALECT.claims(line.encode())
        assert [opened(parse(row)).flow.local_port for row in split(line.encode())] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        b'{"records":[]}',
        b'{"records":5}',
        b'{"records":[1,2',
        b'{"records":[' + b",".join([b"0"] * (ROWS_MAX + 1)) + b"]}",
    ],
)
def test_what_is_no_envelope_stays_whole(line: bytes) -> None:
    """Nothing in it, damaged, or of too many rows: it goes to `rejects` as one line, with its bytes."""
    assert split(line) == [line]
    assert reject(parse(line)).raw == line


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda more: b'{"records":[{},' + more + b"]}"))
def test_splitting_never_raises(line: bytes) -> None:
    """Whatever comes, there is at least one row, and all of its bytes come from the line."""
    rows = split(line)

    assert rows
    assert all(one in line for one in rows)


def rows_after(lines: list[bytes], each: int) -> dict[str, dict[str, Any]]:
    """The last version of every row, by its id, without what tells how often and how fast it came about."""
    pipeline = Pipeline(CorrelationSettings(proxies=("198.51.100.80:3128",)))
    for number in range(0, len(lines), each):
        value = b'{"records":[' + b",".join(lines[number : number + each]) + b"]}"
        pipeline.take(Message(number + 1, 0, b"", value, DIALECT.name))
    pipeline.finish()
    latest: dict[str, dict[str, Any]] = {}
    for made in map(json.loads, pipeline.drain().network_events):
        if made["Version"] >= latest.get(made["RecordId"], made)["Version"]:
            latest[made["RecordId"]] = made
    return {name: {**made, "Version": 0, "ResolutionMs": 0} for name, made in latest.items()}


@pytest.mark.parametrize("seed", range(5))
def test_rows_out_of_order_and_twice_change_nothing(seed: int) -> None:
    """An export delivers late, in any order, some rows twice: the same connections with the same destinations."""
    lines = [
        row("ConnectionSuccess", DeviceName=device, LocalPort=port, ReportId=port)
        for device in ("one", "two")
        for port in (1_000, 1_001)
    ]
    lines += [
        row(
            "HttpConnectionInspected",
            {**CONNECT, "host": f"s{port}.example:443", "uri": f"s{port}.example:443"},
            DeviceName=device,
            LocalPort=port,
            ReportId=port + 1_000,
            Timestamp="2025-03-04T09:15:22.0120000Z",
            **NOBODY,
        )
        for device in ("one", "two")
        for port in (1_000, 1_001)
    ]
    chance = random.Random(seed)
    shuffled = chance.sample(lines, len(lines)) + chance.sample(lines, 3)

    expected = rows_after(lines, 100)
    assert {made["DestinationHost"] for made in expected.values()} == {"s1000.example", "s1001.example"}
    assert rows_after(shuffled, 3) == expected


def test_every_verdict_has_a_handler() -> None:
    """None of them is read for a row of the network."""
    for action in VERDICTS:
        assert verdict(parse(judged(action)))
