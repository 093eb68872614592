"""What the tests of the forwarder share: alerts on the topic, a forwarder in a thread, what became of it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from common.health import Looks
from common.kafka import client_config
from schemas.events import ProtectionMode
from schemas.indicators import Severity
from schemas.settings import Settings
from schemas.tables import Alert
from schemas.topics import BLOCK_ALERTS, REJECTS, topic_name
from sinks.forward.alert import ForwardedAlert, read
from sinks.forward.loop import Forwarder
from sinks.forward.metrics import forward_families
from sinks.forward.run import open_target, sample

AT = 1_795_000_000_000_000
STOP_SECS_MAX = 10.0


def alert(name: str = "a1", version: int = 1, **changes: Any) -> Alert:
    """A version of an alert, of a device of its own."""
    given = {"AlertId": name, "Version": version, "DeviceId": f"dev-{name}", "Severity": Severity.MEDIUM, **changes}
    return msgspec.structs.replace(sample(AT), **given)


def seen(name: str = "a1", version: int = 1, **changes: Any) -> ForwardedAlert:
    """The same as the forwarder sees it."""
    forwarded = read(msgspec.json.encode(alert(name, version, **changes)))
    assert isinstance(forwarded, ForwardedAlert)
    return forwarded


def long_alert() -> ForwardedAlert:
    """One with everything, in awkward characters."""
    return seen(
        "0f3a", 12, Title="C2 | beacon \\ März", Category="C2=yes", DeviceName="Büro-7", DestinationDomain="böse.test",
        DestinationHosts=["198.51.100.7", "b.böse.test"], DestinationPort=8443, Count=3, Severity=Severity.HIGH,
        ProtectionMode=ProtectionMode.AUDIT, InitiatingProcessFileName="a b.exe", InitiatingProcessId=77,
        InitiatingProcessFolderPath="C:\\Temp\\a b.exe", InitiatingProcessCommandLine='a.exe --x="1|2"\nnext\x07',
        InitiatingProcessSHA256="ab" * 32, InitiatingProcessAccountName="müller", ProxyIP="10.0.0.1", ProxyPort=3128,
        ProxyName="front", IndicatorAction="block", IndicatorValue="böse.test", Techniques=["T1090", "T1090.004"],
        RecommendedAction="Look", Query='DeviceEvents | where X == "1"',
    )  # fmt: skip


def publish(settings: Settings, alerts: Sequence[Alert | bytes]) -> None:
    """Put them on the topic, as workers do: key = device."""
    producer = Producer({**client_config(settings.kafka), "linger.ms": 5})
    for one in alerts:
        raw, key = (one, b"") if isinstance(one, bytes) else (msgspec.json.encode(one), one.DeviceId.encode())
        producer.produce(topic_name(settings, BLOCK_ALERTS), value=raw, key=key)
    assert producer.flush(20.0) == 0


@contextmanager
def forwarding(settings: Settings) -> Iterator[Forwarder]:
    """A running forwarder; it must end within ten seconds, without an error, and its book must balance."""
    target = open_target(settings.forward)
    forwarder = Forwarder(settings, target)
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            forwarder.run(stop)
        except BaseException as error:  # noqa: BLE001  # raised again in the test's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield forwarder
    finally:
        stop.set()
        asked = time.monotonic()
        thread.join(2 * STOP_SECS_MAX)
        took = time.monotonic() - asked
        target.close()
    assert errors == []
    assert took < STOP_SECS_MAX
    pending = forwarder.pending
    assert pending.read == pending.sent + pending.skipped.total() + pending.refused + pending.left + pending.waiting


def metric(forwarder: Forwarder, name: str) -> dict[str, int]:
    """Return a metric's values by label, without zeros."""
    families = forward_families(forwarder, Looks())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {"".join(sample.labels.values()): int(sample.value) for sample in samples if sample.value}


def committed(settings: Settings, group: str) -> dict[int, int]:
    """Offsets of a group in the topic of alerts, of partitions where there are any."""
    consumer = Consumer({**client_config(settings.kafka), "group.id": group})
    places = [TopicPartition(topic_name(settings, BLOCK_ALERTS), partition) for partition in range(4)]
    found = {place.partition: place.offset for place in consumer.committed(places, timeout=10.0)}
    consumer.close()
    return {partition: offset for partition, offset in found.items() if offset >= 0}


def rejected(settings: Settings, count: int) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bytes of the first messages on the topic of rejects."""
    consumer = Consumer({**client_config(settings.kafka), "group.id": "looks", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic_name(settings, REJECTS), partition, 0) for partition in range(4)])
    found: list[tuple[dict[str, str], bytes]] = []
    deadline = time.monotonic() + 20.0
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            headers: Any = message.headers() or []
            found.append(({name: value.decode() for name, value in headers}, message.value() or b""))
    consumer.close()
    return found
