"""Measures the pipeline's progress: from the producer's report, Kafka's offsets, the workers' /metrics and the tables."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from common.group_lag import GroupView
from schemas.metrics import BOOK
from schemas.settings import Settings
from schemas.topics import TABLE_OF_TOPIC, TELEMETRY, topic_name, topics
from unproxy.errors import Failed
from unproxy.query.client import of_settings

ASK_SECS_MAX = 3.0
EVERY_SECS = 0.5
STOP_SECS_MAX = 1.0

Offsets = dict[tuple[str, int], int]
"""Offsets by topic and partition."""

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>[-+.0-9eE]+)$")


@dataclass(slots=True)
class Reading:
    """The progress of the pipeline at one moment, as far as its parts answered."""

    at: float = 0.0
    """Monotonic time of the reading; 0 before the first one."""
    lines: int = 0
    """Number of lines sent."""
    dialects: Mapping[str, int] = field(default_factory=dict)
    """Number of lines sent, by dialect."""
    damage: str = ""
    """Description of damage in the input files; "" if there is none."""
    end: Offsets = field(default_factory=dict)
    """End offset of each partition."""
    committed: Offsets = field(default_factory=dict)
    """Committed offset of each partition: the workers' on the topic of lines, the sink's on the others."""
    book: dict[str, int] = field(default_factory=dict)
    """The workers' counts of lines and connections (`schemas.metrics.BOOK`), summed; empty while no worker answers."""
    books_answering: int = 0
    """Number of workers that have partitions and report these counts."""
    table_rows: dict[str, int] = field(default_factory=dict)
    """Number of rows that each view shows."""

    def behind(self, topic: str) -> int:
        """Return the number of unprocessed messages of a topic."""
        return sum(max(0, end - self.committed.get(place, 0)) for place, end in self.end.items() if place[0] == topic)

    def reached(self, goal: Offsets) -> bool:
        """Return whether all messages before the offsets of the goal are processed."""
        return all(self.committed.get(place, 0) >= offset for place, offset in goal.items())


class Meter:
    """Takes readings in its own thread, so that a slow answer does not delay the caller.

    `report` is the file in which the producer reports its progress.
    """

    def __init__(self, settings: Settings, worker_ports: list[int], report: Path) -> None:
        self._settings = settings
        self._worker_ports, self._report = worker_ports, report
        self._client = replace(of_settings(settings), timeout_secs=ASK_SECS_MAX)
        # A GroupView is a consumer that reads nothing. An admin client would abort the process if the broker died
        # during its request (librdkafka 2.16, rd_kafka_enq_once_del_source_return).
        self._worker_group = GroupView(settings.kafka, settings.worker.group, ASK_SECS_MAX, log_level=0)
        self._sink_group = GroupView(settings.kafka, settings.sink.group, ASK_SECS_MAX, log_level=0)
        self._places = [(topic.name, partition) for topic in topics(settings) for partition in range(topic.partitions)]
        self.telemetry = topic_name(settings, TELEMETRY)
        self.results = [topic_name(settings, name) for name in TABLE_OF_TOPIC]
        self._latest = Reading()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def start(self) -> None:
        """Start the thread that takes readings."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait for it at most `STOP_SECS_MAX` seconds."""
        self._ended.set()
        self._thread.join(STOP_SECS_MAX)

    @property
    def latest(self) -> Reading:
        """The latest reading."""
        return self._latest

    def _run(self) -> None:
        while not self._ended.is_set():
            self._latest = self.read()
            self._ended.wait(EVERY_SECS)
        self._worker_group.close()
        self._sink_group.close()

    def read(self) -> Reading:
        """Take a reading now. Offsets and row counts that cannot be read are those of the reading before."""
        before = self._latest
        sent = report(self._report)
        reading = Reading(
            time.monotonic(),
            sent.get("lines", 0),
            sent.get("dialects", {}),
            sent.get("damage", ""),
            table_rows=before.table_rows,
        )
        self._ask_workers(reading)
        try:
            progress = self._worker_group.progress(place for place in self._places if place[0] == self.telemetry)
            progress |= self._sink_group.progress(place for place in self._places if place[0] != self.telemetry)
            reading.end = {place: one.end for place, one in progress.items()}
            reading.committed = {place: one.committed for place, one in progress.items()}
        except KafkaException:
            reading.end, reading.committed = before.end, before.committed
        with suppress(Failed):
            counts = ", ".join(f"(SELECT count() FROM {table}) AS {table}" for table in TABLE_OF_TOPIC.values())
            (row,) = self._client.rows(f"SELECT {counts}")
            reading.table_rows = {name: int(count) for name, count in row.items()}
        return reading

    def _ask_workers(self, reading: Reading) -> None:
        for port in self._worker_ports:
            samples = scrape(port)
            if samples is None or BOOK["waiting"].name not in samples:
                continue  # the worker does not answer, or has no partitions at the moment
            reading.books_answering += 1
            for entry, metric in BOOK.items():
                for labels, value in samples.get(metric.name, {}).items():
                    name = f"{entry}:{labels}" if labels else entry
                    reading.book[name] = reading.book.get(name, 0) + value


def report(file: Path) -> dict[str, Any]:
    """Return the latest report of the producer; {} before the first one."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def scrape(port: int) -> Mapping[str, Mapping[str, int]] | None:
    """Return the samples of a /metrics page, by metric and value of its first label; None if it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECS_MAX)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            label = (match["labels"] or "").partition('="')[2].rstrip('"')
            found.setdefault(match["name"], {})[label] = int(float(match["value"]))
    return found
