"""How Suricata's versions and other sites' sensors differ (tests/data/suricata_other, its README states what is constructed)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Action, FlowSummary, HttpExchange, Ignored, Reason, Reject, TlsName, Verdict
from schemas.parsers.network.suricata import claims, device_of, parse, written_at
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

DATA = Path(__file__).parents[3] / "data" / "suricata_other"
CLIENT, PROXY = "198.51.100.11", "198.51.100.80"
TO_SERVER = {"src_ip": CLIENT, "src_port": 52817, "dest_ip": PROXY, "dest_port": 3128}
TO_CLIENT = {"src_ip": PROXY, "src_port": 3128, "dest_ip": CLIENT, "dest_port": 52817}
ALERT = {"action": "blocked", "signature": "listed domain", "category": "policy"}
CONNECT = {"hostname": "bad1.example", "url": "bad1.example:443", "http_method": "CONNECT"}


def lines(name: str) -> list[bytes]:
    """The lines of a file."""
    return gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes()).splitlines()


def reported(kind: str, **parts: object) -> Any:
    """What becomes of a record; its device is reported before it is parsed, too."""
    record = {"timestamp": "2025-03-04T09:15:22.003111+0000", "event_type": kind, "proto": "TCP", **TO_SERVER, **parts}
    raw = json.dumps(record).encode()
    parsed = parse(raw)
    assert isinstance(parsed, Reject) or device_of(raw) == parsed.device
    return parsed


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "eve.crowdsec-evelog",
            *("alert_without_request alert_without_request FlowSummary stats Verdict FlowSummary stats Verdict",),
        ),
        ("eve.datadog", "Verdict HttpExchange"),
        ("eve.telegraf", "drop FlowSummary"),
        ("eve6-blocked.constructed", "Verdict drop"),
        ("eve8.constructed", "HttpExchange TlsName Verdict Verdict FlowSummary drop dns_or_arp dns_or_arp"),
    ],
)
def test_every_line_of_the_samples_is_read(name: str, kinds: str) -> None:
    """None is rejected."""
    parsed = [parse(raw) for raw in lines(name)]
    found = [one.kind if isinstance(one, Ignored) else type(one).__name__ for one in parsed]

    assert " ".join("dns_or_arp" if kind in ("dns", "arp") else kind for kind in found) == kinds


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2024-04-25T03:06:32.258446+0530", 1_713_994_592_258_446),
        ("2023-04-07T00:21:01.318245+0800", 1_680_798_061_318_245),
        ("2017-04-07T22:24:37.251547-0100", 1_491_607_477_251_547),
        ("2022-07-12T05:52:18.378379-0000", 1_657_605_138_378_379),
        ("2009-11-24T21:27:09.534255", 1_259_098_029_534_255),
    ],
)
def test_times_have_the_sensors_zone(written: str, utc: int) -> None:
    """They are converted, not cut; one without zone is UTC."""
    raw = b'{"timestamp":"%s","event_type":"dns","src_ip":"198.51.100.11"}' % written.encode()
    parsed = parse(raw)

    assert isinstance(parsed, Ignored)
    assert parsed.at == written_at(raw) == utc


def test_a_block_of_version_6_has_no_verdict_object() -> None:
    """Its alert states `blocked`, its flow has no addresses; the drop beside it states the same and is not counted again."""
    alert, drop = map(parse, lines("eve6-blocked.constructed"))

    assert isinstance(alert, Verdict)
    assert (alert.action, alert.device, alert.host, alert.target) == (
        *(Action.BLOCKED, CLIENT),
        *("bad1.example", "bad1.example:443"),
    )
    assert (alert.flow.local_ip, alert.flow.local_port, alert.started) == (CLIENT, 52817, 1_741_079_721_998_001)
    assert isinstance(drop, Ignored)
    assert drop.kind == "drop"


def test_version_8() -> None:
    """New members beside the old ones: `ip_v`, progress, ALPN, exception policies, a verdict object."""
    http, tls, blocked, answer, flow = map(parse, lines("eve8.constructed")[:5])

    assert isinstance(http, HttpExchange)
    assert (http.method, http.target, http.status) == ("CONNECT", "bad1.example:443", 200)
    assert isinstance(tls, TlsName)
    assert (tls.sni, tls.tunnelled) == ("bad1.example", True)
    assert isinstance(blocked, Verdict)
    assert isinstance(answer, Verdict)
    assert (blocked.action, answer.action) == (Action.BLOCKED, Action.AUDITED)
    assert blocked.flow == answer.flow
    assert isinstance(flow, FlowSummary)
    assert (flow.answered, flow.midstream, flow.bytes_sent, flow.ended > flow.started) == (True, False, 466, True)
    assert {event.device for event in (http, tls, blocked, answer, flow)} == {CLIENT}


def test_dns_of_both_layouts_holds_nothing() -> None:
    """Version 8 writes `queries`, older ones `rrname`; neither is looked at."""
    assert reported("dns", dns={"version": 3, "queries": [{"rrname": "x"}]}).kind == "dns"
    assert reported("dns", dns={"type": "query", "rrname": "x"}).kind == "dns"


def test_an_alert_without_its_request_is_no_verdict() -> None:
    """By configuration an alert has no `http`, though it is one of HTTP."""
    assert reported("alert", alert=ALERT, app_proto="http").kind == "alert_without_request"


def test_flows_with_parts_cut_out() -> None:
    """A flow without times and bytes is one nevertheless; what did not see the beginning states so."""
    (flow,) = (parse(raw) for raw in lines("eve.telegraf")[1:])

    assert isinstance(flow, FlowSummary)
    assert (flow.started, flow.ended, flow.bytes_sent, flow.answered, flow.midstream) == (0, 0, 0, False, True)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"direction": "to_server"},
        {**TO_CLIENT, "direction": "to_client"},
        {**TO_CLIENT, "direction": "to_client", "flow": {"start": "", **TO_SERVER}},
        {**TO_CLIENT, "flow": TO_SERVER},
        {**TO_CLIENT, "src_port": 80},
    ],
)
def test_the_device_of_a_sensor_without_name_is_the_client(parts: dict[str, Any]) -> None:
    """Also where the packet that set an alert off was the answer; in version 6 only a server's port reports that."""
    alert = reported("alert", alert=ALERT, http=CONNECT, **parts)

    assert (alert.device, alert.flow.local_ip, alert.flow.local_port) == (CLIENT, CLIENT, 52817)
    assert reported("drop", **parts).device == CLIENT
    assert reported("alert", alert=ALERT, http=CONNECT, host="sensor-1", **parts).device == "sensor-1"


