"""The publisher on the real Kafka: keys, headers, room, and what Kafka will not take."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaError, Message
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from producers.files.batcher import Batch
from producers.publish.metrics import publisher_families
from producers.publish.publisher import Publisher, PublisherFailed
from producers.publish.report import Report
from producers.sources.grants import Grant
from producers.sources.source import SourceFile
from schemas.events import Reason
from schemas.settings import Settings
from schemas.topics import REJECTS, TELEMETRY, Topic, topic_name, topics
from tests.faults.stage import ProxiedBroker
from tests.producers.network.held_answer import HeldAnswer
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.service import free_port

FILE = SourceFile("suricata", "eve.json", "host:eve.json")
NARROW, WIDE = Grant("dev-a", ("dev-a",), False), Grant("edr", ("*",), True)
MessagesOf = Callable[[Settings, str], list[Message]]


class Clock:
    """Time that passes only when it is asked for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def batch(
    device: str, *lines: bytes, reason: Reason | None = None, detail: str = "", grant: Grant | None = None
) -> Batch:
    file = FILE if grant is None else replace(FILE, grant=grant)
    made = Batch(device, file.dialect, file.sensor, file, 0, 0, 0.0, reason, detail)
    for line in lines:
        made.add(line)
    return made


@contextmanager
def publishing(
    settings: Settings, last_seq: int = 0, stopping: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Publisher, list[int]]]:
    acknowledged: list[int] = []
    publisher = Publisher(
        settings,
        clock=Clock(),
        stopping=stopping,
        acknowledged=lambda batch: acknowledged.append(batch.seq),
        last_seq=lambda _: last_seq,
    )
    try:
        yield publisher, acknowledged
    finally:
        publisher.close()


def headers(message: Message) -> dict[str, bytes]:
    pairs: Any = message.headers()
    return dict(pairs)


def partition_of(key: bytes) -> int:
    hashed: int = murmur2(key)  # type: ignore[no-untyped-call]  # it has no types
    return (hashed & 0x7FFFFFFF) % 4


def test_keys_land_where_faust_puts_them(kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf) -> None:
    """A device's partition is the one that Java's and Faust's murmur2 give."""
    settings = kafka_settings_for()
    devices = [f"dev-{number}" for number in range(40)] + ["gerät-1", "21", "foobar"]
    with publishing(settings) as (publisher, _):
        assert all(publisher.send(batch(device, b"line")) for device in devices)
        assert publisher.flush(30)

    found = {bytes(message.key() or b""): message.partition() for message in messages_of(settings, TELEMETRY)}
    assert found == {device.encode(): partition_of(device.encode()) for device in devices}
    # The hashes that Kafka's own test of murmur2 has.
    assert found[b"21"] == (-973932308 & 0x7FFFFFFF) % 4
    assert found[b"foobar"] == (-790332482 & 0x7FFFFFFF) % 4
    assert len(set(found.values())) == 4


def test_message_has_its_headers(kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf) -> None:
    """Value, key and headers are the contract; lines are numbered on from the kept count, per device."""
    settings = kafka_settings_for()
    with publishing(settings, last_seq=41) as (publisher, acknowledged):
        publisher.send(batch("dev-a", b"one", b"two"))
        publisher.send(batch("dev-b", b"other"))
        publisher.send(batch("dev-a", b"three"))
        assert publisher.facts().waiting == 3
        assert publisher.facts().quiet_since is not None
        assert publisher.flush(30)
        assert publisher.facts() == (0, None)
        assert publisher.answers()

    found = sorted(
        ((message.key(), message.value(), headers(message)) for message in messages_of(settings, TELEMETRY)),
        key=lambda one: (one[0], one[2]["seq"]),
    )
    common = {"dialect": b"suricata", "sensor": b"host:eve.json", "device_from": b"key"}
    assert found == [
        (b"dev-a", b"one\ntwo", {**common, "seq": b"42", "lines": b"2"}),
        (b"dev-a", b"three", {**common, "seq": b"44", "lines": b"1"}),
        (b"dev-b", b"other", {**common, "seq": b"42", "lines": b"1"}),
    ]
    assert sorted(acknowledged) == [42, 42, 44]
    assert publisher.unacknowledged_bytes == 0


def test_unacknowledged_bytes_are_bounded(kafka_settings_for: Callable[..., Settings]) -> None:
    """Sending waits for room: what Kafka has not acknowledged never exceeds the limit, and all arrives."""
    settings = kafka_settings_for(publisher={"queue_bytes_max": 50_000})
    with publishing(settings) as (publisher, acknowledged):
        for number in range(100):
            publisher.send(batch(f"dev-{number % 7}", os.urandom(9_999)))
            assert publisher.unacknowledged_bytes <= 50_000
        assert publisher.flush(30)

    assert len(acknowledged) == 100


