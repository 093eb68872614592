"""The life of one connection, from the lines of two sensors to what a hunter sees. Read beside docs/design.md."""

from __future__ import annotations

import json

from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.factories import Row

KERNEL = (
    b'{"device": "dev-b", "pid": 11923, "process": "curl", "local_ip": "198.51.100.12", "local_port": 51886,'
    b' "remote_ip": "198.51.100.80", "remote_port": 3128, "result": "open", "ts_attempt": "2026-11-24T19:07:28.746046Z",'
    b' "ts_established": "2026-11-24T19:07:28.746123Z", "ts_closed": null}'
)
EVE = (
    b'{"timestamp":"2026-11-24T19:07:%s+0000","flow_id":107974343334549,"event_type":"%s","src_ip":"198.51.100.12",'
    b'"src_port":51886,"dest_ip":"198.51.100.80","dest_port":3128,"proto":"TCP",%s,"host":"dev-b"}'
)
CONNECT = EVE % (
    b"28.746813",
    b"http",
    b'"tx_id":0,"http":{"hostname":"news.good3.example","http_port":443,"url":"news.good3.example:443",'
    b'"http_method":"CONNECT","protocol":"HTTP/1.1","status":200,"length":0}',
)
SNI = EVE % (b"28.753085", b"tls", b'"tls":{"sni":"news.good3.example","version":"TLS 1.3","from_proto":"http"}')
FLOW = EVE % (
    b"59.733034",
    b"flow",
    b'"app_proto":"tls","app_proto_orig":"http","flow":{"bytes_toserver":2739,"bytes_toclient":4731,'
    b'"start":"2026-11-24T19:07:28.746050+0000","end":"2026-11-24T19:07:28.790000+0000","state":"closed"},'
    b'"tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b"}',
)


class Walk:
    """Lines in, one message each, as the publisher would send them; rows out."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(CorrelationSettings())
        self.offset = 0

    def see(self, dialect: str, line: bytes) -> list[Row]:
        """What one more line makes."""
        self.offset += 1
        self.pipeline.take(Message(self.offset, self.offset, b"dev-b", line, dialect))
        return [json.loads(row) for row in self.pipeline.drain().network_events]


def test_the_life_of_a_connection() -> None:
    """A connection to the proxy opens, is asked for a tunnel, is named from inside, and ends."""
    walk = Walk()

    # The kernel says who connected. That the proxy is one, and what for, nobody knows yet: no row.
    assert walk.see("sockets", KERNEL) == []

    # CONNECT names the destination; the same instant both rows leave.
    hop, destination = walk.see("suricata", CONNECT)
    assert (hop["Layer"], hop["RemoteIP"], hop["RemotePort"]) == ("connection", "198.51.100.80", 3128)
    assert (destination["Layer"], destination["DestinationHost"]) == ("destination", "news.good3.example")
    assert destination["ConnectionId"] == hop["ConnectionId"] == hop["RecordId"]
    assert (destination["InitiatingProcessFileName"], destination["InitiatingProcessId"]) == ("curl", 11923)
    assert (destination["ResolvedBy"], destination["Confidence"]) == ("connect", "exact")
    assert destination["HttpEventIds"] == ["http/107974343334549/0/2026-11-24T19:07:28.746813"]

    # The name inside the tunnel is the same one: nothing new, no row.
    assert walk.see("suricata", SNI) == []

    # A minute later the flow record tells bytes and end: the connection's row again, the same identity, a higher version.
    (ended,) = walk.see("suricata", FLOW)
    assert ended["RecordId"] == hop["RecordId"]
    assert int(str(ended["Version"])) > int(str(hop["Version"]))
    assert (ended["BytesSent"], ended["BytesReceived"]) == (2739, 4731)

    # The same lines once more change nothing.
    assert [walk.see("suricata", line) for line in (CONNECT, SNI, FLOW)] == [[], [], []]
    assert walk.pipeline.book()["resolved:connect"] == walk.pipeline.book()["connections"] == 1
