"""CEF and RFC 5424 as they are written, byte for byte, and what becomes of the connection they go on."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import ForwardSettings
from sinks.forward.cef import cef
from sinks.forward.syslog import AGAIN_MAX, Syslog, _unacknowledged_bytes, syslog_message
from sinks.forward.target import Answer
from tests.sinks.forward.forward_world import long_alert, seen
from tests.sinks.forward.receivers import AUTHORITY, SyslogServer, server_context
from tests.sinks.sink_world import until
from unproxy.local.servers.service import free_port

WHOLE = (
    "CEF:0|unproxy|unproxy|0.1.0|blocked|C2 \\| beacon \\\\ März|8|externalId=0f3a act=blocked cnt=3 start=1795000000000"
    " end=1795000000000 dvchost=Büro-7 deviceExternalId=dev-0f3a suser=müller sproc=a b.exe spid=77 dhost=198.51.100.7"
    " dst=198.51.100.7 dpt=8443 destinationDnsDomain=böse.test cat=C2\\=yes"
    " msg=a b.exe on Büro-7: blocked, böse.test, 3 times filePath=C:\\\\Temp\\\\a b.exe"
    f" fileHash={'ab' * 32} reason=Look cn1=12 cn1Label=AlertVersion cs1=10.0.0.1:3128 front cs1Label=Proxy"
    " cs2=audit cs2Label=ProtectionMode cs3=block böse.test cs3Label=Indicator"
    " cs4=198.51.100.7,b.böse.test cs4Label=DestinationHosts flexString1=T1090,T1090.004 flexString1Label=Techniques"
    ' cs5=a.exe --x\\="1|2"\\nnext  cs5Label=CommandLine'
    ' cs6=DeviceEvents | where X \\=\\= "1" cs6Label=Query'
)


def settings(address: str, **changes: Any) -> ForwardSettings:
    """To a syslog server."""
    return ForwardSettings.model_validate(
        {"target": "syslog", "syslog_address": address, "timeout_secs": 1.0, **changes}
    )


@pytest.fixture
def server() -> Iterator[SyslogServer]:
    """One that reads."""
    made = SyslogServer().start()
    yield made
    made.stop()


def test_everything_in_cef() -> None:
    """Pipes and backslashes escaped in the head, equals signs and line breaks in the extension, other controls blank."""
    assert cef(long_alert(), "0.1.0", 9_999).decode() == WHOLE


def test_a_message_of_rfc_5424() -> None:
    """Priority is facility and severity; time, host, program and kind; no structured data, no byte order mark."""
    message = syslog_message(long_alert(), 16, "collector 1", 9_999).decode()

    assert message.startswith(
        "<131>1 2026-11-18T11:06:40.000000Z collector1 unproxy - blocked - CEF:0|unproxy|unproxy|"
    )


@pytest.mark.parametrize(
    ("severity", "priority", "rank"),
    [("informational", 38, 1), ("low", 37, 3), ("medium", 36, 6), ("high", 35, 8), ("unheard_of", 36, 6)],
)
def test_severities(severity: str, priority: int, rank: int) -> None:
    """One line a severity, with facility 4."""
    message = syslog_message(seen(Severity=severity), 4, "h", 9_999).decode()

    assert message.startswith(f"<{priority}>1 ")
    assert f"|This is a test|{rank}|" in message


def test_what_is_not_known_is_not_there() -> None:
    """No empty fields; IPv6 goes where CEF has room for it; a withdrawn alert is marked; bad times are left out."""
    line = cef(seen(DestinationHosts=["2001:db8::1"], Count=0, FirstTime="never"), "1", 9_999).decode()

    assert " dhost=2001:db8::1 dpt=443 " in line
    assert "c6a3=2001:db8::1 c6a3Label=DestinationIPv6" in line
    assert "start=" not in line
    assert "cnt=0 " in line
    assert "unproxy.test, withdrawn " in line
    assert not re.search(r"=( |$)", line)
    assert "spid" not in line
    assert syslog_message(seen(LastTime="never", Kind=""), 1, "", 9_999).startswith(b"<12>1 - - unproxy - - - CEF:0|")


def test_cut_at_whole_fields() -> None:
    """A field without room is left out whole, with its label, and the line has their number; shorter ones still go."""
    alert = seen(InitiatingProcessCommandLine="x" * 5_000, Query="q" * 1_000, Title="Ü" * 500)
    message = syslog_message(alert, 16, "host", 2_048)

    assert len(message) <= 2_048
    assert b"cs5" not in message
    assert b" cs6=qqq" in message
    assert message.endswith(b"cs6Label=Query cn2=1 cn2Label=FieldsLeftOut")
    message.decode()


@given(
    st.dictionaries(st.sampled_from(["Title", "Kind", "DeviceName", "Category", "Query"]), st.text()),
    st.integers(1_024, 3_000),
)
def test_laws(texts: dict[str, Any], bytes_max: int) -> None:
    """Whatever the texts: one line, within the bound, eight parts in the head, and each field reads back."""
    message = syslog_message(seen(**texts), 16, "host", bytes_max)
    line = message.partition(b" - CEF:")[2].decode()
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    category = re.search(r"(?:^| )cat=((?:[^\\=]|\\.)*?) msg=", line)

    assert len(message) <= bytes_max
    assert not re.search(rb"[\x00-\x1f\x7f]", message)
    assert len(parts) == 8
    if "Category" in texts and texts["Category"] and category:
        back = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), category[1])
        assert back == re.sub(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", " ", texts["Category"])


def test_frames_over_tcp(server: SyslogServer) -> None:
    """Octet counting: lengths are in bytes, also of what is not ASCII."""
    target = Syslog(settings(server.address))
    replies = [target.send(b"", alert).answer for alert in (long_alert(), seen("a2"))]
    until(lambda: len(server.messages) == 2)
    target.close()

    assert replies == [Answer.DELIVERED] * 2
    assert server.messages[0].decode().partition("|blocked|")[2] == WHOLE.partition("|blocked|")[2]
    assert b"externalId=a2 " in server.messages[1]


def test_over_tls() -> None:
    """The certificate is verified, with its name."""
    server = SyslogServer(server_context()).start()
    address = f"localhost:{server.port}"
    target = Syslog(settings(address, syslog_transport="tls", ca_file=AUTHORITY))
    untrusting = Syslog(settings(address, syslog_transport="tls"))
    assert target.send(b"", seen()).answer is Answer.DELIVERED
    until(lambda: len(server.messages) == 1)
    refused = untrusting.send(b"", seen())
    target.close()
    server.stop()

    assert refused.answer is Answer.MISCONFIGURED
    assert "forward.ca_file" in refused.text


def test_over_udp() -> None:
    """One datagram a message, cut at 2,048 bytes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5.0)
        target = Syslog(settings(f"127.0.0.1:{receiver.getsockname()[1]}", syslog_transport="udp"))
        reply = target.send(b"", seen(Query="q" * 9_000))
        message = receiver.recv(65_535)
        target.close()

    assert reply.answer is Answer.DELIVERED
    assert len(message) <= 2_048
    assert b"FieldsLeftOut" in message


