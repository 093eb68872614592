"""The thread that reads packets, on this machine's own loopback device: lines, who acts on them, numbers, loss, and plans."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from producers.sensor.http import capture as module
from producers.sensor.http.capture import Capture, capturing
from producers.sensor.http.heads import Urls
from producers.sensor.http.learning import Learner
from producers.sensor.http.observer import CaptureReader, Plan, plan_of
from producers.sensor.http.packet_filter import PORTS_MAX
from producers.sensor.http.packets import Packet
from producers.sensor.http.request_lines import HttpEvent
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.tracefs import SensorError
from producers.sensor.queue import Queue
from schemas.clock import iso_micros
from schemas.events import ProtectionMode
from schemas.settings import CorrelationSettings, SensorSettings, Settings
from tests.producers.sensor.http.wire import hello

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8\r\n\r\n"


class Notes:
    """Keeps what it reported."""

    mode: ProtectionMode = ProtectionMode.BLOCK

    def __init__(self) -> None:
        self.events: list[HttpEvent] = []
        self.resets: list[Packet] = []
        self.finished = 0
        self.proxies: set[ProxyAddress] = set()

    def keeps(self, request: HttpEvent, line: bytes) -> bool:
        """No other observer exists."""
        return request.flow_id == line.decode()

    def reset(self, packet: Packet) -> None:
        """Note it."""
        self.resets.append(packet)

    def finish(self) -> None:
        """Note it."""
        self.finished += 1

    def observed(self, events: Sequence[HttpEvent]) -> None:
        """Note it."""
        self.events += events

    def go_to(self, proxies: Iterable[ProxyAddress]) -> None:
        """Note them."""
        self.proxies = set(proxies)


@contextmanager
def proxy(connections: int = 1) -> Iterator[tuple[str, int]]:
    """Takes so many connections, one after the other, answers the first bytes of each, and reads until it ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(connections):
                with server.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    while connection.recv(65_536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()
        thread.join()


def test_events_become_lines() -> None:
    """Each with the connection's ends and one name; who acts observes requests, too; the numbers move."""
    queue, notes = Queue(), Notes()
    with proxy() as (ip, port), capturing([port]) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, ((ip, port),)), queue, "dev-a", notes)
        capture_reader.start()
        began = iso_micros(time.time_ns() // 1_000)
        with socket.create_connection((ip, port)) as client:
            local = client.getsockname()
            client.sendall(CONNECT)
            client.recv(100)
            client.sendall(hello("www.example.com", ech=True))
        capture_reader.close()
    taken = queue.take()
    http, tls = (json.loads(line) for _, line in taken)

    assert {name for name, _ in taken} == {"sensor"}
    ends = {
        "device": "dev-a",
        "local_ip": ip,
        "local_port": local[1],
        "remote_ip": ip,
        "remote_port": port,
        "flow": http["flow"],
        "ts_attempt": http["ts_attempt"],
    }
    assert began <= http["ts_attempt"] < http["ts"]
    request = {"tx": 0, "method": "CONNECT", "target": "www.example.com:443", "host": "www.example.com", "status": 200}
    assert http == {"kind": "http", "ts": http["ts"], **ends, **request, "user_agent": "curl/8"}
    assert tls == {"kind": "tls", "ts": tls["ts"], **ends, "sni": "www.example.com", "tunnelled": True, "ech": True}
    assert [events.kind for events in notes.events] == ["request", "exchange", "tls"]
    numbers = {
        (sample.name, *sample.labels.values()): sample.value
        for family in capture_reader.families()
        for sample in family.samples
    }
    assert numbers["unproxy_endpoint_heard_total", "packets"] >= 5
    assert numbers["unproxy_endpoint_heard_total", "requests"] == 1
    assert numbers["unproxy_endpoint_heard_total", "answers"] == 1
    assert numbers["unproxy_endpoint_heard_total", "names"] == 1
    assert numbers["unproxy_endpoint_flows",] == 1
    assert numbers["unproxy_endpoint_held_bytes",] == 0
    assert capture_reader.lost()["packet_ring"] == 0
    assert capture_reader.summary() == {"requests": 1, "names": 1, "lost_packets": 0}


def test_what_waits_is_reported_at_the_end() -> None:
    """A request without an answer, when the sensor is stopped."""
    queue = Queue()
    with socket.create_server(("127.0.0.1", 0)) as server, capturing([server.getsockname()[1]]) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, (server.getsockname(),)), queue, "dev-a")
        capture_reader.start()
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(CONNECT + b"GET")
            capture_reader.close()
    ((_, line),) = queue.take()

    assert "status" not in json.loads(line)
    held = {sample.name: sample.value for family in capture_reader.families() for sample in family.samples}
    assert held["unproxy_endpoint_held_bytes"] == 3


