"""The HTTP pages of the sink: Prometheus metrics, read from its loop, and health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import schemas.metrics as declared
from common.exporter import Family, by_label, one, served, spread
from common.health import Health, Looks
from schemas.settings import Settings
from sinks.consumer import SinkLoop
from sinks.health import SinkFacts, alive, ready


def served_pages(settings: Settings, loop: SinkLoop, looks: Looks) -> AbstractContextManager[None]:
    """Serve the pages within the context, if the settings name a port. Raises SettingsError."""

    def facts() -> SinkFacts:
        return SinkFacts(looks, loop.joined, loop.failing_since, loop.failed_at)

    def families() -> Iterator[Family]:
        yield by_label(declared.SINK_LAG, looks.lag_by_topic)
        yield from sink_families(loop)

    insert_secs_max = settings.clickhouse.timeout_secs
    health = Health(
        lambda: alive(facts(), insert_secs_max, time.monotonic()),
        lambda: ready(facts(), insert_secs_max, time.monotonic()),
    )
    return served("sink", settings.sink.metrics_host, settings.sink.metrics_port, families, health)


def sink_families(loop: SinkLoop) -> Iterator[Family]:
    """Yield all metrics of a sink in Prometheus' families."""
    waiting = loop.rows_waiting()
    written = loop.written()
    yield by_label(declared.SINK_MESSAGES, loop.messages_by_topic)
    yield by_label(declared.SINK_MESSAGES_MISSED, loop.missed_by_topic)
    yield by_label(declared.SINK_ROWS_READ, loop.rows_by_topic)
    yield by_label(declared.SINK_ROWS_WRITTEN, written.rows)
    yield by_label(declared.SINK_ROWS_WAITING, waiting)
    yield by_label(declared.SINK_BATCHES_WRITTEN, written.batches)
    yield by_label(declared.SINK_RETRIES, written.retries)
    yield by_label(declared.SINK_ROWS_REFUSED, written.rows_refused)
    yield by_label(declared.SINK_ROWS_LEFT, written.rows_left)
    yield by_label(declared.SINK_REBALANCES, loop.rebalances)
    yield one(declared.SINK_COMMIT_FAILURES, loop.commit_failures)
    yield spread(declared.SINK_BATCH_ROWS, {(table,): some for table, some in written.batch_rows.items()})
    yield spread(declared.SINK_LATENCY, {(table,): some for table, some in written.latency_secs.items()})
