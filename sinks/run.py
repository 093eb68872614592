"""The sink process: loop, health and metrics page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from common.group_watch import Watch
from common.health import Looks
from schemas.settings import Settings
from sinks.clickhouse import ClickHouseSink
from sinks.consumer import SinkLoop
from sinks.health import standing_secs_max
from sinks.metrics import served_pages


def run(settings: Settings, stop: threading.Event, started: Callable[[SinkLoop], None] = lambda _: None) -> None:
    """Write rows from Kafka to the ClickHouse server of these settings until `stop` is set.

    `started` is called with the loop before it runs, so that another thread can read its counters.
    """
    sinks = [ClickHouseSink(settings.clickhouse) for _ in range(settings.sink.inserts_max)]
    try:
        loop = SinkLoop(settings, sinks)
        looks = Looks(silent_since=time.monotonic())
        stall_secs_max = standing_secs_max(settings.clickhouse.timeout_secs)
        watch = Watch(settings.kafka, settings.sink.group, loop.topics, looks, loop, stall_secs_max)
        watch.start()
        try:
            with served_pages(settings, loop, looks):
                started(loop)
                loop.run(stop)
        finally:
            watch.stop()
    finally:
        for sink in sinks:
            sink.close()