def test_a_verdict_and_its_request_are_one_line() -> None:
    """The exchange of a request that was stopped is no line."""

    class Stopping(Notes):
        def keeps(self, request: HttpEvent, line: bytes) -> bool:
            return request.tx == 0 and b'"http"' in line

    queue = Queue()
    with proxy() as (ip, port), capturing([port]) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.BLOCK, ((ip, port),)), queue, "dev-a", Stopping())
        capture_reader.start()
        with socket.create_connection((ip, port)) as client:
            client.sendall(CONNECT)
            client.recv(100)
        capture_reader.close()

    assert (capture_reader.level.answers, queue.take()) == (1, [])


def test_resets_and_the_end_are_passed_on() -> None:
    """To whatever waits for proof that a socket is gone."""
    notes = Notes()
    with socket.create_server(("127.0.0.1", 0)) as server, capturing([server.getsockname()[1]]) as capture:
        capture_reader = CaptureReader(
            capture, Plan(ProtectionMode.BLOCK, (server.getsockname(),)), Queue(), "dev-a", notes
        )
        capture_reader.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ends = (*client.getsockname(), *client.getpeername())
        capture_reader.close()

    assert [packet[:4] for packet in notes.resets] == [ends]
    assert notes.finished == 1


def test_an_error_in_what_acts_on_a_request_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged, and the lines of the connection are written."""

    class Broken(Notes):
        def observed(self, events: Sequence[HttpEvent]) -> None:
            raise RuntimeError(events[0].kind)

    queue = Queue()
    with proxy() as (ip, port), capturing([port]) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.BLOCK, ((ip, port),)), queue, "dev-a", Broken())
        capture_reader.start()
        with socket.create_connection((ip, port)) as client:
            client.sendall(CONNECT)
            client.recv(100)
            client.sendall(hello("www.example.com"))
        capture_reader.close()

    assert [json.loads(line)["kind"] for _, line in queue.take()] == ["http", "tls"]
    assert (capture_reader.failure, capture_reader.skipped) == (None, 3)
    assert [vars(one)["so_far"] for one in caplog.records if "skipped after an error" in one.getMessage()] == [1, 2]


def test_what_ends_the_thread_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that the kernel does not give any more is nothing to go on from: taking the lines raises it."""

    def gone(_: Capture) -> int:
        raise OSError("gone")

    monkeypatch.setattr(Capture, "look", gone)
    with proxy(0) as (ip, port), capturing([port]) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, ((ip, port),)), Queue(), "dev-a")
        capture_reader.start()
        capture_reader.close()

    assert str(capture_reader.failure) == "gone"


def test_what_the_ring_has_no_room_for_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the kernel's own count; what was there before is read."""
    monkeypatch.setattr(module, "BLOCKS", 2)
    monkeypatch.setattr(module, "BLOCK_BYTES", 65_536)
    with proxy() as (ip, port), capturing([port]) as capture:
        with socket.create_connection((ip, port)) as client:
            for _ in range(40):
                client.sendall(bytes(20_000))
            client.recv(100)
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, ((ip, port),)), Queue(), "dev-a")
        capture_reader.start()
        capture_reader.close()

    assert capture_reader.packets > 0
    assert capture_reader.lost()["packet_ring"] > 0
    assert "packets were lost" in caplog.text


def test_a_reader_may_be_away_for_a_while() -> None:
    """The kernel is done with a block after some milliseconds, however little is in it: there are blocks for seconds."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        capturing([server.getsockname()[1]]) as capture,
        socket.create_connection(server.getsockname()) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(120):
            client.sendall(b"x")
            threading.Event().wait(1.2 * module.RETIRE_MILLIS / 1_000)

        assert capture.look() == 0


def test_on_the_loopback_device_each_packet_comes_once() -> None:
    """It is seen as it leaves and as it comes in; the times are the wall clock's."""
    with proxy() as (ip, port), capturing([port]) as capture:
        with socket.create_connection((ip, port)) as client:
            client.sendall(CONNECT)
            client.recv(100)
        packets = waited(capture, 5)

    assert [packet.payload[:7] for packet in packets if packet.payload] == [b"CONNECT", b"HTTP/1."]