def test_the_client_of_a_flow_is_its_first_end() -> None:
    """A client may use a low port itself: the ports state nothing where the addresses are the flow's own."""
    assert reported("http", http=CONNECT, src_port=1023).device == CLIENT
    assert reported("http", http=CONNECT, src_ip="2001:0db8:0051:0000:0000:0000:0000:0011").device == "2001:db8:51::11"


def test_what_has_neither_name_nor_address_has_no_device() -> None:
    """Statistics are the sensor's own: without a name they are no one's."""
    raw = lines("eve.crowdsec-evelog")[3]
    parsed = parse(raw)

    assert isinstance(parsed, Ignored)
    assert (parsed.kind, parsed.device, device_of(raw)) == ("stats", "", "")


def test_a_strange_address_of_a_sensor_without_name_is_a_bad_value() -> None:
    """There is no one else whose line it is."""
    assert reported("drop", src_ip="x").reason is Reason.BAD_VALUE
    assert reported("drop", src_ip="1" * 300).reason is Reason.BAD_VALUE
    assert reported("drop", src_ip="x", host="sensor-1").device == "sensor-1"


def test_a_shippers_host_is_no_sensors_name() -> None:
    """Filebeat's `host` is an object; what Logstash passes on, with its `@version`, may have Logstash's own name there."""
    assert reported("http", http=CONNECT, host={"name": "tap-1"}).device == CLIENT
    assert reported("http", http=CONNECT, **{"host": "SELKS", "@version": "1"}).device == CLIENT
    assert reported("drop", **{"host": "SELKS", "@version": "1"}).device == CLIENT
    assert reported("http", http=CONNECT, host="SELKS").device == "SELKS"


