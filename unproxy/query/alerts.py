"""Alerts: those in the table, and those that come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unproxy.query.client import Client
from unproxy.query.formats import printable

if TYPE_CHECKING:
    from schemas.settings import Settings

POLL_SECS = 0.2

Row = Mapping[str, Any]


def stored(client: Client, device: str, limit: int) -> Sequence[Row]:
    """The latest alerts of the table in time order; withdrawn ones are left out."""
    return client.rows(
        "SELECT * FROM (SELECT * FROM BlockAlerts WHERE Count > 0 "
        "AND ({device:String} = '' OR DeviceName = {device:String} OR DeviceId = {device:String}) "
        "ORDER BY LastTime DESC, AlertId LIMIT {limit:UInt64}) ORDER BY LastTime, AlertId",
        {"device": device, "limit": limit},
    )


def followed(settings: Settings, device: str, from_start: bool) -> Iterator[Row | None]:
    """Each change of an alert as it is published, and None now and then so that the caller can end."""
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

    from schemas.topics import BLOCK_ALERTS, topic_name
    from unproxy.wiring import kafka_client_config, partitions_of

    topic = topic_name(settings, BLOCK_ALERTS)
    start = OFFSET_BEGINNING if from_start else OFFSET_END
    partitions = partitions_of(settings, topic)
    # A group that nobody commits to: the client needs a name, and each follower sees everything.
    consumer = Consumer({**kafka_client_config(settings), "group.id": "unproxy-alerts", "enable.auto.commit": False})
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