def test_without_broker_sending_waits(caplog: pytest.LogCaptureFixture) -> None:
    """With no broker the queue fills up to its limit, then sending waits until asked to stop; nothing is dropped."""
    settings = Settings.model_validate(
        {"kafka": {"bootstrap": f"127.0.0.1:{free_port()}"}, "publisher": {"queue_bytes_max": 50_000}}
    )
    asked = iter(range(1_000_000))
    with publishing(settings, stopping=lambda: "kafka is out of reach" in caplog.text and next(asked) > 20) as (
        publisher,
        acknowledged,
    ):
        sent = 0
        while publisher.send(batch("dev-a", b"x" * 9_999)):
            sent += 1

        assert sent == 5
        assert len(list(publisher.outstanding())) == 5
        assert not publisher.flush(0.1)
        assert publisher.facts().waiting == 5
        assert not publisher.answers()
    assert acknowledged == []
    assert "kafka is out of reach, waiting for it" in caplog.text


def test_missing_topic_is_waited_for(kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf) -> None:
    """Messages for a topic that does not exist yet wait for it."""
    made = kafka_settings_for()
    settings = Settings.model_validate(
        {"kafka": {"bootstrap": made.kafka.bootstrap, "topic_prefix": made.kafka.topic_prefix + "later-"}}
    )
    with publishing(settings) as (publisher, _):
        publisher.send(batch("dev-a", b"early"))
        assert not publisher.flush(0.5)
        create_topics(settings.kafka, [topic for topic in topics(settings) if "telemetry" in topic.name])
        assert publisher.flush(1_000)

    assert [message.value() for message in messages_of(settings, TELEMETRY)] == [b"early"]


def test_an_endpoint_writes_to_its_raw_topic_only(
    kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf
) -> None:
    """With publisher.topic everything goes there, cut lines too: the endpoint may have no right on any other topic."""
    settings = kafka_settings_for(publisher={"topic": "raw-ws-1"})
    create_topics(settings.kafka, [Topic(topic_name(settings, "raw-ws-1"), "", 4, {})])
    with publishing(settings) as (publisher, _):
        publisher.send(batch("dev-a", b"one"))
        publisher.send(batch("dev-a", b"beginning", reason=Reason.TOO_LONG, detail="99 bytes, limit 9, sha256 00"))
        assert publisher.flush(30)

    assert [message.value() for message in messages_of(settings, "raw-ws-1")] == [b"one", b"beginning"]


def test_too_long_line_is_rejected_with_its_length(
    kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf
) -> None:
    """A line that was cut goes to rejects with its reason, and is not counted as a message of its device."""
    settings = kafka_settings_for()
    with publishing(settings) as (publisher, acknowledged):
        publisher.send(batch("dev-a", b"beginning", reason=Reason.TOO_LONG, detail="99 bytes, limit 9, sha256 00"))
        publisher.send(batch("dev-a", b"next"))
        assert publisher.flush(30)

    (rejected,) = messages_of(settings, REJECTS)
    assert (rejected.key(), rejected.value()) == (b"dev-a", b"beginning")
    assert headers(rejected) == {
        "reason": b"too_long",
        "detail": b"99 bytes, limit 9, sha256 00",
        "dialect": b"suricata",
        "device": b"dev-a",
        "device_from": b"key",
    }
    assert sorted(acknowledged) == [0, 1]


def test_a_refused_line_is_rejected_whole(kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf) -> None:
    """A line that its sender may not write goes to rejects with all its bytes, and is not counted for the device.

    The bytes come from a seed: among others there may be some that look like a login, and are masked.
    """
    settings, line = kafka_settings_for(), Random(1).randbytes(2 * 1024 * 1024)
    with publishing(settings) as (publisher, acknowledged):
        publisher.send(batch("dev-a", line, reason=Reason.NOT_ALLOWED, detail="not by you", grant=NARROW))
        publisher.send(batch("dev-a", b"next"))
        assert publisher.flush(30)

    (rejected,) = messages_of(settings, REJECTS)
    assert (rejected.key(), rejected.value()) == (b"dev-a", line)
    assert headers(rejected) == {
        "reason": b"not_allowed",
        "detail": b"not by you",
        "dialect": b"suricata",
        "device": b"dev-a",
        "device_from": b"key",
        "claims": b"none",
    }
    assert sorted(acknowledged) == [0, 1]


def test_headers_name_what_a_sender_may_report(
    kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf
) -> None:
    """Whether verdicts count, and whose clock it is; without a grant neither is reported."""
    settings = kafka_settings_for()
    with publishing(settings) as (publisher, _):
        for name, grant in (("free", None), ("narrow", NARROW), ("wide", WIDE)):
            publisher.send(batch("dev-a", name.encode(), grant=grant))
        assert publisher.flush(30)

    found = {message.value(): headers(message) for message in messages_of(settings, TELEMETRY)}
    assert {value: (of.get("claims"), of.get("clock")) for value, of in found.items()} == {
        b"free": (None, None),
        b"narrow": (b"none", None),
        b"wide": (b"verdicts", b"log"),
    }


