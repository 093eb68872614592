"""The worker's HTTP pages: its own counters and the sums of the pipelines' counters for Prometheus, and its health."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from common.exporter import Family, by_label, family, one, serve, spread
from common.health import Health
from schemas import metrics
from schemas.metrics import Metric
from schemas.settings import WorkerSettings
from streams.model.counters import Counters, parts_of
from streams.worker.counters import WorkerCounters
from streams.worker.health import WorkerFacts, alive, ready

Books = Callable[[], Iterable[Mapping[str, int]]]
"""Function that returns the counters of the pipelines of all own partitions; called in the exporter's thread."""


def serve_pages(
    worker: WorkerSettings,
    counters: WorkerCounters,
    facts: WorkerFacts,
    books: Books,
    feed: Callable[[], Iterable[Family]],
) -> None:
    """Serve the pages in a thread until the process ends, if the settings name a port. Raises SettingsError."""
    serve(
        "worker",
        worker.metrics_host,
        worker.metrics_port,
        lambda: chain(worker_families(counters, facts.looks.lag, books()), feed()),
        Health(
            lambda: alive(facts, worker.stall_secs_max, time.monotonic()),
            lambda: ready(facts, worker.stall_secs_max, time.monotonic()),
        ),
    )


def worker_families(own: WorkerCounters, lag: int, books: Iterable[Mapping[str, int]]) -> Iterator[Family]:
    """Yield all of a worker's metrics as Prometheus families."""
    yield one(metrics.WORKER_MESSAGES, own.messages)
    yield one(metrics.WORKER_BATCHES, own.batches)
    yield one(metrics.WORKER_STALE, own.messages_stale)
    yield one(metrics.WORKER_RESENDS, own.resends)
    yield one(metrics.WORKER_UNDELIVERABLE, own.undeliverable)
    yield one(metrics.WORKER_QUARANTINED, own.quarantined)
    yield one(metrics.WORKER_CHECKPOINT_ENTRIES, own.checkpoint_entries)
    yield one(metrics.WORKER_CHECKPOINT_BYTES, own.checkpoint_bytes)
    yield one(metrics.WORKER_LEASE_WAITS, own.lease_waits)
    yield one(metrics.WORKER_TICKS, own.ticks)
    yield one(metrics.WORKER_LAG, lag)
    yield by_label(metrics.WORKER_REBALANCES, own.rebalances)
    yield one(metrics.REJECT_RATE, own.reject_rate)
    yield one(metrics.REJECT_RATE_OVER, own.reject_rate_over)
    yield by_label(metrics.WORKER_DELIVERED, own.delivered)
    yield spread(metrics.WORKER_BATCH_MESSAGES, {(): own.batch_messages})
    yield spread(metrics.WORKER_LATENCY, {(): own.latency_secs})
    yield from book_families(books)


def book_families(books: Iterable[Mapping[str, int]]) -> Iterator[Family]:
    """Yield the counters of all own partitions' pipelines, summed, as Prometheus families."""
    total = Counters()
    for book in books:
        total.merge(book)
    values: dict[Metric, dict[tuple[str, ...], int]] = {}
    for entry, count in sorted(total.items()):
        name, label = parts_of(entry)
        metric = metrics.BOOK.get(name)
        if metric is not None and bool(label) == bool(metric.labels):
            values.setdefault(metric, {})[(label,) if label else ()] = count
        else:
            values.setdefault(metrics.BOOK_OTHER, {})[(entry,)] = count
    for metric, labelled in values.items():
        yield family(metric, labelled)
