"""The traps of events in the Elastic Common Schema (tests/data/ecs); which of them are constructed, its README states."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import parse_micros
from schemas.events import ConnectionOpened, FlowSummary, HttpExchange, Ignored, Process, Reason, Reject, TlsName
from schemas.parsers import dialects
from schemas.parsers.elastic.ecs import DIALECT, claims, device_of, parse
from schemas.parsers.elastic.line import NO_TIME
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.schemas.parsers.elastic.ecs_events import (
    AT,
    BEGAN,
    CURL,
    ENDED,
    REPORTED,
    SQUID,
    endpoint,
    flow,
    line,
    reported,
    request,
)

DATA = Path(__file__).parents[3] / "data" / "ecs"


@pytest.mark.parametrize(
    ("name", "events", "ignored", "rejected"),
    [
        ("flow-http.constructed.jsonl", 2, 0, 0),
        ("traps.constructed.jsonl", 19, 10, 0),
        ("golden.http_basic_auth.flat.jsonl", 0, 0, 2),
    ],
)
def test_every_line_of_the_samples_is_read(name: str, events: int, ignored: int, rejected: int) -> None:
    """Only events whose time was taken out are rejected: without one nothing can be put in order."""
    lines = gzip.decompress((DATA / f"{name}.gz").read_bytes()).splitlines()
    parsed = [parse(raw) for raw in lines]
    rejects = [one for one in parsed if isinstance(one, Reject)]
    kinds = Counter("ignored" if isinstance(one, Ignored) else "event" for one in parsed if one not in rejects)

    assert (kinds["event"], kinds["ignored"], len(rejects)) == (events, ignored, rejected)
    assert {(one.reason, one.detail) for one in rejects} <= {(Reason.INCOMPLETE, NO_TIME)}
    assert all(claims(raw) for raw in lines)


def test_a_flow_states_what_went_over_it_once_it_is_over() -> None:
    """Reports before the last one hold a part of the same totals."""
    closed = reported(flow())

    assert closed == FlowSummary(
        "dev-a", 1_741_079_770_004_000, closed.flow, 1_741_079_721_998_000, 1_741_079_729_101_000, 3216, 56401,
        True, False, False, f"ecs/flow/52817/{REPORTED}", "ecs",
    )  # fmt: skip
    assert closed.flow.id == ""
    assert reported(flow(final=False)).kind == "flow_interim"


def test_a_flow_with_its_process_is_the_endpoints_own_record() -> None:
    """The process counts more than the bytes; the first report has it, the last one the end, both are one connection."""
    interim, final = (reported(flow(final=final, process=CURL)) for final in (False, True))

    assert isinstance(interim, ConnectionOpened)
    assert final.process == Process(7412, "curl", "/usr/bin/curl", "curl https://bad1.example/")
    assert (interim.started, interim.ended) == (final.started, 0)
    assert (final.started, final.established, final.ended) == (
        *(1_741_079_721_998_000, 1_741_079_721_998_000),
        1_741_079_729_101_000,
    )
    assert not final.failed


@pytest.mark.parametrize(("packets", "answered"), [(0, False), (1, False), (2, True)])
def test_one_packet_back_is_a_refusal(packets: int, answered: bool) -> None:
    """A connection that came about has at least two packets of the server's: it agrees, and it ends."""
    server = {"ip": "198.51.100.80", "port": 3128, "packets": packets, "bytes": 60 * packets}
    opened = reported(flow(destination=server, process=CURL))

    assert reported(flow(destination=server)).answered is answered
    assert (opened.failed, opened.established > 0) == (not answered, answered)


def test_a_flow_whose_beginning_was_not_seen_is_turned_round() -> None:
    """Packetbeat calls the source who sent the first packet that it saw: after a start that may be the proxy."""
    server = {"ip": "198.51.100.80", "port": 3128, "packets": 46, "bytes": 56401}
    client = {"ip": "198.51.100.11", "port": 52817, "packets": 18, "bytes": 3216}
    closed = reported(flow(source=server, destination=client))
    opened = reported(flow(source=server, destination={**client, "process": CURL}, process=CURL))
    high = reported(flow(source=client, destination={**server, "port": 49700}))

    assert (closed.device, closed.flow.local_port, closed.bytes_sent, closed.midstream) == ("dev-a", 52817, 3216, True)
    assert (opened.flow.local_port, opened.process.pid) == (52817, 7412)
    assert not high.midstream