def test_large_line_passes_whole(kafka_settings_for: Callable[..., Settings], messages_of: MessagesOf) -> None:
    """A line of 12 MB that does not compress is published as it is."""
    settings = kafka_settings_for()
    line = os.urandom(12 * 1024 * 1024).replace(b"\n", b" ")
    with publishing(settings) as (publisher, _):
        publisher.send(batch("dev-a", line))
        assert publisher.flush(1_000)

    (message,) = messages_of(settings, TELEMETRY)
    assert message.value() == line


@pytest.fixture
def narrow(kafka_settings_for: Callable[..., Settings], broker: Broker) -> Settings:
    """Settings of a cluster whose telemetry takes 2,000 bytes a message."""
    made = kafka_settings_for()
    values: dict[str, Any] = {"bootstrap": broker.bootstrap, "topic_prefix": made.kafka.topic_prefix + "narrow-"}
    settings = Settings.model_validate({"kafka": values})
    name = topic_name(settings, TELEMETRY)
    create_topics(
        broker.settings,
        [
            replace(topic, config={**topic.config, "max.message.bytes": "2000"}) if topic.name == name else topic
            for topic in topics(settings)
        ],
    )
    return settings


def test_line_too_large_for_the_topic_is_rejected(narrow: Settings, messages_of: MessagesOf) -> None:
    """A single line that Kafka finds too large goes to rejects, and those after it are published."""
    line = os.urandom(5_000)
    with publishing(narrow) as (publisher, _):
        publisher.send(batch("dev-a", line))
        publisher.send(batch("dev-a", b"next"))
        assert publisher.flush(1_000)
        resends = {
            sample.name: sample.value
            for family in publisher_families(Report(), publisher.resends, 0)
            for sample in family.samples
        }["unproxy_publisher_resends_total"]

    assert resends >= 2  # alone, then to rejects
    (rejected,) = messages_of(narrow, REJECTS)
    assert rejected.value() == line
    assert headers(rejected)["reason"] == b"not_deliverable"
    assert [message.value() for message in messages_of(narrow, TELEMETRY)] == [b"next"]


def test_batch_too_large_for_the_topic_is_a_setting_to_change(narrow: Settings) -> None:
    """Many lines in one message that Kafka finds too large are not rejected: the error names which setting to lower."""
    with publishing(narrow) as (publisher, acknowledged):
        publisher.send(batch("dev-a", *(os.urandom(1_000) for _ in range(5))))
        with pytest.raises(PublisherFailed, match=r"lower publisher\.batch_bytes_max"):
            publisher.flush(1_000)

        assert len(list(publisher.outstanding())) == 1
    assert acknowledged == []


def test_fatal_error_ends_the_process(kafka_settings_for: Callable[..., Settings]) -> None:
    """When the client gives up its guarantees, publishing raises instead of going on without them."""
    with publishing(kafka_settings_for()) as (publisher, _):
        publisher.on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence is broken", fatal=True))
        with pytest.raises(PublisherFailed, match="sequence is broken"):
            publisher.serve()


def test_what_kafka_refused_is_not_taken_for_acknowledged(tmp_path: Path, messages_of: MessagesOf) -> None:
    """A partition that takes the second message right after it refused the first, as one that just got its leader may.

    With several requests in flight librdkafka takes the second's success for the first's, too: Kafka accepts any first
    sequence number of a producer it knows nothing of.
    """
    inner_port, port = free_port(), free_port()
    broker = ProxiedBroker(tmp_path / "kafka", inner_port, port)
    broker.start()
    settings = Settings.model_validate({"kafka": {"bootstrap": broker.bootstrap}})
    name = topic_name(settings, TELEMETRY)
    try:
        create_topics(broker.settings, topics(settings))
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})

        def replicas(number: int) -> None:
            entry = ConfigEntry("min.insync.replicas", str(number), incremental_operation=AlterConfigOpType.SET)
            topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
            admin.incremental_alter_configs([topic])[topic].result(20)

        def takes_it_again() -> None:
            replicas(1)
            time.sleep(0.5)  # until the broker applies it, which cannot be queried

        replicas(2)
        through = Settings.model_validate({"kafka": {"bootstrap": f"127.0.0.1:{port}"}})
        with HeldAnswer(port, inner_port, takes_it_again) as relay:
            with publishing(through) as (publisher, acknowledged):
                assert publisher.send(batch("dev", b"first"))
                deadline = time.monotonic() + 30
                while not relay.held:
                    assert time.monotonic() < deadline, "the first request did not come"
                    publisher.serve(0.01)
                assert publisher.send(batch("dev", b"second"))
                assert publisher.flush(60)
            relay.shutdown()
        values = [message.value() for message in messages_of(settings, name)]
    finally:
        broker.stop()

    assert values == [b"first", b"second"]
    assert acknowledged == [1, 2]
    assert not relay.followed
