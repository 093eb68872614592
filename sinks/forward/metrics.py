"""The HTTP pages of the forwarder: Prometheus metrics and health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from common.exporter import Family, by_label, one, spread
from common.health import Looks
from schemas import metrics
from schemas.settings import ForwardSettings
from sinks import health
from sinks.forward.loop import Forwarder

STANDING_SECS_MAX = 120.0
"""Seconds that alerts may wait without a commit, while the receiver accepts alerts, before the forwarder is unhealthy."""


def served_pages(settings: ForwardSettings, forwarder: Forwarder, looks: Looks) -> AbstractContextManager[None]:
    """Serve the pages within the context, if the settings name a port. Raises SettingsError."""
    return health.served_pages(
        "forward",
        settings,
        lambda: forward_families(forwarder, looks),
        forwarder,
        looks,
        "the receiver has not taken an alert",
        STANDING_SECS_MAX,
    )


def forward_families(forwarder: Forwarder, looks: Looks) -> Iterator[Family]:
    """Yield all metrics of a forwarder in Prometheus' families."""
    pending = forwarder.pending
    yield one(metrics.FORWARD_LAG, sum(looks.lag_by_topic.values()))
    yield one(metrics.FORWARD_READ, pending.read)
    yield one(metrics.FORWARD_SENT, pending.sent)
    yield by_label(metrics.FORWARD_SKIPPED, {why.value: count for why, count in pending.skipped.items()})
    yield one(metrics.FORWARD_REFUSED, pending.refused)
    yield one(metrics.FORWARD_WAITING, pending.waiting)
    yield one(metrics.FORWARD_LEFT, pending.left)
    yield one(metrics.FORWARD_MISSED, forwarder.missed)
    yield by_label(metrics.FORWARD_RETRIES, {answer.value: count for answer, count in pending.retries.items()})
    yield one(metrics.FORWARD_MISCONFIGURED, forwarder.is_misconfigured)
    yield one(metrics.FORWARD_COMMIT_FAILURES, forwarder.commit_failures)
    yield spread(metrics.FORWARD_LATENCY, {(): pending.latency_secs})
