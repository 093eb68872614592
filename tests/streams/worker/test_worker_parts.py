"""The worker's parts by themselves: what they decide needs no broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from schemas.events import Reason, Reject
from schemas.metrics import METRICS, Kind
from schemas.settings import Settings, SettingsError
from schemas.topics import REJECTS, TICK_DIALECT, topic_name
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output, Pipeline
from streams.worker.app import Worker
from streams.worker.commits import Commits
from streams.worker.counters import WorkerCounters
from streams.worker.delivery import Delivery, OutgoingRecord, Receipt, packed
from streams.worker.faust_settings import faust_settings
from streams.worker.guards.at_hand import AtHand
from streams.worker.guards.continuity import Continuity
from streams.worker.guards.deaths import Deaths
from streams.worker.guards.lease import Lease, Membership, put_aside, sweep
from streams.worker.health import WorkerFacts
from streams.worker.logs import OnceInAWhile
from streams.worker.metrics import book_families, worker_families

SETTINGS = Settings()


@dataclass
class Sent:
    """Kafka's metadata of a message it has."""

    offset: int


@dataclass
class Wire:
    """Takes messages; fails those that the test names, the first time they come."""

    fails: dict[bytes, Exception] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    sent: list[OutgoingRecord] = field(default_factory=list)

    async def send(self, outgoing: OutgoingRecord) -> Awaitable[Receipt]:
        """Like the producer: some errors come at once, wrapped, others with the delivery."""
        if len(outgoing.value) > self.limits.get(outgoing.topic, 10_000_000):
            raise ProducerSendError("wrapped") from MessageSizeTooLargeError()
        return self._delivery(outgoing)

    async def _delivery(self, outgoing: OutgoingRecord) -> Receipt:
        error = self.fails.pop(outgoing.value, None)
        if error is not None:
            raise error
        self.sent.append(outgoing)
        return Sent(len(self.sent))


async def _safe() -> None:
    """Writing is safe."""


def deliver(wire: Wire, outgoing_records: list[OutgoingRecord]) -> tuple[dict[int, int], WorkerCounters]:
    """Deliver all; the last offsets and what was counted."""
    counters = WorkerCounters()
    return asyncio.run(Delivery(SETTINGS, wire.send, counters).deliver(outgoing_records, _safe)), counters


def values_of(counters: WorkerCounters) -> dict[str, float]:
    """The values of their metrics, of those without labels."""
    made = worker_families(counters, 0, [])
    return {sample.name: sample.value for family in made for sample in family.samples if not sample.labels}


def test_failed_deliveries_are_sent_again_in_order() -> None:
    """What failed is sent again, and with it what came after in its partition; other partitions are left alone."""
    wire = Wire(fails={b"b": KafkaTimeoutError()})
    outgoing_records = [
        OutgoingRecord("t", partition, None, value) for partition, value in ((0, b"a"), (0, b"b"), (0, b"c"), (1, b"d"))
    ]
    last, counters = deliver(wire, outgoing_records)

    assert [outgoing.value for outgoing in wire.sent] == [b"a", b"c", b"d", b"b", b"c"]
    assert last == {0: 5, 1: 3}
    assert counters.delivered == {"t": 4}
    assert values_of(counters)["unproxy_worker_resends_total"] == 2


def test_too_large_is_poison() -> None:
    """A message that its topic cannot take goes to rejects; what even rejects cannot take is cut, with a mark."""
    rejects = topic_name(SETTINGS, REJECTS)
    wire = Wire(limits={"t": 10, rejects: 40})
    _, counters = deliver(wire, [OutgoingRecord("t", 3, b"dev", b"x" * 30), OutgoingRecord("t", 2, None, b"y" * 100)])

    kept, cut = wire.sent
    assert (kept.topic, kept.partition, kept.value) == (rejects, 3, b"x" * 30)
    assert dict(kept.headers)["reason"] == b"not_deliverable"
    assert dict(kept.headers)["device"] == b"dev"
    assert (cut.partition, cut.value) == (2, b"y" * 25)
    assert dict(cut.headers)["cut_from_bytes"] == b"100"
    assert values_of(counters)["unproxy_worker_undeliverable_total"] == 4


def test_our_own_mistakes_are_not_retried() -> None:
    """An error that is not Kafka's leaves the delivery; the process ends by it."""
    with pytest.raises(ZeroDivisionError):
        deliver(Wire(fails={b"a": ZeroDivisionError()}), [OutgoingRecord("t", 0, None, b"a")])


def test_rows_are_packed() -> None:
    """Messages of rows stay below the limit unless one row alone is above it; nothing is lost or reordered."""
    rows = [b"a" * 4, b"b" * 4, b"c" * 20, b"d", b"e"]

    assert list(packed(rows, 10)) == [b"aaaa\nbbbb", b"c" * 20, b"d\ne"]
    assert list(packed([], 10)) == []


