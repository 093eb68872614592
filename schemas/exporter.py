"""A page for Prometheus: plain integers, read when somebody asks, so that no hot path knows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from schemas.metrics import Kind, Metric
from schemas.settings import SettingsError

Family = CounterMetricFamily | GaugeMetricFamily
Labelled = Mapping[tuple[str, ...], float]
Families = Callable[[], Iterable[Family]]
"""Reads the numbers as they are now; called in the page's own thread."""


def family(metric: Metric, values: Labelled) -> Family:
    """One declared metric with its values."""
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(metric.name, metric.about, labels=metric.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def one(metric: Metric, value: float) -> Family:
    """One declared metric without labels."""
    return family(metric, {(): value})


def by_label(metric: Metric, counts: Mapping[str, int]) -> Family:
    """One declared metric with one label."""
    return family(metric, {(label,): count for label, count in dict(counts).items()})


def serve(section: str, host: str, port: int, families: Families) -> Callable[[], None]:
    """Serve /metrics in a thread until what this gives is called; port 0 is for none.

    Raises SettingsError, naming the section of the settings, when nobody can listen there.
    """
    if not port:
        return lambda: None
    registry = CollectorRegistry()
    registry.register(_Page(families))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"{section}.metrics_port: cannot listen on {host}:{port}: {error.strerror}; choose another, or 0 for none"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


@contextmanager
def served(section: str, host: str, port: int, families: Families) -> Iterator[None]:
    """Have /metrics served meanwhile."""
    stop = serve(section, host, port, families)
    try:
        yield
    finally:
        stop()


class _Page(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families()
