"""The balance that `up` shows: all lines, connections and rows that came in are accounted for.

    lines read            = parsed + ignored + rejected                   counted by the workers, kept in their state
    connections           = resolved + unresolved (reason) + waiting      counted likewise
    rows on the topics    = rows in the table + waiting                   counted here, on both sides

Only the latest version of a row counts, on the topic as in the table. Rows that the views hide count, too. The sums of
the version numbers are also compared: a table with the right number of rows in wrong versions does not balance.
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
"""Largest number of rows on a topic that are counted; for a larger topic only the sink's lag is shown."""
POLL_SECS = 0.2
SILENCE_SECS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """One equation of the balance: `total` is the sum of `parts`."""

    total: int
    what: str
    parts: Mapping[str, int]
    remark: str = ""
    wrong: str = ""
    """Why the equation does not hold although the sums are equal; "" if it holds."""

    @property
    def balances(self) -> bool:
        """Whether both sides are equal and nothing else is wrong."""
        return self.total == sum(self.parts.values()) and not self.wrong

    def __str__(self) -> str:
        right = " + ".join(f"{count:,} {name}" for name, count in self.parts.items())
        sign = "=" if self.total == sum(self.parts.values()) else "≠"
        return f"{self.total:,} {self.what} {sign} {right}{self.remark}{f'; {self.wrong}' if self.wrong else ''}"


def of_workers(book: Mapping[str, int]) -> list[Line]:
    """Return the equations of lines and connections, from the workers' counts (`Reading.book`)."""
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
    """Return the counts above 0 of the entries `NAME:KIND` for this name, by kind."""
    return {key.partition(":")[2]: count for key, count in book.items() if key.startswith(f"{name}:") and count}


@dataclass(slots=True)
class Produced:
    """The counts of the messages and rows on a topic, and the latest version of each row."""

    messages: int = 0
    rows: int = 0
    latest: dict[str, int] = field(default_factory=dict)
    """Latest version of each row, by its identity."""
    expired: bool = False
    """Whether retention has deleted the topic's beginning, so that the table may hold more rows."""


class _Row(msgspec.Struct):
    RecordId: str = ""
    AlertId: str = ""
    Version: int = 0


_decode_row = msgspec.json.Decoder(_Row).decode


def of_rows(settings: Settings, client: Client, ends: Offsets, committed: Offsets) -> Iterator[Line]:
    """Yield an equation for each table: its rows compared with the messages before `ends` on its topic.

    `committed` has the sink's offsets. Raises KafkaException.
    """
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
    """Count a topic from its beginning to `ends`; None if it has more than `ROWS_COUNTED_MAX` rows.

    Raises KafkaException.
    """
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
