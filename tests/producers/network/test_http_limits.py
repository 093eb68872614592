"""What a client of the HTTP input can cost others, and who may send: slow connections, packed bodies, TLS and certificates."""

from __future__ import annotations

import gzip
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import Message

from producers.network.gunzip import PIECE_BYTES, Gunzip
from producers.network.http_server import network_of
from producers.network.pending_requests import Refused
from schemas.sections.inputs import InputSettings
from schemas.settings import Settings
from schemas.topics import TELEMETRY
from tests.producers.network.test_http import listens, post
from tests.producers.running import Running, lines_of
from tests.streams.worker.worker_process import wait_until
from unproxy.local.servers.service import free_port

EveMaker = Callable[..., bytes]
MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
AUTHORIZED = HEAD + b"Authorization: Bearer a-token-of-this-test\r\n"
EMPTY_MEMBER = gzip.compress(b"")


BROKER_SECS_MAX = 120.0
"""Longest wait for the broker of the tests, which makes the first topics of a test beside other work."""


@pytest.fixture
def make(kafka_settings_for: SettingsFor) -> SettingsFor:
    """Settings with one grant by token."""

    def settings(**inputs: object) -> Settings:
        grants = {"test": {"token": "a-token-of-this-test", "devices": ["*"]}}
        return kafka_settings_for(
            inputs={"grants": grants, "http_answer_secs_max": BROKER_SECS_MAX, **inputs},
            publisher={"batch_age_secs_max": 0.05, "metrics_port": free_port()},
        )

    return settings


@pytest.fixture
def opened() -> Iterator[Callable[..., socket.socket]]:
    """Opens connections from any loopback address, and sends their first bytes; all are closed at the end."""
    with ExitStack() as stack:

        def connect(port: int, sent: bytes, address: str = "127.0.0.1") -> socket.socket:
            client = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0))
            stack.enter_context(client)
            client.sendall(sent)
            return client

        yield connect


def is_closed(client: socket.socket) -> bool:
    """Whether the server ended the connection without an answer; waits until it sends anything."""
    try:
        return client.recv(1_000) == b""
    except ConnectionResetError:
        return True


def is_refused(asked: Callable[[], int]) -> bool:
    """Whether the connection was closed without an answer, else the answer must be 204."""
    try:
        assert asked() == 204
    except (OSError, http.client.HTTPException):
        return True
    return False


@pytest.mark.parametrize("addresses", [1, 16], ids=["one address", "many addresses"])
def test_slow_headers_do_not_lock_others_out(
    make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket], addresses: int
) -> None:
    """As many connections as there may be that never end their header: the oldest gives way to a client with a grant."""
    settings, port = make(http_connections_max=64, http_connections_per_address_max=16), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        slow = [opened(port, HEAD, f"127.0.0.{1 + number % addresses}") for number in range(64)]

        assert post(port, eve(1))[0] == 204
        assert is_closed(slow[0])
        assert one.report.received["http_full"] > 0


def test_connections_with_a_grant_stay(make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket]) -> None:
    """Where all have shown a grant there is no room for one more, until one ends."""
    settings, port = make(http_connections_max=1), free_port()
    first = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    token = {"Authorization": "Bearer a-token-of-this-test"}

    def served(connection: http.client.HTTPConnection) -> int:
        connection.request("POST", "/", eve(1), token)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status

    with Running(settings, f"suricata:http://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        assert served(first) == 204
        assert is_closed(opened(port, HEAD))
        assert served(first) == 204
        first.close()
        wait_until(lambda: not is_refused(lambda: post(port, eve(2))[0]), "room")


def test_networks_are_counted_together() -> None:
    """An IPv4 address in any spelling for itself; IPv6 by the network that one subscriber has."""
    addresses = ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1", "fe80::1%eth0"]

    assert [network_of(address) for address in addresses] == [
        "192.0.2.7", "192.0.2.7", "2001:db8::/64", "2001:db8::/64", "2001:db8:0:1::/64", "fe80::/64",
    ]  # fmt: skip


def test_silent_connections_end_in_time(make: SettingsFor, opened: Callable[..., socket.socket]) -> None:
    """A header has a deadline, which bytes that trickle do not put off; so has a TLS handshake, here never begun."""
    settings, port = make(http_header_secs_max=1.0), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        client = opened(port, HEAD)
        client.settimeout(0.05)

        def trickled() -> bool:
            client.sendall(b"X-More: 1\r\n")
            try:
                return client.recv(1_000) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(trickled, "closed", 20.0)


def test_a_slow_body_is_answered(make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket]) -> None:
    """A body that does not arrive in time is answered 408, and holds no room for what was not sent."""
    settings, port = make(http_body_secs_max=1.0, http_waiting_bytes_max=1_000_000), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        client = opened(port, AUTHORIZED + b"Content-Length: 999999\r\n\r\nbegun")

        assert post(port, eve(1))[0] == 204
        assert client.recv(1_000).startswith(b"HTTP/1.1 408 ")
        wait_until(lambda: one.report.received["http_slow"] == 1, "counted")


