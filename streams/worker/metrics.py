"""The worker's HTTP pages: its own counters and the sums of the pipelines' counters for Prometheus, and its health."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

import schemas.metrics as declared
from common.exporter import Family, by_label, family, one, serve, spread
from common.health import Health
from schemas.metrics import Metric
from schemas.settings import WorkerSettings
from streams.model.counters import Counters, parts_of
from streams.worker.counters import WorkerCounters
from streams.worker.health import WorkerFacts, alive, ready

Books = Callable[[], Iterable[Mapping[str, int]]]
"""Returns the counters of all own partitions' pipelines; called in the exporter's thread."""


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
    yield one(declared.WORKER_MESSAGES, own.messages)
    yield one(declared.WORKER_BATCHES, own.batches)
    yield one(declared.WORKER_STALE, own.messages_stale)
    yield one(declared.WORKER_RESENDS, own.resends)
    yield one(declared.WORKER_UNDELIVERABLE, own.undeliverable)
    yield one(declared.WORKER_QUARANTINED, own.quarantined)
    yield one(declared.WORKER_CHECKPOINT_ENTRIES, own.checkpoint_entries)
    yield one(declared.WORKER_CHECKPOINT_BYTES, own.checkpoint_bytes)
    yield one(declared.WORKER_LEASE_WAITS, own.lease_waits)
    yield one(declared.WORKER_TICKS, own.ticks)
    yield one(declared.WORKER_LAG, lag)
    yield by_label(declared.WORKER_REBALANCES, own.rebalances)
    yield one(declared.REJECT_RATE, own.reject_rate)
    yield one(declared.REJECT_RATE_OVER, own.reject_rate_over)
    yield by_label(declared.WORKER_DELIVERED, own.delivered)
    yield spread(declared.WORKER_BATCH_MESSAGES, {(): own.batch_messages})
    yield spread(declared.WORKER_LATENCY, {(): own.latency_secs})
    yield from book_families(books)


def book_families(books: Iterable[Mapping[str, int]]) -> Iterator[Family]:
    """Yield the counters of all own partitions' pipelines, summed, as Prometheus families."""
    total = Counters()
    for book in books:
        total.merge(book)
    values: dict[Metric, dict[tuple[str, ...], int]] = {}
    for entry, count in sorted(total.items()):
        name, label = parts_of(entry)
        metric = declared.BOOK.get(name)
        if metric is not None and bool(label) == bool(metric.labels):
            values.setdefault(metric, {})[(label,) if label else ()] = count
        else:
            values.setdefault(declared.BOOK_OTHER, {})[(entry,)] = count
    for metric, labelled in values.items():
        yield family(metric, labelled)