def test_no_receiver() -> None:
    """No connection, no delivery; with UDP only the second try may get the error."""
    stream = Syslog(settings(f"127.0.0.1:{free_port()}"))
    datagrams = Syslog(settings(f"127.0.0.1:{free_port()}", syslog_transport="udp"))

    assert stream.send(b"", seen()).answer is Answer.UNREACHABLE
    assert {datagrams.send(b"", seen()).answer for _ in range(4)} == {Answer.DELIVERED, Answer.UNREACHABLE}
    datagrams.close()


def test_a_receiver_that_does_not_read(server: SyslogServer) -> None:
    """Once its machine takes no more bytes, a try times out: what only stands in our own buffer is not delivered."""
    server.reads = False
    target = Syslog(settings(server.address, syslog_bytes_max=50_000, timeout_secs=0.3))
    large = seen(Query="q" * 40_000)
    delivered = 0
    while (answer := target.send(b"", large).answer) is Answer.DELIVERED:
        assert target._connection is not None
        assert _unacknowledged_bytes(target._connection) == 0
        delivered += 1

    assert answer is Answer.TIMEOUT
    assert delivered > 0


def test_a_receiver_that_dies_gets_the_latest_again(server: SyslogServer) -> None:
    """What its machine had acknowledged and it had not read goes again on the next connection, in order."""
    server.reads = False
    target = Syslog(settings(server.address))
    for number in range(5):
        assert target.send(b"", seen(f"a{number}")).answer is Answer.DELIVERED
    assert server.messages == []
    server.stop()
    assert target.send(b"", seen("a5")).answer is Answer.UNREACHABLE
    server.reads = True
    server.start()
    assert target.send(b"", seen("a5")).answer is Answer.DELIVERED
    until(lambda: len(server.messages) == 6)
    target.close()

    assert [b"externalId=a%d " % number in message for number, message in enumerate(server.messages)] == [True] * 6
    assert AGAIN_MAX >= 6
