"""How our Kafka consumers behave in their groups, and how much they hold."""

from __future__ import annotations

from typing import Any

from common.kafka import client_config
from schemas.settings import ForwardSettings, KafkaSettings, SinkSettings


def group_config(kafka: KafkaSettings, member: SinkSettings | ForwardSettings) -> dict[str, Any]:
    """Settings of the consumer; callbacks are added by whoever has them."""
    return {
        **client_config(kafka),
        "group.id": member.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "max.poll.interval.ms": 600_000,
        "session.timeout.ms": round(member.session_timeout_secs * 1_000),
        # News of members that come and go travels with it.
        "heartbeat.interval.ms": 1_000,
        **({"group.instance.id": member.name} if member.name else {}),
        "topic.metadata.refresh.interval.ms": 10_000,
        # A commit that a lost connection swallowed holds up all batches for so long.
        "socket.timeout.ms": 10_000,
        # Fetched ahead: so much is held, and one fetch more, which is many times larger once decompressed.
        "queued.max.messages.kbytes": 32_768,
        "fetch.max.bytes": 1_048_576,
        "max.partition.fetch.bytes": 1_048_576,
        "fetch.wait.max.ms": 100,
        # A full queue would otherwise put off the next fetch for a whole second.
        "fetch.queue.backoff.ms": 10,
        # Errors come to error_cb; the library's own log would tell each try to reconnect.
        "log_level": 2,
    }
