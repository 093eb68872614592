"""The worker's own counters: plain numbers, read by the exporter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from common.histogram import Histogram
from schemas import metrics
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message


@dataclass(slots=True)
class WorkerCounters:
    """Totals since the process started."""

    messages: int = 0
    batches: int = 0
    messages_stale: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    """Messages acknowledged by Kafka, by topic."""
    resends: int = 0
    undeliverable: int = 0
    quarantined: int = 0
    """Messages rejected unread, in full or in part, because they ended workers."""
    checkpoint_entries: int = 0
    checkpoint_bytes: int = 0
    lease_waits: int = 0
    ticks: int = 0
    rebalances: dict[str, int] = field(default_factory=lambda: {"assigned": 0, "revoked": 0})
    batch_messages: Histogram = field(default_factory=lambda: Histogram(metrics.WORKER_BATCH_MESSAGES.buckets))
    latency_secs: Histogram = field(default_factory=lambda: Histogram(metrics.WORKER_LATENCY.buckets))
    reject_rate: float = 0.0
    reject_rate_over: bool = False

    def deliver(self, topic: str) -> None:
        """Count one message that Kafka acknowledged."""
        self.delivered[topic] = self.delivered.get(topic, 0) + 1

    def note_delivered(self, messages: Iterable[Message], now: float) -> None:
        """Record the latency of these messages: Kafka has all of their outputs at `now`, in seconds since 1970.

        Ticks do not count.
        """
        for message in messages:
            if message.dialect != TICK_DIALECT:
                # The broker's clock may be ahead by more than the processing took.
                self.latency_secs.add(max(0.0, now - message.logged_ms / 1000))
