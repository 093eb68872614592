"""Settings of Kafka consumers: group membership and buffer sizes."""

from __future__ import annotations

from typing import Any

from common.kafka import client_config
from schemas.settings import ForwardSettings, KafkaSettings, SinkSettings


def member_config(group: str, name: str, session_timeout_secs: float) -> dict[str, Any]:
    """Return the librdkafka settings of a group's consumer, without those of the cluster. `name` makes a static member."""
    return {
        "group.id": group,
        **({"group.instance.id": name} if name else {}),
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        # Longest pause between two polls before the partitions go to another member.
        "max.poll.interval.ms": 600_000,
        "session.timeout.ms": round(session_timeout_secs * 1_000),
        # Prefetch limit. A consumer holds this much plus one fetch, which is many times larger once decompressed.
        "queued.max.messages.kbytes": 32_768,
        "fetch.wait.max.ms": 100,
        # By default, a full queue delays the next fetch by a whole second.
        "fetch.queue.backoff.ms": 10,
        # Errors are delivered to error_cb; the library's own log would add an entry per reconnect.
        "log_level": 2,
    }


def group_config(kafka: KafkaSettings, member: SinkSettings | ForwardSettings) -> dict[str, Any]:
    """Return the settings of a consumer of our own topics; the caller adds callbacks."""
    return {
        **client_config(kafka),
        **member_config(member.group, member.name, member.session_timeout_secs),
        # Rebalances are announced with heartbeats.
        "heartbeat.interval.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        # A commit that is lost with its connection delays all batches for this long.
        "socket.timeout.ms": 10_000,
        "fetch.max.bytes": 1_048_576,
        "max.partition.fetch.bytes": 1_048_576,
    }
