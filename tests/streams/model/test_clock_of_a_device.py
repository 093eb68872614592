"""Which timestamps advance a device's clock: its own; those of other devices at most to the log's time."""

from __future__ import annotations

import json

import pytest

from schemas.clock import iso_micros
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

NOON = 1_795_000_000_000_000
SECOND = 1_000_000
HOUR = 3_600 * SECOND


def connect(device: str, at: int, port: int) -> bytes:
    """Return a connection to the proxy, as the endpoint reports it."""
    time = iso_micros(at)
    return json.dumps(
        {"device": device, "pid": 1, "process": "p", "local_ip": "10.0.0.1", "local_port": port, "remote_ip": "10.9.9.9",
         "remote_port": 3128, "result": "open", "ts_attempt": time, "ts_established": time, "ts_closed": None}
    ).encode()  # fmt: skip


def ask(at: int, port: int) -> bytes:
    """Return a request on it, as a network sensor reports it."""
    return json.dumps(
        {"timestamp": iso_micros(at), "flow_id": port, "event_type": "http", "src_ip": "10.0.0.1", "src_port": port,
         "dest_ip": "10.9.9.9", "dest_port": 3128, "proto": "TCP", "tx_id": 0,
         "http": {"hostname": "news.example", "url": "http://news.example/", "http_method": "GET", "status": 200}}
    ).encode()  # fmt: skip


class Log:
    """A log of messages as the broker stamps them."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(CorrelationSettings(proxies=("10.9.9.9:3128",)))
        self.offset = 0

    def send(
        self, key: str, at: int, dialect: str, *lines: bytes, keyed: bool = False, foreign_clock: bool = False
    ) -> None:
        """Append a message at a log time."""
        self.offset += 1
        self.pipeline.take(
            Message(
                self.offset,
                at // 1000,
                key.encode(),
                b"\n".join(lines),
                dialect,
                "s",
                keyed=keyed,
                foreign_clock=foreign_clock,
            )
        )

    def unresolved(self) -> set[object]:
        """Return the reasons on rows of unresolved connections."""
        rows = [json.loads(row) for row in self.pipeline.drain().network_events]
        return {row["UnresolvedReason"] for row in rows if row["UnresolvedReason"]}


def victim() -> Log:
    """Return a device that has just connected to the proxy; its request is not reported yet."""
    log = Log()
    log.send("victim", NOON, "suricata", ask(NOON - SECOND, 1))
    log.send("victim", NOON, "sockets", *(connect("victim", NOON, port) for port in range(2, 18)))
    log.pipeline.drain()
    return log


@pytest.mark.parametrize("ahead", [30 * SECOND, 2 * HOUR])
def test_another_device_moves_no_clock(ahead: int) -> None:
    """Lines with future timestamps that name another device decide none of its connections."""
    log = victim()
    forged = [connect("victim", NOON + ahead + n, 40_000 + n) for n in range(2)]
    log.send("attacker", NOON + SECOND, "sockets", *forged)

    assert log.unresolved() == set()
    assert log.pipeline.devices["victim"].facts.now <= NOON + SECOND


def test_a_sender_for_several_devices_moves_no_clock() -> None:
    """The header of a network tap's lines states that the clock is not their devices'."""
    log = victim()
    forged = [connect("victim", NOON + 2 * HOUR + n, 40_000 + n) for n in range(2)]
    log.send("victim", NOON + SECOND, "sockets", *forged, keyed=True, foreign_clock=True)

    assert log.unresolved() == set()
    assert log.pipeline.devices["victim"].facts.now <= NOON + SECOND


def test_a_proxys_log_moves_no_clock() -> None:
    """A proxy's clock, which may be ahead, does not advance the device's."""
    log = victim()
    line = "%d.000 10 10.0.0.1 TCP_TUNNEL/200 100 CONNECT news.example:443 - HIER_DIRECT/192.0.2.1 -"
    lines = [(line % ((NOON + ahead) // SECOND)).encode() for ahead in (2 * HOUR, 2 * HOUR + SECOND)]
    log.send("victim", NOON + SECOND, "squid", *lines, keyed=True)

    assert log.pipeline.book()["parsed"] == 19
    assert log.unresolved() == set()
    assert log.pipeline.devices["victim"].facts.now <= NOON + SECOND


def test_another_device_sets_no_clock_back() -> None:
    """Two lines of yesterday that agree correct the clock only if the device itself reports them."""
    log = victim()
    log.send(
        "attacker", NOON + SECOND, "sockets", *(connect("victim", NOON - 24 * HOUR + n, 40_000 + n) for n in range(2))
    )

    assert log.pipeline.devices["victim"].facts.now >= NOON


def test_others_move_a_clock_up_to_the_logs_time() -> None:
    """A device known only from a network tap has a clock, and its connections are decided."""
    log = Log()
    log.send("tap", NOON, "sockets", connect("quiet", NOON, 1))
    log.send("tap", NOON + 60 * SECOND, "sockets", connect("quiet", NOON + 60 * SECOND, 2))

    assert log.unresolved() == {"protection_off"}


def test_a_device_may_be_ahead_of_the_log() -> None:
    """Its own timestamps advance its own clock, however wrong they are."""
    log = Log()
    log.send("fast", NOON, "sockets", connect("fast", NOON + 2 * HOUR, 1))
    log.send("fast", NOON + SECOND, "sockets", connect("fast", NOON + 2 * HOUR + 60 * SECOND, 2))

    assert log.pipeline.devices["fast"].facts.now == NOON + 2 * HOUR + 60 * SECOND


def test_a_recording_without_a_log_is_read_by_its_own_times() -> None:
    """Files have no log time: lines that name another device than the key advance that device's clock."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(1, 0, b"case", connect("ws", NOON, 1), "sockets"))
    pipeline.take(Message(2, 0, b"case", connect("ws", NOON + 60 * SECOND, 2), "sockets"))

    assert pipeline.devices["ws"].facts.now == NOON + 60 * SECOND