def waited(capture: Capture, count: int) -> list[Packet]:
    """So many packets, or those of two seconds."""
    found: list[Packet] = []
    for _ in range(100):
        found += (packet for _, packet in capture.read())
        if len(found) >= count:
            break
        threading.Event().wait(0.02)
    return found


def test_ports_are_bounded() -> None:
    """More than the filter has room for: it reports it."""
    with (
        pytest.raises(SensorError, match=r"65 ports of proxies; the sensor follows at most 64"),
        capturing(range(1, PORTS_MAX + 2)),
    ):
        pass


def known(own: SensorSettings | None = None, proxies: tuple[str, ...] = ()) -> Settings:
    """Settings of the sensor, and what the correlation knows of proxies."""
    return Settings(sensor=own or SensorSettings(), correlation=CorrelationSettings(proxies=proxies))


def test_plans() -> None:
    """The command line goes before the sensor's settings, those before the correlation's; audit where proxies are known."""
    all_three = known(SensorSettings(proxies=("10.0.0.2:2",), urls="host"), ("squid=10.0.0.3:3",))

    assert plan_of(all_three, "block", ["10.0.0.1:1", "10.0.0.1:1"], "full") == Plan(
        ProtectionMode.BLOCK, (("10.0.0.1", 1),), Urls.FULL
    )
    assert plan_of(all_three) == Plan(ProtectionMode.AUDIT, (("10.0.0.2", 2),), Urls.HOST)
    assert plan_of(known(proxies=("squid=10.0.0.3:3",))) == Plan(ProtectionMode.AUDIT, (("10.0.0.3", 3),))
    assert plan_of(known()) == Plan()
    assert plan_of(known(SensorSettings(mode="off"))) == Plan(ProtectionMode.OFF)
    assert [plan.listens for plan in (Plan(), plan_of(all_three, "off"), plan_of(all_three))] == [False, False, True]


def test_plans_to_learn(tmp_path: Path) -> None:
    """Where a mode is asked for and no proxy is named, or as requested; what was planned without is as it was."""
    named, none = known(proxies=("squid=10.0.0.3:3",)), known()

    def learns(settings: Settings, mode: str = "", learn: bool | None = None, mode_file: Path | None = None) -> bool:
        plan = plan_of(settings, mode, mode_file=mode_file, learn=learn)
        return plan.listens and plan.learns

    assert [learns(none, mode) for mode in ("audit", "block", "off", "")] == [True, True, False, False]
    assert [learns(named, mode) for mode in ("audit", "block", "off", "")] == [False] * 4
    assert [learns(named, mode, learn=True) for mode in ("audit", "block", "off", "")] == [True, True, False, True]
    assert learns(none, mode_file=tmp_path / "mode")
    assert learns(known(SensorSettings(learn_proxies="yes")))
    assert not learns(known(SensorSettings(learn_proxies="yes")), learn=False)
    assert plan_of(none, learn=True).mode is ProtectionMode.AUDIT
    for settings, learn in ((none, False), (known(SensorSettings(learn_proxies="no")), None)):
        with pytest.raises(
            SensorError, match="mode audit: no proxies are known; name them with --proxy IP:PORT, or in"
        ):
            plan_of(settings, "audit", learn=learn)


def test_unknown_proxies_are_held_where_proxies_are_learnt() -> None:
    """It takes both; where nothing is read it is no matter."""
    held = SensorSettings(hold_unknown=True)

    assert plan_of(known(held), "block").hold_unknown
    assert plan_of(known(held, proxies=("squid=10.0.0.3:3",)), "block", learn=True).hold_unknown
    assert not plan_of(known(), "block").hold_unknown
    assert not plan_of(known(held, proxies=("squid=10.0.0.3:3",))).learns
    with pytest.raises(
        SensorError, match=r"sensor\.hold_unknown: proxies are not learnt; set sensor\.learn_proxies to yes"
    ):
        plan_of(known(held, proxies=("squid=10.0.0.3:3",)), "block")