def test_a_record_that_others_wrote_again() -> None:
    """What is not known may be null, and numbers texts, a large one with decimals; the values stay what they are."""
    plain = {"flow_id": 1267808264914164, "tx_id": 1, "http": {**CONNECT, "status": 200}}
    texts = {"flow_id": "1267808264914164.000000", "tx_id": "1", "http": {**CONNECT, "status": "200"}}
    ports = {"src_port": "52817", "dest_port": "3128"}
    nulls = {"host": None, "app_proto": None, "tls": None, "alert": None, "direction": None}

    assert reported("http", **plain) == reported("http", **texts, **ports) == reported("http", **plain, **nulls)
    assert reported("http", **{**plain, "http": {**CONNECT, "status": None}}).status is None
    assert reported("http", **{**plain, "http": {**CONNECT, "status": "soon"}}).reason is Reason.BAD_VALUE
    assert reported("http", **{**plain, "tx_id": "1.5"}).reason is Reason.BAD_VALUE
    assert reported("http", **{**texts, "http": {**CONNECT, "url": "/v1.000000"}}).target == "/v1.000000"


def test_records_in_someone_elses_envelope() -> None:
    """AWS Network Firewall's `event`, Wazuh's `data`, both beside times of their own."""
    record = {
        "timestamp": "2025-03-04T09:15:22.003111+0000",
        "flow_id": 7,
        "event_type": "http",
        "proto": "TCP",
        **TO_SERVER,
    }
    record["http"] = CONNECT
    plain = parse(json.dumps(record).encode())
    texts = {**record, "flow_id": "7.000000", "src_port": "52817", "dest_port": "3128"}
    wazuh = {"timestamp": "2025-03-04T09:15:24.971+0000", "rule": {"id": "86601"}, "data": texts}
    firewall = {"firewall_name": "fw", "event_timestamp": "1741079722", "event": record}

    assert isinstance(plain, HttpExchange)
    for shipped in (json.dumps(wazuh).encode(), json.dumps(firewall).encode()):
        assert parse(shipped) == plain
        assert device_of(shipped) == CLIENT
        assert claims(shipped)
    stats = {"data": {"timestamp": record["timestamp"], "event_type": "stats", "host": "s", "http": [1]}}
    assert parse(json.dumps(stats).encode()) == Ignored("s", plain.at, "stats")


def test_a_time_with_a_space_before_it() -> None:
    """As Python and FreeBSD's syslog-ng write JSON."""
    raw = b'{"event_type": "dns", "timestamp": "2025-03-04T09:15:22.003111+0000", "src_ip": "198.51.100.11"}'

    assert written_at(raw) == getattr(parse(raw), "at", 0) == 1_741_079_722_003_111


def test_a_flow_logged_before_it_began_was_logged_when_it_ended() -> None:
    """What is left at the end of a capture file is logged in 1970, or when the last packet was."""
    part = {"start": "2015-10-20T11:24:10.230829-0600", "end": "2015-10-20T11:24:46.195059-0600", "state": "closed"}
    old = reported("flow", flow=part, timestamp="1969-12-31T17:00:00.000000-0700")
    cut_off = reported(
        "flow", flow={**part, "state": "established", "reason": "shutdown"}, timestamp="1970-01-01T00:00:00.000000+0000"
    )

    assert (old.at, old.ended) == (1_445_361_886_195_059, 1_445_361_886_195_059)
    assert (cut_off.at, cut_off.ended) == (1_445_361_886_195_059, 0)
    assert reported("flow", flow=part).at == 1_741_079_722_003_111


def test_a_block_of_version_6_is_a_row() -> None:
    """Read as a file, without anybody naming the device."""
    pipeline = Pipeline(CorrelationSettings())
    for number, raw in enumerate(lines("eve6-blocked.constructed")):
        pipeline.take(Message(number + 1, 0, b"", raw, "suricata"))
    pipeline.finish()
    output = pipeline.drain()
    destinations = [row for row in map(json.loads, output.network_events) if row["Layer"] == "destination"]

    assert not output.rejects
    assert {(row["DeviceName"], row["RemoteUrl"]) for row in destinations} == {(CLIENT, "bad1.example:443")}