def test_the_servers_process_is_nobodys() -> None:
    """Packetbeat on a proxy reports the proxy's own process of a client's connection, and prefers it."""
    proxy = {"name": "proxy-1", "ip": ["198.51.100.80"]}
    server = {"ip": "198.51.100.80", "port": 3128, "packets": 9, "process": SQUID}
    both = reported(flow(source={"ip": "127.0.0.1", "port": 1025, "process": CURL}, destination=server, process=SQUID))

    assert isinstance(reported(flow(process=SQUID, host=proxy)), FlowSummary)
    assert isinstance(reported(flow(process=SQUID, destination=server)), FlowSummary)
    assert both.process.name == "curl"


@pytest.mark.parametrize(
    ("parts", "device"),
    [
        ({}, "dev-a"),
        ({"host": {"name": "Dev-A.Corp.Example."}}, "dev-a.corp.example"),
        ({"host": {"hostname": "dev-a"}}, "dev-a"),
        ({"host": "dev-a"}, "dev-a"),
        ({"host": {"name": "tap-1", "ip": ["198.51.100.200"]}}, "198.51.100.11"),
        ({"host": {"name": "dev-a", "ip": "198.51.100.11"}}, "dev-a"),
        ({"host": {"name": "dev-a", "ip": ""}}, "dev-a"),
        ({"host": {"name": "dev-a", "ip": ["198.51.100.200"]}, "network": {"direction": "egress"}}, "dev-a"),
        ({"host": {"name": "dev-a"}, "network": {"direction": "ingress"}}, "198.51.100.11"),
        ({"host": {"name": "dev-a"}, "network": {"direction": "unknown"}}, "198.51.100.11"),
        ({"source": {"ip": "127.0.0.1", "port": 52817}}, "dev-a"),
        ({"source": {"ip": "2001:DB8:0::1", "port": 1}, "host": {"name": "dev-a", "ip": ["2001:db8::1"]}}, "dev-a"),
        ({"source": {"ip": "::ffff:198.51.100.12", "port": 1}}, "198.51.100.12"),
        ({"tags": ["forwarded"]}, "198.51.100.11"),
        ({"host": None}, "198.51.100.11"),
        ({"host": {"name": "shipper"}, "agent": {"type": "filebeat"}}, "198.51.100.11"),
        ({"host": {"name": "firewall"}, "observer": {"type": "firewall"}}, "198.51.100.11"),
        ({"observer": {"type": "firewall"}, "network": {"direction": "egress"}}, "198.51.100.11"),
    ],
)
def test_the_device_is_the_client(parts: dict[str, Any], device: str) -> None:
    """By its name where the agent runs on it; by its address where the agent watches it: on a tap, a proxy, a server."""
    assert (
        reported(line(**{"tls": {}, "event": {"category": "network_traffic", "dataset": "tls"}, **parts})).device
        == device
    )


def test_no_event_states_of_itself_whose_it_is() -> None:
    """Whose it is was found out once and is remembered under a name that an event may have as well."""
    assert (
        reported(line(**{"tls": {}, "event": {"category": "network_traffic", "dataset": "tls"}, "--": "dev-b"})).device
        == "dev-a"
    )


def test_a_connect_goes_where_its_host_header_states() -> None:
    """Packetbeat drops the target: `query` is `CONNECT `, and `url` is made of the Host header."""
    by_url = request("CONNECT", {"full": "http://bad1.example:443", "domain": "bad1.example", "port": 443})
    by_header = request("CONNECT", {"domain": "bad1.example", "port": 3128}, {"host": "bad1.example:8443"})
    by_address = request("CONNECT", {"domain": "2001:db8::7", "port": 443})

    assert (by_url.method, by_url.target, by_url.host) == ("CONNECT", "bad1.example:443", "bad1.example")
    assert by_header.target == "bad1.example:8443"
    assert by_address.target == "[2001:db8::7]:443"


@pytest.mark.parametrize(
    ("url", "port"), [({"domain": "bad1.example", "port": 3128}, 3128), ({"domain": "bad1.example"}, 80), ({}, 3128)]
)
def test_a_connect_with_the_proxys_own_port_goes_unknown_knows_where(url: dict[str, Any], port: int) -> None:
    """Where the Host header has no port, Packetbeat takes that of the connection, which is the proxy's."""
    asked = request("CONNECT", url, destination={"ip": "198.51.100.80", "port": port})

    assert isinstance(asked, HttpExchange)
    assert asked.target == ""


def test_a_url_put_together_is_no_target() -> None:
    """`url.full` has the proxy's port: a request in absolute form looks like one in origin form, and is reported as that."""
    asked = request(
        "get",
        {"full": "http://ok.example:3128/a?b=1", "domain": "ok.example", "port": 3128, "path": "/a", "query": "b=1"},
    )

    assert (asked.method, asked.target, asked.host) == ("GET", "/a?b=1", "ok.example")