def test_rejects_carry_their_bytes() -> None:
    """A reject's detail is cut, its bytes are not touched."""
    output = Output(rejects=[Reject(Reason.BAD_VALUE, "d" * 600, b"\x00\xff\n", "zeek", "dev-\udcff")])
    (outgoing,) = Delivery(SETTINGS, Wire().send, WorkerCounters()).outgoing_records(1, output)

    assert outgoing.value == b"\x00\xff\n"
    assert dict(outgoing.headers) == {
        "reason": b"bad_value",
        "detail": b"d" * 500,
        "dialect": b"zeek",
        "device": b"dev-?",
    }


def test_continuity_sees_holes() -> None:
    """The next offset is fine, one read again as well; a step over one is not, nor a start above the committed one."""
    seen = Continuity()

    assert not seen.knows(0)
    assert seen.begin(0, 5, 7) == ""
    assert seen.follow(0, [5, 6, 7]) == ""
    assert seen.follow(0, [6, 7, 8]) == ""
    assert "offset 10 follows 8" in seen.follow(0, [10])
    seen.forget()
    assert "2 messages were passed over" in seen.begin(0, 9, 7)


def test_latency_is_the_logs_time_to_delivery() -> None:
    """Each message counts from its time in the log; ticks do not, and a clock that is behind makes no negative time."""
    counters = WorkerCounters()
    messages = [Message(n, ms, b"dev", b"x", "lab") for n, ms in enumerate((7_000, 9_000, 12_000))]
    counters.note_delivered([*messages, Message(3, 5_000, b"", b"", TICK_DIALECT)], 10.0)

    assert values_of(counters)["unproxy_worker_latency_seconds_count"] == 3
    assert values_of(counters)["unproxy_worker_latency_seconds_sum"] == 3.0 + 1.0 + 0.0


class Read(SimpleNamespace):
    """A message as Faust hands it over: one of its kind."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # a namespace is equal by content and has none


class Group:
    """As much of a stream, a lease, a feed and a bench as the agent's step needs; the group comes to generation 2."""

    def __init__(self, generation: int = 2) -> None:
        self.generation = generation
        self.counters = WorkerCounters()
        self.handled: list[int] = []
        self.unacked: set[Any] = set()
        self.acknowledged: list[int] = []
        self._lease = self.bench = self.app = self.consumer = self._feed = self
        self._commits = Commits("telemetry")

    def membership(self) -> Membership:
        return Membership(self.generation, "m")

    async def wait_fresh(self, logged_ms: int) -> None:
        assert logged_ms == 1_000
        self.generation = 2

    async def handle(self, batch: dict[int, list[Message]]) -> None:
        self.handled += [message.offset for messages in batch.values() for message in messages]

    async def ack(self, event: Any) -> None:
        self.acknowledged.append(event.message.offset)


@pytest.mark.parametrize("generation", [1, 2], ids=["while it waits for indicators", "before"])
def test_stale_messages_are_left_aside(generation: int) -> None:
    """What was read before a rebalance is neither handled nor acknowledged, and counted."""
    group: Any = Group(generation)

    def event(offset: int, generation: int) -> Any:
        raw = {"offset": offset, "generation_id": generation, "partition": 0, "timestamp": 1.0}
        message = Read(**raw, headers=(), key=b"dev", value=b"x")
        group.unacked.add(message)
        return SimpleNamespace(message=message)

    events = [event(5, 1), event(6, 2), event(7, 1)]
    asyncio.run(Worker._handle(group, group, events))

    assert group.handled == group.acknowledged == [6]
    assert {message.offset for message in group.unacked} == {6}
    assert values_of(group.counters)["unproxy_worker_messages_stale_total"] == 2


class Coordinator:
    """As much of aiokafka's as the lease needs."""

    generation = 1
    member_id = "m"
    accepts = True

    async def _do_heartbeat(self) -> bool:
        return self.accepts


def test_an_old_lease_waits_for_a_heartbeat(tmp_path: Path) -> None:
    """After a long silence writing waits until a heartbeat is accepted, and goes on if the membership is the same."""

    async def scene() -> tuple[bool, bool]:
        counters = WorkerCounters()
        lease = Lease(12, tmp_path / "state", counters)
        coordinator: Any = Coordinator()
        lease.watch(coordinator)
        check = asyncio.create_task(lease.check(lease.membership()))
        await asyncio.sleep(0)
        waited = not check.done()
        coordinator.accepts = False
        await coordinator._do_heartbeat()
        coordinator.accepts = True
        await coordinator._do_heartbeat()
        await check
        return waited, values_of(counters)["unproxy_worker_lease_waits_total"] == 1

    assert asyncio.run(scene()) == (True, True)


