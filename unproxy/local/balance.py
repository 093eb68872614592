"""The balance of the book: what came in is what went out, each difference with its reason.

    lines read            = parsed + ignored + rejected                   the workers' own count, kept in their state
    connections           = resolved + unresolved (reason) + waiting      the same
    rows on the topics    = rows in the table + waiting                   counted on both sides, row by row

Of a row on a topic only the latest version counts, as in the table, whether hunters are shown it or not. Both sides are
summed over the versions, too: a table that holds the right number of rows in the wrong version does not balance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.kafka import client_config
from schemas.columns import columns
from schemas.ddl import VERSIONS
from schemas.settings import Settings
from schemas.tables import TABLES
from schemas.topics import BLOCK_ALERTS, REJECTS, TABLE_OF_TOPIC, topic_name
from unproxy.local.meter import Offsets
from unproxy.query.client import Client

ROWS_COUNTED_MAX = 1_000_000
"""Beyond it the topics are not counted row by row; only the sink's lag is checked."""
POLL_SECS = 0.2
SILENCE_SECS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """One equation of the book."""

    total: int
    what: str
    parts: Mapping[str, int]
    remark: str = ""
    wrong: str = ""
    """Why it does not balance although the numbers do."""

    @property
    def balances(self) -> bool:
        """Whether both sides are equal."""
        return self.total == sum(self.parts.values()) and not self.wrong

    def __str__(self) -> str:
        right = " + ".join(f"{count:,} {name}" for name, count in self.parts.items())
        sign = "=" if self.total == sum(self.parts.values()) else "≠"
        return f"{self.total:,} {self.what} {sign} {right}{self.remark}{f'; {self.wrong}' if self.wrong else ''}"


def of_workers(book: Mapping[str, int]) -> list[Line]:
    """Return the equations of the workers' book."""
    unresolved = {f"unresolved {reason}": count for reason, count in kinds(book, "unresolved").items()}
    return [
        Line(
            book.get("read", 0),
            "lines read",
            {
                "parsed": book.get("parsed", 0),
                "ignored": sum(kinds(book, "ignored").values()),
                "rejected": sum(kinds(book, "rejected").values()),
            },
        ),
        Line(
            book.get("connections", 0),
            "connections",
            {"resolved": sum(kinds(book, "resolved").values()), **unresolved, "waiting": book.get("waiting", 0)},
        ),
    ]


def kinds(book: Mapping[str, int], name: str) -> dict[str, int]:
    """Return the entries `NAME:KIND` of a book, by kind."""
    return {key.partition(":")[2]: count for key, count in book.items() if key.startswith(f"{name}:") and count}


@dataclass(slots=True)
class Produced:
    """The rows on a topic."""

    messages: int = 0
    rows: int = 0
    latest: dict[str, int] = field(default_factory=dict)
    """Newest version of each record."""
    expired: bool = False
    """The topic's beginning is gone already, so the table may hold more."""


class _Row(msgspec.Struct):
    RecordId: str = ""
    AlertId: str = ""
    Version: int = 0


_decode_row = msgspec.json.Decoder(_Row).decode


def of_rows(settings: Settings, client: Client, ends: Offsets, committed: Offsets) -> Iterator[Line]:
    """Yield the comparisons of topics and tables for all messages before `ends`. Raises KafkaException."""
    for name, table in TABLE_OF_TOPIC.items():
        topic = topic_name(settings, name)
        behind = sum(max(0, end - committed.get(place, 0)) for place, end in ends.items() if place[0] == topic)
        produced = _count(settings, name, {place: end for place, end in ends.items() if place[0] == topic})
        if produced is None:
            yield Line(0, f"rows of {table}", {"waiting": 0}, f" (too many to count; {behind} messages behind)")
            continue
        versioned = any(column.name == "Version" for column in columns(TABLES[table]))
        versions = "sum(Version)" if versioned else "0"
        (row,) = client.rows(f"SELECT count() AS n, toUInt64({versions}) AS versions FROM {table}{VERSIONS} FINAL")
        written = min(row["n"], len(produced.latest)) if produced.expired else row["n"]
        wrong = (
            ""
            if produced.expired or behind or row["versions"] == sum(produced.latest.values()) % 2**64
            else "other versions"
        )
        waiting = len(produced.latest) - written if behind else 0
        remark = f" ({produced.rows:,} versions on the topic)" if produced.rows != len(produced.latest) else ""
        yield Line(
            len(produced.latest),
            f"rows of {table} on the topic",
            {"in the table": written, "waiting": waiting},
            remark,
            wrong,
        )


def _count(settings: Settings, name: str, ends: Offsets) -> Produced | None:
    """Read a topic from its beginning to `ends`; None when there is too much of it."""
    consumer = Consumer(
        {
            **client_config(settings.kafka),
            "group.id": "unproxy-up",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    produced = Produced()
    try:
        left = {}
        for place, end in ends.items():
            first, _ = consumer.get_watermark_offsets(TopicPartition(*place), timeout=SILENCE_SECS_MAX)
            produced.expired = produced.expired or first > 0
            if end > first:
                left[place] = end
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in left])
        silent = 0.0
        while left:
            message = consumer.poll(POLL_SECS)
            if message is None or message.error():
                silent += POLL_SECS
                if silent > SILENCE_SECS_MAX:
                    raise KafkaException("the topic could not be read to its end")
                continue
            silent = 0.0
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            if offset < ends[topic, partition]:
                _take(produced, name, f"{topic}/{partition}/{offset}", message.value() or b"")
            if produced.rows > ROWS_COUNTED_MAX:
                return None
            if offset + 1 >= ends[topic, partition]:
                left.pop((topic, partition), None)
    finally:
        consumer.close()
    return produced


def _take(produced: Produced, name: str, place: str, value: bytes) -> None:
    produced.messages += 1
    if name == REJECTS:
        produced.rows += 1
        produced.latest[place] = 0
        return
    for line in value.split(b"\n"):
        if line:
            row = _decode_row(line)
            identity = row.AlertId if name == BLOCK_ALERTS else row.RecordId
            produced.rows += 1
            produced.latest[identity] = max(row.Version, produced.latest.get(identity, 0))
