"""The HTTP pages of a process. Metrics are plain integers, read per request, so that no hot path depends on this module.

/metrics   metrics for Prometheus
/healthz   200 while the process is alive and makes progress, else 503
/readyz    200 while the process can do work, else 503

The bodies of /healthz and /readyz are one line of JSON, which includes the reason.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

import schemas.metrics as declared
from common.health import Health, Verdict
from common.histogram import Histogram
from schemas.metrics import Kind, Metric
from schemas.settings import SettingsError

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Labelled = Mapping[tuple[str, ...], float]
Families = Callable[[], Iterable[Family]]
"""A function that returns the current metrics. It is called in the thread that serves the page."""

STARTED_AT = time.time()
"""Start of this process, in seconds since 1970."""


def family(metric: Metric, values: Labelled) -> Family:
    """Return a declared metric; `values` maps label values to the metric's values."""
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(metric.name, metric.about, labels=metric.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def one(metric: Metric, value: float) -> Family:
    """Return a declared metric without labels, with its value."""
    return family(metric, {(): value})


def by_label(metric: Metric, counts: Mapping[str, int]) -> Family:
    """Return a declared metric with one label; `counts` maps label values to the metric's values."""
    return family(metric, {(label,): count for label, count in dict(counts).items()})


def spread(metric: Metric, histograms: Mapping[tuple[str, ...], Histogram]) -> Family:
    """Return a declared histogram metric; `histograms` maps label values to the counts."""
    made = HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
    for labels, histogram in histograms.items():
        bounds = [*map(str, histogram.bounds), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]
        made.add_metric(labels, buckets, histogram.total)
    return made


def process_families(health: Health) -> Iterator[Family]:
    """Yield the metrics that every process has."""
    try:
        installed = version("unproxy")
    except PackageNotFoundError:
        installed = "not installed"
    yield by_label(declared.BUILD_INFO, {installed: 1})
    yield one(declared.START_TIME, round(STARTED_AT))
    yield one(declared.ALIVE, health.alive().ok)
    yield one(declared.READY, health.ready().ok)


def serve(section: str, host: str, port: int, families: Families, health: Health) -> Callable[[], None]:
    """Serve the pages in a thread; return a function that stops the server. With port 0 nothing is served.

    Raises SettingsError if the address cannot be bound; the message names `section`, the section of the settings.
    """
    if not port:
        return lambda: None
    registry = CollectorRegistry()
    registry.register(_Page(families, health))
    try:
        server = _server(host, port)
    except OSError as error:
        raise SettingsError(
            f"{section}.metrics_port: cannot listen on {host}:{port}: {error.strerror}; choose another, or 0 for none"
        ) from None
    server.set_app(_pages(make_wsgi_app(registry), health))
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


@contextmanager
def served(section: str, host: str, port: int, families: Families, health: Health) -> Iterator[None]:
    """Serve the pages within the context. Arguments and exceptions are those of `serve`."""
    stop = serve(section, host, port, families, health)
    try:
        yield
    finally:
        stop()


class _Page(Collector):
    def __init__(self, families: Families, health: Health) -> None:
        self._families = families
        self._health = health

    def collect(self) -> Iterable[Family]:
        yield from process_families(self._health)
        yield from self._families()


def _pages(metrics: WSGIApplication, health: Health) -> WSGIApplication:
    """Return the application that dispatches to the pages."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start)
        asked = {"/healthz": health.alive, "/readyz": health.ready}.get(path)
        if asked is None:
            return _say(start, "404 Not Found", Verdict(False, "the pages are /metrics, /healthz and /readyz"))
        verdict = asked()
        return _say(start, "200 OK" if verdict.ok else "503 Service Unavailable", verdict)

    return answer


def _say(start: StartResponse, status: str, verdict: Verdict) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(verdict._asdict()).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Do not log scrapes."""


def _server(host: str, port: int) -> _Server:
    """Return a server that is listening already."""
    found, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)

    class OfFamily(_Server):
        address_family = found[0]

    return OfFamily((host, port), _Quiet)
