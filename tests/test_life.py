"""The life of one connection in six steps, from the lines of two sensors to the rows (docs/design/connections.md)."""

from __future__ import annotations

import json

from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Output, Pipeline
from tests.factories import Row

KERNEL = (
    b'{"device": "dev-b", "pid": 11923, "process": "curl", "local_ip": "198.51.100.12", "local_port": %d,'
    b' "remote_ip": "198.51.100.80", "remote_port": 3128, "result": "open", "ts_attempt": "2026-11-24T19:%s.746046Z",'
    b' "ts_established": "2026-11-24T19:%s.746123Z", "ts_closed": null}'
)
OPENED = KERNEL % (51886, b"07:28", b"07:28")
NEXT = KERNEL % (51887, b"11:00", b"11:00")
"""Another connection, 3.5 minutes later by the device's clock."""
EVE = (
    b'{"timestamp":"2026-11-24T19:07:%s+0000","flow_id":107974343334549,"event_type":"%s","src_ip":"198.51.100.12",'
    b'"src_port":51886,"dest_ip":"198.51.100.80","dest_port":3128,"proto":"TCP",%s,"host":"dev-b"}'
)
CONNECT = EVE % (
    b"28.746813",
    b"http",
    b'"tx_id":0,"http":{"hostname":"news.bad4.example","http_port":443,"url":"news.bad4.example:443",'
    b'"http_method":"CONNECT","protocol":"HTTP/1.1","status":200,"length":0}',
)
SNI = EVE % (b"28.753085", b"tls", b'"tls":{"sni":"news.bad4.example","version":"TLS 1.3","from_proto":"http"}')
VERDICT = EVE % (
    b"28.753131",
    b"alert",
    b'"tx_id":1,"alert":{"action":"blocked","signature":"listed domain bad4.example","category":"Policy","severity":1},'
    b'"tls":{"sni":"news.bad4.example"},"app_proto":"tls","app_proto_orig":"http","direction":"to_server"',
)
FLOW = EVE % (
    b"59.733034",
    b"flow",
    b'"app_proto":"tls","app_proto_orig":"http","flow":{"bytes_toserver":2739,"bytes_toclient":4731,'
    b'"start":"2026-11-24T19:07:28.746050+0000","end":"2026-11-24T19:07:28.790000+0000","state":"closed"},'
    b'"tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b"}',
)


class Life:
    """A pipeline that takes one line per message, as the publisher sends them."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(CorrelationSettings())
        self.offset = 0

    def take(self, dialect: str, line: bytes) -> Output:
        """Return the output of one more message."""
        self.offset += 1
        self.pipeline.take(Message(self.offset, self.offset, b"dev-b", line, dialect))
        return self.pipeline.drain()

    def rows(self, dialect: str, line: bytes) -> list[Row]:
        """Return the rows of connections and destinations that one more message makes."""
        return [json.loads(row) for row in self.take(dialect, line).network_events]


def test_the_life_of_a_connection() -> None:
    """A connection is opened, asked for a tunnel, named inside, blocked, ended, and leaves the state."""
    life = Life()

    # 1. Opened. The endpoint record names the process. That the remote end is a proxy is not known yet: no row.
    assert life.rows("sockets", OPENED) == []

    # 2. Asked. CONNECT names the destination: the rows of the connection and of the destination are emitted at once.
    hop, destination = life.rows("suricata", CONNECT)
    assert (hop["Layer"], hop["RemoteIP"], hop["RemotePort"]) == ("connection", "198.51.100.80", 3128)
    assert (destination["Layer"], destination["DestinationHost"]) == ("destination", "news.bad4.example")
    assert destination["ConnectionId"] == hop["ConnectionId"] == hop["RecordId"]
    assert (destination["InitiatingProcessFileName"], destination["InitiatingProcessId"]) == ("curl", 11923)
    assert (destination["ResolvedBy"], destination["Confidence"]) == ("connect", "exact")
    assert destination["HttpEventIds"] == ["http/107974343334549/0/2026-11-24T19:07:28.746813"]
    assert (hop["Outcome"], destination["Outcome"]) == ("allowed", "allowed")

    # 3. Named inside. The TLS name in the tunnel is the same: no new row.
    assert life.rows("suricata", SNI) == []

    # 4. Verdict. It is a row of DeviceEvents and an alert, and it sets the outcome of both rows: same identity, higher version.
    output = life.take("suricata", VERDICT)
    (event,), ((_, alert),) = map(json.loads, output.device_events), output.alerts
    assert (event["ConnectionId"], event["Outcome"]) == (hop["ConnectionId"], "blocked")
    assert (json.loads(alert)["Kind"], json.loads(alert)["DestinationDomain"]) == ("blocked", "bad4.example")
    blocked = [json.loads(row) for row in output.network_events]
    assert [row["Outcome"] for row in blocked] == ["blocked", "blocked"]
    assert [row["RecordId"] for row in blocked] == [hop["RecordId"], destination["RecordId"]]
    assert int(str(blocked[0]["Version"])) > int(str(hop["Version"]))

    # 5. Ended. The flow record adds end and bytes to the connection's row. The same lines once more change nothing.
    (ended,) = life.rows("suricata", FLOW)
    assert (ended["RecordId"], ended["BytesSent"], ended["BytesReceived"]) == (hop["RecordId"], 2739, 4731)
    assert int(str(ended["Version"])) > int(str(blocked[0]["Version"]))
    assert [life.rows("suricata", line) for line in (CONNECT, SNI, VERDICT, FLOW)] == [[], [], [], []]
    assert life.pipeline.book()["resolved:connect"] == life.pipeline.book()["connections"] == 1

    # 6. Departed. When the device's clock has passed `correlation.linger_secs`, a tombstone replaces the connection in the
    # state. A late record makes no second row.
    assert life.rows("sockets", NEXT) == []
    assert (life.pipeline.book()["left:ended"], life.pipeline.book()["departed"]) == (1, 1)
    assert life.rows("suricata", FLOW) == []
    assert life.pipeline.book()["late"] == 1