def test_a_plan_knows_who_is_no_proxy() -> None:
    """What the correlation never takes for one is not learnt either."""
    denied = Settings(correlation=CorrelationSettings(not_proxies=("10.0.0.9:80",)))

    assert plan_of(denied, "audit").denied == (("10.0.0.9", 80),)


def ask(place: tuple[str, int]) -> int:
    """One tunnel; gives the client's port."""
    with socket.create_connection(place) as client:
        client.sendall(CONNECT)
        client.recv(100)
        client.sendall(hello("www.example.com"))
        port: int = client.getsockname()[1]
        return port


def await_that(happened: Callable[[], bool]) -> None:
    """For some seconds."""
    for _ in range(500):
        if happened():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_who_is_asked_as_a_proxy_is_learnt(caplog: pytest.LogCaptureFixture) -> None:
    """The request that it is learnt from is reported; of the next connection also status and name. The enforcer then knows it."""
    queue, notes, learner = Queue(), Notes(), Learner([])
    with caplog.at_level("INFO"), proxy(2) as place, capturing([], learns=True) as capture:
        plan = Plan(ProtectionMode.AUDIT, learns=True)
        capture_reader = CaptureReader(capture, plan, queue, "dev-a", notes, learner)
        capture_reader.start()
        ports = [ask(place)]
        await_that(lambda: place in notes.proxies)
        ports.append(ask(place))
        capture_reader.close()
    lines = [json.loads(line) for _, line in queue.take()]
    first, second = ([line for line in lines if line["local_port"] == port] for port in ports)
    numbers = {
        (sample.name, *sample.labels.values()): sample.value
        for family in capture_reader.families()
        for sample in family.samples
    }

    assert [line["target"] for line in first if line["kind"] == "http"] == ["www.example.com:443"]
    assert [(line["kind"], line.get("status"), line.get("sni")) for line in second] == [
        ("http", 200, None),
        ("tls", None, "www.example.com"),
    ]
    events = [vars(record) for record in caplog.records if record.message == "a proxy was learnt"]
    assert [(one["proxy"], one["client_port"]) for one in events if one["port"] == place[1]] == [(place[0], ports[0])]
    assert numbers["unproxy_endpoint_proxies_learnt",] >= 1
    assert numbers["unproxy_endpoint_learning_total", "learnt"] >= 1
    assert capture_reader.summary()["proxies_learnt"] >= 1


def test_an_unused_one_is_forgotten() -> None:
    """Nothing more is reported of it, and who acts observes that."""
    queue, notes, learner = Queue(), Notes(), Learner([])
    place = ("203.0.113.9", 8080)
    learner.last[place] = 0
    learner.proxies.add(place)
    notes.proxies.add(place)
    with capturing([], learns=True) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, learns=True), queue, "dev-a", notes, learner)
        capture_reader.start()
        await_that(lambda: place not in notes.proxies)
        capture_reader.close()

    assert place not in learner.proxies


def test_what_has_no_room_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """And again when it is much more."""

    def events() -> list[int]:
        words = "a proxy was not learnt, too many are in use"
        return [vars(record)["so_far"] for record in caplog.records if record.message == words]

    learner = Learner([])
    with capturing([], learns=True) as capture:
        capture_reader = CaptureReader(
            capture, Plan(ProtectionMode.AUDIT, learns=True), Queue(), "dev-a", None, learner
        )
        capture_reader.start()
        for expected in ([1], [1, 3]):
            learner.no_room = expected[-1]
            await_that(partial(lambda wanted: events() == wanted, expected))
        capture_reader.close()

    assert events() == [1, 3]


def test_while_the_mode_is_off_nothing_is_learnt() -> None:
    """Nothing at all is taken of what is read."""
    queue, notes, learner = Queue(), Notes(), Learner([])
    notes.mode = ProtectionMode.OFF
    with proxy() as place, capturing([], learns=True) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.OFF, learns=True), queue, "dev-a", notes, learner)
        capture_reader.start()
        ask(place)
        capture_reader.close()

    assert capture_reader.packets >= 2
    assert (learner.proxies, queue.take()) == (set(), [])
