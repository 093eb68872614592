"""Settings of Kafka consumers: group membership and buffer sizes."""

from __future__ import annotations

from typing import Any

from common.kafka import client_config
from schemas.settings import ForwardSettings, KafkaSettings, SinkSettings


def group_config(kafka: KafkaSettings, member: SinkSettings | ForwardSettings) -> dict[str, Any]:
    """Return the librdkafka settings of a consumer in the member's group; the caller adds callbacks."""
    return {
        **client_config(kafka),
        "group.id": member.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "max.poll.interval.ms": 600_000,
        "session.timeout.ms": round(member.session_timeout_secs * 1_000),
        # Rebalances are announced with heartbeats.
        "heartbeat.interval.ms": 1_000,
        **({"group.instance.id": member.name} if member.name else {}),
        "topic.metadata.refresh.interval.ms": 10_000,
        # A commit that is lost with its connection delays all batches for this long.
        "socket.timeout.ms": 10_000,
        # Prefetch limit. A consumer holds this much plus one fetch, which is many times larger once decompressed.
        "queued.max.messages.kbytes": 32_768,
        "fetch.max.bytes": 1_048_576,
        "max.partition.fetch.bytes": 1_048_576,
        "fetch.wait.max.ms": 100,
        # By default, a full queue delays the next fetch by a whole second.
        "fetch.queue.backoff.ms": 10,
        # Errors are delivered to error_cb; the library's own log would add an entry per reconnect.
        "log_level": 2,
    }