def test_a_grant_comes_before_the_body(make: SettingsFor, opened: Callable[..., socket.socket]) -> None:
    """Who may not send is informed by the header alone; who may is asked for the body it announced (Expect)."""
    settings, port = make(), free_port()
    expects = b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with Running(settings, f"suricata:http://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")

        assert opened(port, HEAD + expects).recv(1_000).startswith(b"HTTP/1.1 401 ")
        client = opened(port, AUTHORIZED + expects)
        assert client.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(1_000).startswith(b"HTTP/1.1 204 ")


def test_what_is_not_http_is_refused(
    make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage, an endless header and two lengths are answered 400, a target that is no URL ends the connection; no log."""
    settings, port = make(), free_port()
    given = [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + b"X: " + b"y" * 10_000,
        b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        AUTHORIZED + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        AUTHORIZED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    with Running(settings, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        answers = [opened(port, sent).recv(1_000) for sent in given]
        assert is_closed(opened(port, b"POST http://[]@/ HTTP/1.1\r\n\r\n"))
        wait_until(lambda: one.report.received["http_wrong"] == len(given) + 1, "counted")
        assert post(port, eve(1))[0] == 204

    assert [answer.split()[1] for answer in answers] == [b"400"] * 5
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_gone_in_the_middle(
    make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket], messages_of: MessagesOf
) -> None:
    """A client that goes away before its body is whole leaves no line, and is counted."""
    settings, port = make(), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        opened(port, AUTHORIZED + b"Content-Length: 1000\r\n\r\n" + eve(1) + b"\n").close()
        wait_until(lambda: one.report.received["http_wrong"] == 1, "counted")
        assert post(port, eve(2))[0] == 204

    assert lines_of(messages_of(settings, TELEMETRY)) == [eve(2)]


def test_too_many_requests_wait(make: SettingsFor, eve: EveMaker, opened: Callable[..., socket.socket]) -> None:
    """Their number is bounded as well as their bytes."""
    settings, port = make(http_requests_waiting_max=1), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        first = opened(port, AUTHORIZED + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert first.recv(1_000).startswith(b"HTTP/1.1 100 ")

        assert post(port, eve(1)) == (429, "Kafka takes less than is sent; send it again later\n2")
        first.sendall(b"hello")
        assert first.recv(1_000).startswith(b"HTTP/1.1 204 ")
        assert post(port, eve(1))[0] == 204


def test_empty_gzip_members_are_bounded(make: SettingsFor, eve: EveMaker) -> None:
    """A body of empty members is refused after the first few of them."""
    settings, port = make(), free_port()
    body = EMPTY_MEMBER * 10_000
    with Running(settings, f"suricata:http://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        status, words = post(port, body, Content_Encoding="gzip")
        assert (status, "inputs.http_gzip_members_max" in words) == (413, True)
        assert post(port, gzip.compress(eve(1)) + EMPTY_MEMBER * 255, Content_Encoding="gzip")[0] == 204


def gunzip(*parts: bytes, **inputs: float) -> list[bytes]:
    """The pieces that a body unpacks to, given in parts."""
    one = Gunzip(InputSettings.model_validate(inputs))
    pieces = [piece for part in parts for piece in one.feed(part)]
    one.finish()
    return pieces


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_gunzip_in_parts(size: int) -> None:
    """However a body is cut on the way, it unpacks to the same, members with and without content."""
    members = [b"hello\n", b"", b"world\n" * 1_000]
    packed = b"".join(map(gzip.compress, members))
    parts = [packed[start : start + size] for start in range(0, len(packed), size)]

    assert b"".join(gunzip(*parts)) == b"".join(members)
    assert gunzip() == []


def test_gunzip_gives_small_pieces() -> None:
    """What is packed tight is unpacked a piece at a time."""
    pieces = gunzip(gzip.compress(b"x" * 5 * PIECE_BYTES), http_gzip_ratio_max=2_000)

    assert [len(piece) for piece in pieces if piece] == [PIECE_BYTES] * 5


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((gzip.compress(bytes(10_000_000)),), 413),
        ((EMPTY_MEMBER * 257,), 413),
        ((EMPTY_MEMBER[:-1],), 400),
        ((EMPTY_MEMBER, EMPTY_MEMBER[:1]), 400),
        ((EMPTY_MEMBER + b"\0",), 400),
        ((gzip.compress(b"x")[:-8] + bytes(8),), 400),
    ],
    ids=["bomb", "members", "cut", "cut in a second member", "padded", "wrong checksum"],
)
def test_gunzip_refuses(parts: tuple[bytes, ...], status: int) -> None:
    """A bomb stops at its first MB; what is cut or damaged is no lines."""
    with pytest.raises(Refused) as refused:
        gunzip(*parts)

    assert refused.value.status == status


class Tls:
    """A server's certificate, and one client's of another authority that the server trusts."""

    def __init__(self, folder: Path) -> None:
        self._servers, self._clients = trustme.CA(), trustme.CA()
        self._folder = folder
        server = self._servers.issue_cert("localhost", "127.0.0.1")
        server.private_key_pem.write_to_path(folder / "key.pem")
        server.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        self._clients.cert_pem.write_to_path(folder / "clients.pem")
        self.settings = {
            "http_tls_cert_file": str(folder / "cert.pem"),
            "http_tls_key_file": str(folder / "key.pem"),
            "http_tls_client_ca_file": str(folder / "clients.pem"),
        }

    def post(
        self, port: int, body: bytes, names: tuple[str, ...] = (), *, trusted: bool = True, token: str = ""
    ) -> int:
        """The status; with `names` a certificate is shown."""
        context = ssl.create_default_context()
        self._servers.configure_trust(context)
        if names:
            (self._clients if trusted else self._servers).issue_cert(*names).configure_cert(context)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        try:
            connection.request("POST", "/", body, {"Authorization": f"Bearer {token}"} if token else {})
            return connection.getresponse().status
        finally:
            connection.close()


def test_tls_and_certificates(
    make: SettingsFor, eve: EveMaker, messages_of: MessagesOf, tmp_path: Path, opened: Callable[..., socket.socket]
) -> None:
    """A token or a verified certificate is a grant; one that no known authority signed ends the handshake."""
    tls, port, token = Tls(tmp_path), free_port(), "a-token-of-ws-2-here"
    grants = {
        "one": {"certificates": ["ws-1.example"], "devices": ["*"]},
        "two": {"token": token, "devices": ["*"]},
    }
    settings = make(grants=grants, http_header_secs_max=2.0, **tls.settings)
    with Running(settings, f"suricata:https://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        plain, silent = opened(port, AUTHORIZED + b"\r\n"), opened(port, b"")

        assert tls.post(port, eve(1), ("ws-1.example",)) == 204
        assert tls.post(port, eve(2), token=token) == 204
        assert tls.post(port, eve(3), ("ws-3.example",)) == 401
        assert tls.post(port, eve(3)) == 401
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls.post(port, eve(3), ("ws-1.example",), trusted=False)
        assert is_closed(plain)
        assert is_closed(silent)

    assert sorted(lines_of(messages_of(settings, TELEMETRY))) == [eve(1), eve(2)]
    headers: list[Any] = [message.headers() for message in messages_of(settings, TELEMETRY)]
    sensors = {dict(pairs)["sensor"].split(b"//")[1] for pairs in headers}
    place = f"127.0.0.1:{port}".encode()
    assert sensors == {place + b"/one/127.0.0.1", place + b"/two/127.0.0.1"}


def test_handshakes_never_begun_do_not_lock_others_out(
    make: SettingsFor, eve: EveMaker, tmp_path: Path, opened: Callable[..., socket.socket]
) -> None:
    """A connection counts from when it is accepted, and gives way before its TLS handshake as well."""
    tls, port = Tls(tmp_path), free_port()
    settings = make(http_connections_per_address_max=4, **tls.settings)
    with Running(settings, f"suricata:https://127.0.0.1:{port}"):
        wait_until(lambda: listens(port), "listening")
        silent = [opened(port, b"") for _ in range(8)]

        assert tls.post(port, eve(1), token="a-token-of-this-test") == 204
        assert all(is_closed(client) for client in silent[:5])


def test_a_stop_waits_for_no_slow_client(make: SettingsFor, opened: Callable[..., socket.socket]) -> None:
    """Connections in any state do not hold up a stop."""
    settings, port = make(), free_port()
    with Running(settings, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        body = opened(port, AUTHORIZED + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert body.recv(1_000).startswith(b"HTTP/1.1 100 ")
        header = opened(port, HEAD)
        asked = time.monotonic()
        one.stop.set()
        assert is_closed(header)
        assert is_closed(body)

    assert time.monotonic() - asked < 5