def test_stale_state_is_put_aside_and_swept(tmp_path: Path) -> None:
    """A folder that may hold a stale write is renamed, and gone after the next start; others stay."""
    folder = tmp_path / "state"
    for name in ("state", "state-2"):
        (tmp_path / name).mkdir()
    put_aside(folder)
    renamed = list(tmp_path.glob("state.stale-*"))
    sweep(folder)

    assert len(renamed) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state-2"]


def test_metrics_are_declared_well() -> None:
    """Names are unique, ours, and state what they count; only counters end in _total."""
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    assert all(name.startswith("unproxy_") for name in names)
    assert all(metric.name.endswith("_total") == (metric.kind is Kind.COUNTER) for metric in METRICS)
    assert all(metric.about and not metric.about.endswith(".") for metric in METRICS)


def test_books_become_metrics() -> None:
    """The books of all partitions are summed; what is not declared is shown all the same."""
    families = list(book_families([{"read": 1, "rejected:malformed": 2}, {"read": 3, "odd": 4}]))
    shown = {(sample.name, *sample.labels.values()): sample.value for made in families for sample in made.samples}

    assert shown == {
        ("unproxy_lines_read_total",): 4,
        ("unproxy_lines_rejected_total", "malformed"): 2,
        ("unproxy_book", "odd"): 4,
    }


def test_kafka_security_reaches_faust() -> None:
    """Encryption and login of the settings are what Faust uses; a login without a mechanism is refused in words."""
    kafka = {"bootstrap": "a:1, b:2", "security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "p"}
    made = faust_settings(Settings.model_validate({"kafka": {**kafka, "sasl_mechanism": "SCRAM-SHA-512"}}), 4)
    encrypted = faust_settings(Settings.model_validate({"kafka": {"security_protocol": "SSL"}}), 4)

    assert made["broker"] == ["kafka://a:1", "kafka://b:2"]
    assert isinstance(made["broker_credentials"], faust.SASLCredentials)
    assert made["broker_credentials"].protocol.value == "SASL_SSL"
    assert made["broker_credentials"].mechanism.value == "SCRAM-SHA-512"
    assert isinstance(encrypted["broker_credentials"], faust.SSLCredentials)
    assert faust_settings(SETTINGS, 4)["broker_credentials"] is None
    with pytest.raises(SettingsError, match="sasl_mechanism"):
        faust_settings(Settings.model_validate({"kafka": kafka}), 4)


def test_libraries_repeat_themselves_in_vain() -> None:
    """A library's warning from one place passes once in a while; ours and others' always."""
    once = OnceInAWhile()

    def passes(name: str, line: int) -> bool:
        return once.filter(logging.LogRecord(name, logging.ERROR, "file.py", line, "away", (), None))

    assert [passes("aiokafka.client", 1), passes("aiokafka.client", 1), passes("aiokafka.client", 2)] == [
        True,
        False,
        True,
    ]
    assert [passes("streams.worker.app", 1), passes("streams.worker.app", 1)] == [True, True]


def test_all_runs_in_the_workers_own_loop(tmp_path: Path) -> None:
    """Also where the thread of the pages or the watchdog asks for something before Faust has started."""
    settings = Settings.model_validate({"worker": {"data_dir": str(tmp_path)}})
    loop = asyncio.new_event_loop()
    feed: Any = None
    worker = Worker(
        settings, 1, Pipeline, Policy(), feed, WorkerCounters(), WorkerFacts(), AtHand(tmp_path), Deaths(settings), loop
    )
    app: Any = worker.app
    with ThreadPoolExecutor(1) as another:
        another.submit(worker.sign_of_work).result()
        found = another.submit(lambda: (app.loop, app.tables.loop, app.tables.recovery.loop)).result()
    loop.close()

    assert found == (loop, loop, loop)


def test_a_recovery_shows_that_it_works() -> None:
    """The watchdog sees a recovery go forward, from before its offsets are known; there is nothing to see else."""
    recovery: Any = SimpleNamespace(in_recovery=True)
    bench = SimpleNamespace(goes_forward=lambda: None)
    worker: Any = SimpleNamespace(app=SimpleNamespace(tables=SimpleNamespace(recovery=recovery)), bench=bench)
    signs = []
    for recovery.active_offsets in ({}, {0: None}, {0: 3, 1: None}, {0: 3, 1: 4}):
        signs.append(Worker.sign_of_work(worker))
    recovery.in_recovery = False

    assert signs == [0, 0, 3, 7]
    assert Worker.sign_of_work(worker) is None
