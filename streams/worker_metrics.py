"""The worker's page for Prometheus: reads plain integers when it is asked, so the hot path knows nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

import schemas.metrics as declared
from schemas.metrics import Kind, Metric
from schemas.settings import WorkerSettings
from streams.worker_counters import WorkerCounters

Family = CounterMetricFamily | GaugeMetricFamily
Books = Callable[[], Iterable[Mapping[str, int]]]
"""Gives the books of all own partitions; called in the exporter's thread."""
Labelled = Mapping[tuple[str, ...], int]


def serve_metrics(worker: WorkerSettings, counters: WorkerCounters, books: Books) -> None:
    """Serve /metrics in a thread, if the settings name a port."""
    if not worker.metrics_port:
        return
    registry = CollectorRegistry()
    registry.register(WorkerCollector(counters, books))
    start_http_server(worker.metrics_port, worker.metrics_host, registry)


class WorkerCollector(Collector):
    """All that a worker counts, as Prometheus wants it."""

    def __init__(self, counters: WorkerCounters, books: Books) -> None:
        self._counters = counters
        self._books = books

    def collect(self) -> Iterator[Family]:
        """Read the numbers as they are now."""
        own = self._counters
        for metric, value in (
            (declared.WORKER_MESSAGES, own.messages),
            (declared.WORKER_BATCHES, own.batches),
            (declared.WORKER_STALE, own.messages_stale),
            (declared.WORKER_RESENDS, own.resends),
            (declared.WORKER_UNDELIVERABLE, own.undeliverable),
            (declared.WORKER_CHECKPOINT_ENTRIES, own.checkpoint_entries),
            (declared.WORKER_CHECKPOINT_BYTES, own.checkpoint_bytes),
            (declared.WORKER_LEASE_WAITS, own.lease_waits),
            (declared.WORKER_TICKS, own.ticks),
        ):
            yield family(metric, {(): value})
        yield family(declared.WORKER_DELIVERED, {(topic,): count for topic, count in dict(own.delivered).items()})
        yield from book_families(self._books())


def book_families(books: Iterable[Mapping[str, int]]) -> Iterator[Family]:
    """The books of all own partitions, summed, as metrics."""
    total: Counter[str] = Counter()
    for book in books:
        total.update(book)
    values: dict[Metric, dict[tuple[str, ...], int]] = {}
    for entry, count in sorted(total.items()):
        name, colon, label = entry.partition(":")
        metric = declared.BOOK.get(name)
        if metric is not None and bool(colon) == bool(metric.labels):
            values.setdefault(metric, {})[(label,) if colon else ()] = count
        else:
            values.setdefault(declared.BOOK_OTHER, {})[(entry,)] = count
    for metric, labelled in values.items():
        yield family(metric, labelled)


def family(metric: Metric, values: Labelled) -> Family:
    """One declared metric with its values."""
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(metric.name, metric.about, labels=metric.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