@pytest.mark.parametrize(
    ("message", "method", "target"),
    [
        ("GET http://ok.example/a HTTP/1.1\r\nHost: ok.example\r\n\r\n", "GET", "http://ok.example/a"),
        (
            "CONNECT bad1.example:443 HTTP/1.1\r\nUser-Agent: x\r\nhost:\tbad1.example:443\r\n\r\n",
            "CONNECT",
            "bad1.example:443",
        ),
    ],
)
def test_the_message_itself_is_best(message: str, method: str, target: str) -> None:
    """With `send_request` Packetbeat keeps the request as written; Elastic Defend has it as the body."""
    url = {"domain": "ok.example", "port": 3128, "path": "/a"}
    kept = request("GET", url, request=message)
    of_defend = endpoint("http_request", ["protocol"], http={"request": {"body": {"content": message}}})

    for asked in (kept, of_defend):
        assert (asked.method, asked.target) == (method, target)
        assert asked.host == target.removeprefix("http://").removesuffix("/a").removesuffix(":443")


def test_requests_of_one_millisecond_are_two() -> None:
    """Packetbeat's times have milliseconds."""
    one, other = (request("GET", {"domain": "ok.example", "path": path}) for path in ("/a", "/b"))

    assert one.tx != other.tx
    assert one.event_id != other.event_id


def test_an_answer_without_request_is_none() -> None:
    """Packetbeat writes of answers whose request it did not see."""
    assert request(None, {}).kind == "http_no_request"


def test_who_signs_in_at_a_server_is_not_who_runs_the_process() -> None:
    """Packetbeat's `user.name` is the one of HTTP's basic authentication."""
    opened = reported(flow(process=CURL, user={"name": "simplesimon"}))

    assert opened.process.account == ""


def test_tls_names() -> None:
    """The server name, normalised; "" where the hello had none."""
    event = {"category": ["network"], "dataset": "network_traffic.tls"}
    named = reported(line(event=event, tls={"client": {"server_name": "Direct.Example."}}))
    unnamed = reported(line(event=event, tls={"established": False}))

    assert isinstance(named, TlsName)
    assert (named.sni, named.tunnelled, unnamed.sni) == ("direct.example", False, "")


def test_events_in_somebodys_envelope() -> None:
    """Exported from Elasticsearch, or passed on as a text: the very same event, and no one else claims it."""
    event = flow(process=CURL)
    for carrier in ({"_index": "a", "_source": event}, {"_raw": json.dumps(event)}, {"message": json.dumps(event)}):
        raw = json.dumps(carrier).encode()
        assert reported(carrier) == reported(event)
        assert device_of(raw) == "dev-a"
        assert [dialect.name for dialect in dialects().values() if dialect.claims(raw)] == ["ecs"]


def test_defend_reports_of_a_connection_twice() -> None:
    """It was tried, by whom; it ended, with its bytes. Only the first has a beginning: the second makes no connection."""
    tried = endpoint("connection_attempted", ["start"])
    ended = endpoint(
        "disconnect_received", ["end"], destination={"ip": "198.51.100.80", "port": 3128, "bytes": 39}, source={
            "ip": "198.51.100.11", "port": 52817, "bytes": 118}
    )  # fmt: skip

    assert isinstance(tried, ConnectionOpened)
    assert (tried.device, tried.started, tried.established, tried.failed) == ("dev-a", AT, 0, False)
    assert tried.process == Process(
        7412, "chrome.exe", "C:\\chrome.exe", account="a.meyer", domain="CORP", sid="S-1-5-21-1"
    )
    assert isinstance(ended, FlowSummary)
    assert (ended.started, ended.ended, ended.bytes_sent, ended.bytes_received) == (0, AT, 118, 39)


@pytest.mark.parametrize(
    ("action", "parts", "kind"),
    [
        ("connection_accepted", {}, "network_inbound"),
        ("disconnect_received", {"network": {"transport": "tcp", "direction": "incoming"}}, "network_inbound"),
        ("lookup_result", {"source": None, "destination": None}, "dns"),
        ("connection_attempted", {"network": {"transport": "udp", "direction": "egress"}}, "network_not_tcp"),
        ("connection_attempted", {"process": None}, "network_no_process"),
        # macOS reports no direction; the host's addresses do.
        (
            "disconnect_received",
            {"network": {"transport": "tcp"}, "source": {"ip": "203.0.113.7", "port": 1}},
            "network_no_direction",
        ),
    ],
)
def test_what_of_an_endpoint_holds_nothing(action: str, parts: dict[str, Any], kind: str) -> None:
    """Each has a kind of its own."""
    assert endpoint(action, [], **parts).kind == kind


