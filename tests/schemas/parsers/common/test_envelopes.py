"""Lines of JSON inside of what carried them; all are constructed, the carriers' shapes from their own documentation."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from schemas.events import Ignored, Reject
from schemas.parsers import dialects
from schemas.parsers.common.envelopes import anywhere_within

LINES = {
    "suricata": '{"timestamp":"2025-03-04T09:15:22.003111+0000","flow_id":7,"event_type":"tls","src_ip":"198.51.100.11",'
    '"src_port":52817,"dest_ip":"198.51.100.80","dest_port":3128,"proto":"TCP","tls":{"sni":"a.example"}}',
    "zeek": '{"ts":1741079722.5,"uid":"CAa1","id.orig_h":"198.51.100.11","id.orig_p":52817,"id.resp_h":"198.51.100.80",'
    '"id.resp_p":3128,"trans_depth":1,"method":"CONNECT","host":"a.example","uri":"a.example:443","request_body_len":0}',
    "osquery": '{"name":"sockets","hostIdentifier":"dev-a","unixTime":1741079730,"action":"added","columns":{"action":"connect",'
    '"protocol":"6","local_address":"198.51.100.11","local_port":"52817","remote_address":"198.51.100.80",'
    '"remote_port":"3128","time":"1741079721","pid":"7"}}',
    "tetragon": '{"process_kprobe":{"process":{"pid":7},"function_name":"tcp_connect","args":[{"sock_arg":{"sport":52817,'
    '"saddr":"198.51.100.11","daddr":"198.51.100.80","dport":3128}}]},"node_name":"dev-a","time":"2025-03-04T09:15:21.998Z"}',
}
SHIPPER = {"@timestamp": "2025-03-04T09:15:23.000Z", "host": {"name": "tap-1"}, "agent": {"type": "filebeat"}}
EVENT = {"module": "suricata", "category": ["network"], "kind": "event"}
CARRIERS: dict[str, Callable[[str], str]] = {
    "syslog": lambda line: f"<13>Mar  4 09:15:23 tap-1 sensor[7]: {line}",
    "syslog of 2009": lambda line: f"<134>1 2025-03-04T09:15:23Z tap-1 sensor 7 - - {line}",
    "container": lambda line: f"2025-03-04T09:15:23.475522327Z stdout F {line}",
    "filebeat": lambda line: json.dumps(
        {**SHIPPER, "log": {"offset": 7}, "service": {"type": "zeek"}, "message": line}
    ),
    "syslog in filebeat": lambda line: json.dumps({**SHIPPER, "message": f"<13>Mar  4 09:15:23 tap-1 sensor: {line}"}),
    "filebeat's json": lambda line: json.dumps({**SHIPPER, "json": json.loads(line)}),
    "elastic agent": lambda line: json.dumps({**SHIPPER, "event": {**EVENT, "original": line}}),
    "flattened": lambda line: json.dumps({**SHIPPER, "event.category": ["network"], "event.original": line}),
    "docker": lambda line: json.dumps({"log": line + "\n", "stream": "stdout", "time": "2025-03-04T09:15:23.7Z"}),
    "splunk": lambda line: json.dumps({"preview": False, "result": {"_raw": line, "host": "tap-1", "source": "x"}}),
    "wazuh": lambda line: json.dumps({"agent": {"id": "003"}, "full_log": line, "location": "/var/log/x.json"}),
    "elasticsearch": lambda line: json.dumps({"_index": "x", "_source": {**SHIPPER, "message": line}}),
    "docker in filebeat in cribl": lambda line: json.dumps(
        {"_raw": json.dumps({**SHIPPER, "message": json.dumps({"log": line, "stream": "stdout"})}), "host": "tap-1"}
    ),
    "journald": lambda line: json.dumps({"_HOSTNAME": "tap-1", "MESSAGE": line}),
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
@pytest.mark.parametrize("name", LINES)
def test_a_line_is_the_same_in_every_carrier(name: str, carrier: Callable[[str], str]) -> None:
    """Its event, device and time are its own, not the carrier's; its dialect alone claims it."""
    line, shipped, dialect = LINES[name].encode(), carrier(LINES[name]).encode(), dialects()[name]

    assert dialect.parse(shipped) == dialect.parse(line)
    assert not isinstance(dialect.parse(line), Ignored | Reject)
    assert (dialect.device_of(shipped), dialect.written_at(shipped)) == (
        dialect.device_of(line),
        dialect.written_at(line),
    )
    assert [other.name for other in dialects().values() if other.claims(shipped)] == [name]
    assert not dialect.own_marks or any(mark in shipped for mark in dialect.own_marks)


@pytest.mark.parametrize(
    "line", [b"", b"no object", b"{", b"{}", b'{"message":7}', b'{"message":"no object"}', b'{"event":{"original":7}}']
)
def test_what_holds_no_line(line: bytes) -> None:
    """Nothing comes out but, at most, what is carried, which is none."""
    assert list(anywhere_within(line)) in ([], [b"no object"], [b'{"original":7}'])


def test_what_is_no_line_of_theirs_is_rejected_as_before() -> None:
    """A shipper's own words, and text with a brace in it."""
    for name in LINES:
        for line in (
            b'{"message":"{no json"}',
            b"<13>Mar  4 09:15:23 tap-1 sensor: {TCP} 1.2.3.4:5",
            b'{"event":{"a":1}}',
        ):
            parsed = dialects()[name].parse(line)

            assert isinstance(parsed, Reject)
            assert parsed.raw == line
