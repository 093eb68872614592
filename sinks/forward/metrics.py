"""The HTTP pages of the forwarder: Prometheus metrics and health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import schemas.metrics as declared
from common.exporter import Family, by_label, one, served, spread
from common.health import Health, Looks
from schemas.settings import ForwardSettings
from sinks.forward.health import ForwardFacts, alive, ready
from sinks.forward.loop import Forwarder


def served_pages(settings: ForwardSettings, forwarder: Forwarder, looks: Looks) -> AbstractContextManager[None]:
    """Serve the pages within the context, if the settings name a port. Raises SettingsError."""

    def facts() -> ForwardFacts:
        return ForwardFacts(looks, forwarder.joined, forwarder.failing_since, forwarder.failed_at)

    health = Health(lambda: alive(facts(), time.monotonic()), lambda: ready(facts(), time.monotonic()))
    return served(
        "forward", settings.metrics_host, settings.metrics_port, lambda: forward_families(forwarder, looks), health
    )


def forward_families(forwarder: Forwarder, looks: Looks) -> Iterator[Family]:
    """Yield all metrics of a forwarder in Prometheus' families."""
    pending = forwarder.pending
    yield one(declared.FORWARD_LAG, sum(looks.lag_by_topic.values()))
    yield one(declared.FORWARD_READ, pending.read)
    yield one(declared.FORWARD_SENT, pending.sent)
    yield by_label(declared.FORWARD_SKIPPED, {why.value: count for why, count in pending.skipped.items()})
    yield one(declared.FORWARD_REFUSED, pending.refused)
    yield one(declared.FORWARD_WAITING, pending.waiting)
    yield one(declared.FORWARD_LEFT, pending.left)
    yield one(declared.FORWARD_MISSED, forwarder.missed)
    yield by_label(declared.FORWARD_RETRIES, {answer.value: count for answer, count in pending.retries.items()})
    yield one(declared.FORWARD_MISCONFIGURED, forwarder.is_misconfigured)
    yield one(declared.FORWARD_COMMIT_FAILURES, forwarder.commit_failures)
    yield spread(declared.FORWARD_LATENCY, {(): pending.latency_secs})