def test_auditbeat() -> None:
    """A flow with process and user; auditd's connect has no local port, so it is no connection that could be joined."""
    auditbeat = {"type": "auditbeat"}
    event = {"module": "system", "dataset": "socket", "action": "network_flow", "start": BEGAN, "end": ENDED}
    opened = reported(flow(event=event, agent=auditbeat, process=CURL, user={"id": "1000", "name": "user"}))
    inbound = reported(
        flow(event=event, agent=auditbeat, process=CURL, network={"transport": "tcp", "direction": "inbound"})
    )
    connected = line(
        event={"category": ["network"], "module": "auditd", "action": "connected-to"},
        agent=auditbeat,
        process=CURL,
        source=None,
        network={"direction": "egress"},
    )

    assert (opened.process.account, opened.process.sid) == ("user", "")
    assert opened.ended
    assert inbound.kind == "network_inbound"
    assert reported(connected).kind == "connect_without_port"


def test_windows_events_are_winlogs() -> None:
    """Winlogbeat and Elastic Agent write them in this schema, too."""
    raw = json.dumps(line(winlog={"event_id": "3"}, agent={"type": "winlogbeat"})).encode()
    parsed = parse(raw)

    assert not claims(raw)
    assert isinstance(parsed, Ignored)
    assert parsed.kind == "winlog"


def test_a_look_at_open_sockets_is_no_connection() -> None:
    """Metricbeat looks every few seconds; its dataset is called nearly like Auditbeat's."""
    event = {"dataset": "system.socket", "module": "system"}

    raw = json.dumps(line(event=event, agent={"type": "metricbeat"}, process=CURL)).encode()
    parsed = parse(raw)

    assert isinstance(parsed, Ignored)
    assert parsed.kind == "other"
    assert not claims(raw)


def test_others_lines_are_not_claimed() -> None:
    """Filebeat ships other tools' lines with a time, a host and an agent; the lines are theirs."""
    shipped = {
        "@timestamp": REPORTED,
        "message": "x",
        "event": {"dataset": "squid.access"},
        "agent": {"type": "filebeat"},
    }

    assert not claims(json.dumps(shipped).encode())
    assert not claims(b'{"timestamp":"2025-03-04T09:15:22.003111+0000","event_type":"flow","flow":{}}')
    assert not claims(b'{"event": 1}')


def test_the_request_and_the_flow_are_one_connection() -> None:
    """Packetbeat on the device: which process went through the proxy, and where to."""
    lines = gzip.decompress((DATA / "flow-http.constructed.jsonl.gz").read_bytes()).splitlines()
    for order in (lines, lines[::-1]):
        pipeline = Pipeline(CorrelationSettings())
        for number, raw in enumerate(order):
            pipeline.take(Message(number + 1, 0, b"", raw, DIALECT.name))
        pipeline.finish()
        latest = {row["RecordId"]: row for row in map(json.loads, pipeline.drain().network_events)}

        assert {(row["Layer"], row["RemoteUrl"], row["InitiatingProcessId"]) for row in latest.values()} == {
            ("connection", "bad1.example:443", 7412),
            ("destination", "bad1.example:443", 7412),
        }


def test_an_event_that_holds_zeeks_or_suricatas_line_is_theirs() -> None:
    """Elastic Agent and Security Onion keep it: it reports more. The original of another tool changes nothing."""
    theirs = (
        '{"ts":1741079722.5,"uid":"CAa1","id.orig_h":"198.51.100.11"}',
        '{"timestamp":"x","flow_id":7,"event_type":"tls"}',
    )
    event = {"category": ["network"], "dataset": "conn"}
    for original in theirs:
        assert not claims(json.dumps(line(event={**event, "original": original})).encode())
        assert not claims(json.dumps(line(message=original), separators=(",", ":")).encode())
    assert claims(json.dumps(line(event={**event, "original": '{"src":"198.51.100.11"}'})).encode())


@pytest.mark.parametrize(("times", "at"), [((BEGAN, ENDED), BEGAN), ((None, ENDED), ENDED)])
def test_an_export_without_timestamp_has_the_events_own_time(times: tuple[str | None, str], at: str) -> None:
    """The field is the index's; the beginning is in `event.start`, else there is the end. Dotted names alike."""
    start, end = times
    event = {"category": ["network"], "dataset": "tls", "type": ["connection"], "start": start, "end": end}
    whole = line(event=event, tls={"client": {"server_name": "a.example"}})
    del whole["@timestamp"]
    flat = {f"event.{name}": value for name, value in event.items()} | {"tls.client.server_name": "a.example"}
    flat |= {f"{part}.{name}": value for part in ("source", "destination") for name, value in whole[part].items()}
    flat |= {"network.transport": "tcp", "host.name": "dev-a", "host.ip": ["198.51.100.11"]}
    found = reported(whole)

    assert isinstance(found, TlsName)
    assert (found.at, found.sni) == (parse_micros(at), "a.example")
    assert reported({name: value for name, value in flat.items() if value is not None}) == found
