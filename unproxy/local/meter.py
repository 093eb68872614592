"""Reads how far everything is: from Kafka's offsets, from what the parts tell on /metrics, from the tables."""

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

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

import schemas.metrics as declared
from common.kafka import client_config
from schemas.settings import Settings
from schemas.topics import TABLE_OF_TOPIC, TELEMETRY, topic_name, topics
from unproxy.errors import Failed
from unproxy.query.client import of_settings

ASK_SECS_MAX = 3.0
EVERY_SECS = 0.5
STOP_SECS_MAX = 1.0

Offsets = dict[tuple[str, int], int]

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>[-+.0-9eE]+)$")


@dataclass(slots=True)
class Reading:
    """How far everything is, as far as it could be asked."""

    at: float = 0.0
    lines: int = 0
    dialects: Mapping[str, int] = field(default_factory=dict)
    """Lines sent by what they are written in."""
    damage: str = ""
    end: Offsets = field(default_factory=dict)
    """End of every topic, by topic and partition."""
    committed: Offsets = field(default_factory=dict)
    """Where worker and sink stand."""
    book: dict[str, int] = field(default_factory=dict)
    """The workers' book, summed; empty while none answers."""
    books_answering: int = 0
    """Workers that have partitions and tell of them."""
    table_rows: dict[str, int] = field(default_factory=dict)
    """Rows as hunters see them."""

    def behind(self, topic: str) -> int:
        """Messages of a topic that are not worked on yet."""
        return sum(max(0, end - self.committed.get(place, 0)) for place, end in self.end.items() if place[0] == topic)

    def reached(self, goal: Offsets) -> bool:
        """Whether everything up to the goal was worked on."""
        return all(self.committed.get(place, 0) >= offset for place, offset in goal.items())


class Meter:
    """Asks everybody, in a thread of its own: an answer that takes long holds up nobody."""

    def __init__(self, settings: Settings, worker_ports: list[int], report: Path) -> None:
        self._settings = settings
        self._worker_ports, self._report = worker_ports, report
        self._client = replace(of_settings(settings), timeout_secs=ASK_SECS_MAX)
        # Consumers that read nothing: an admin client aborts the process when a broker dies under its requests
        # (librdkafka 2.16, rd_kafka_enq_once_del_source_return).
        self._worker_group = _looker(settings, settings.worker.group)
        self._sink_group = _looker(settings, settings.sink.group)
        self._places = [(topic.name, partition) for topic in topics(settings) for partition in range(topic.partitions)]
        self.telemetry = topic_name(settings, TELEMETRY)
        self.results = [topic_name(settings, name) for name in TABLE_OF_TOPIC]
        self._latest = Reading()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join(STOP_SECS_MAX)

    @property
    def latest(self) -> Reading:
        """The newest reading."""
        return self._latest

    def _run(self) -> None:
        while not self._ended.is_set():
            self._latest = self.read()
            self._ended.wait(EVERY_SECS)
        self._worker_group.close()
        self._sink_group.close()

    def read(self) -> Reading:
        """Ask everybody now; who does not answer is left as it was."""
        before = self._latest
        reading = Reading(time.monotonic(), table_rows=before.table_rows)
        self._ask_producer(reading)
        self._ask_workers(reading)
        try:
            reading.end = self._ends()
            reading.committed = {
                **self._stands(self._worker_group, [self.telemetry]),
                **self._stands(self._sink_group, self.results),
            }
        except KafkaException:
            reading.end, reading.committed = before.end, before.committed
        with suppress(Failed):
            reading.table_rows = self._rows()
        return reading

    def _ends(self) -> Offsets:
        # Asked for the offset of the time "end", the broker answers with the end: all partitions in one request.
        asked = [TopicPartition(topic, partition, OFFSET_END) for topic, partition in self._places]
        told = self._sink_group.offsets_for_times(asked, timeout=ASK_SECS_MAX)
        return {(place.topic, place.partition): place.offset for place in told}

    def _stands(self, consumer: Consumer, names: list[str]) -> Offsets:
        asked = [TopicPartition(*place) for place in self._places if place[0] in names]
        told = consumer.committed(asked, timeout=ASK_SECS_MAX)
        return {(place.topic, place.partition): max(0, place.offset) for place in told}

    def _ask_producer(self, reading: Reading) -> None:
        told = report(self._report)
        reading.lines, reading.damage = told.get("lines", 0), told.get("damage", "")
        reading.dialects = told.get("dialects", {})

    def _ask_workers(self, reading: Reading) -> None:
        for port in self._worker_ports:
            samples = scrape(port)
            if samples is None or declared.BOOK["waiting"].name not in samples:
                continue  # away, or without partitions for the moment
            reading.books_answering += 1
            for entry, metric in declared.BOOK.items():
                for labels, value in samples.get(metric.name, {}).items():
                    name = f"{entry}:{labels}" if labels else entry
                    reading.book[name] = reading.book.get(name, 0) + value

    def _rows(self) -> dict[str, int]:
        counts = ", ".join(f"(SELECT count() FROM {table}) AS {table}" for table in TABLE_OF_TOPIC.values())
        (row,) = self._client.rows(f"SELECT {counts}")
        return {name: int(count) for name, count in row.items()}


def _looker(settings: Settings, group: str) -> Consumer:
    return Consumer(
        {
            **client_config(settings.kafka),
            "group.id": group,
            "enable.auto.commit": False,
            "log_level": 0,
            "reconnect.backoff.max.ms": 1_000,
        }
    )


def report(file: Path) -> dict[str, Any]:
    """What the producer told last; nothing before it told anything."""
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def scrape(port: int) -> Mapping[str, Mapping[str, int]] | None:
    """Samples of a /metrics page by name and value of the label; None when nobody answers."""
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
