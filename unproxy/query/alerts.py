"""Alerts: those in the table, and those that come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unproxy.query.client import Client
from unproxy.query.formats import printable

if TYPE_CHECKING:
    from schemas.settings import Settings

POLL_SECS = 0.2
SAY_SECS = 10.0

Row = Mapping[str, Any]


def stored(client: Client, device: str, limit: int) -> Sequence[Row]:
    """The latest alerts of the table in time order; withdrawn ones are left out."""
    return client.rows(
        "SELECT * FROM (SELECT * FROM BlockAlerts WHERE Count > 0 "
        "AND ({device:String} = '' OR DeviceName = {device:String} OR DeviceId = {device:String}) "
        "ORDER BY LastTime DESC, AlertId LIMIT {limit:UInt64}) ORDER BY LastTime, AlertId",
        {"device": device, "limit": limit},
    )


def followed(settings: Settings, device: str, from_start: bool, say: Callable[[str], None]) -> Iterator[Row | None]:
    """Each change of an alert as it is published, and None now and then so that the caller can end.

    While Kafka is away it waits, and `say` hears of it once in a while. Raises Fixable when there is no such topic.
    """
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition

    from schemas.topics import BLOCK_ALERTS, topic_name
    from unproxy.errors import KafkaAway
    from unproxy.wiring import kafka_client_config, partitions_of

    topic = topic_name(settings, BLOCK_ALERTS)
    start = OFFSET_BEGINNING if from_start else OFFSET_END
    bootstrap = settings.kafka.bootstrap
    said_at = -SAY_SECS

    def say_seldom(what: str) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SAY_SECS:
            said_at = time.monotonic()
            say(what)

    def on_error(error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            say_seldom(f"{bootstrap}: Kafka went away ({error.str()}); waiting for it to come back")

    partitions: list[int] = []
    while not partitions:
        try:
            partitions = partitions_of(settings, topic, secs_max=0)
        except KafkaAway as error:
            say_seldom(f"waiting for Kafka: {error}")
            yield None
    # A group that nobody commits to: the client needs a name, and each follower sees everything.
    consumer = Consumer(
        {
            **kafka_client_config(settings),
            "group.id": "unproxy-alerts",
            "enable.auto.commit": False,
            "error_cb": on_error,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition in partitions])
        while True:
            message = consumer.poll(POLL_SECS)
            if message is None or message.error():
                yield None
                continue
            alert = json.loads(message.value() or b"{}")
            if not device or device in (alert.get("DeviceId"), alert.get("DeviceName")):
                yield alert
    finally:
        consumer.close()


def line(alert: Row) -> str:
    """One alert as one line."""
    process = alert["InitiatingProcessFileName"] or "unknown process"
    pid = f" ({alert['InitiatingProcessId']})" if alert["InitiatingProcessId"] is not None else ""
    hosts = ", ".join(alert["DestinationHosts"][:5])
    through = f" through {alert['ProxyIP']}" if alert["ProxyIP"] else ""
    count = "withdrawn" if not alert["Count"] else f"{alert['Count']} request{'s' if alert['Count'] > 1 else ''}"
    last = str(alert["LastTime"]).replace("T", " ").removesuffix("Z")[:23]
    return printable(
        f"{last}  {alert['Kind']:8}  {alert['DeviceName']}  {process}{pid}  {alert['DestinationDomain']} ({hosts})"
        f"{through}  {count}  {alert['Title']}  [{alert['AlertId'][:12]}]"
    )
