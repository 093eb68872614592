"""The sink's page for Prometheus, read from its loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import schemas.metrics as declared
from schemas.exporter import Family, by_label

if TYPE_CHECKING:
    from sinks.consumer import SinkLoop


def sink_families(loop: SinkLoop) -> Iterator[Family]:
    """All that a sink counts, as Prometheus wants it."""
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
