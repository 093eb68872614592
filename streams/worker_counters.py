"""What the worker counts about itself: plain integers, read by the exporter."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    checkpoint_entries: int = 0
    checkpoint_bytes: int = 0
    lease_waits: int = 0
    ticks: int = 0
    reject_rate: float = 0.0
    reject_rate_over: bool = False

    def deliver(self, topic: str) -> None:
        """Count one message that Kafka acknowledged."""
        self.delivered[topic] = self.delivered.get(topic, 0) + 1
