"""The HTTP pages of the sink: Prometheus metrics, read from its loop, and health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from common.exporter import Family, by_label, one, spread
from common.health import Looks
from schemas import metrics
from schemas.settings import Settings
from sinks import health
from sinks.consumer import SinkLoop


def served_pages(settings: Settings, loop: SinkLoop, looks: Looks) -> AbstractContextManager[None]:
    """Serve the pages within the context, if the settings name a port. Raises SettingsError."""
    secs_max = health.standing_secs_max(settings.clickhouse.timeout_secs)
    return health.served_pages(
        "sink",
        settings.sink,
        lambda: (by_label(metrics.SINK_LAG, looks.lag_by_topic), *sink_families(loop)),
        loop,
        looks,
        "ClickHouse has taken nothing",
        secs_max,
    )


def sink_families(loop: SinkLoop) -> Iterator[Family]:
    """Yield all metrics of a sink in Prometheus' families."""
    waiting = loop.rows_waiting()
    written = loop.written()
    yield by_label(metrics.SINK_MESSAGES, loop.messages_by_topic)
    yield by_label(metrics.SINK_MESSAGES_MISSED, loop.missed_by_topic)
    yield by_label(metrics.SINK_ROWS_READ, loop.rows_by_topic)
    yield by_label(metrics.SINK_ROWS_WRITTEN, written.rows)
    yield by_label(metrics.SINK_ROWS_WAITING, waiting)
    yield by_label(metrics.SINK_BATCHES_WRITTEN, written.batches)
    yield by_label(metrics.SINK_RETRIES, written.retries)
    yield by_label(metrics.SINK_ROWS_REFUSED, written.rows_refused)
    yield by_label(metrics.SINK_ROWS_LEFT, written.rows_left)
    yield by_label(metrics.SINK_REBALANCES, loop.rebalances)
    yield one(metrics.SINK_COMMIT_FAILURES, loop.commit_failures)
    yield spread(metrics.SINK_BATCH_ROWS, {(table,): some for table, some in written.batch_rows.items()})
    yield spread(metrics.SINK_LATENCY, {(table,): some for table, some in written.latency_secs.items()})
