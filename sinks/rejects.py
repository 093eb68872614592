"""Dead letters (rejects): their conversion to rows of the table Rejects, and a producer for the rejects topic."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import confluent_kafka
import msgspec
from confluent_kafka import KafkaException, Producer

from common.kafka import MESSAGE_BYTES_MAX, ONCE_IN_ORDER, client_config
from schemas.clock import iso_micros
from schemas.events import Reason
from schemas.settings import KafkaSettings
from schemas.tables import RejectRow
from sinks.base import SinkBusy
from sinks.batch import Message

DELIVERY_SECS_MAX = 10.0
DETAIL_CHARS_MAX = 1_000

RECORD_ID = "record_id"
"""Header of a reject that may be sent twice: both copies become one row."""


def reject_row(place: str, timestamp_ms: int, headers: Sequence[tuple[str, bytes | None]], raw: bytes) -> bytes:
    """Return the row of one message on the rejects topic."""
    texts = {name: (value or b"").decode("utf-8", "replace") for name, value in headers}
    row = RejectRow(
        RejectedAt=iso_micros(timestamp_ms * 1_000),
        Reason=texts.get("reason", ""),
        Detail=texts.get("detail", ""),
        Dialect=texts.get("dialect", ""),
        Device=texts.get("device", ""),
        RawBase64=base64.b64encode(raw).decode("ascii"),
        # The timestamp is part of the ID because a recreated topic has the same offsets again.
        RecordId=texts.get(RECORD_ID) or f"{place}@{timestamp_ms}",
    )
    return msgspec.json.encode(row)


def as_rows(raw: confluent_kafka.Message, rejects_topic: str) -> Message:
    """Convert a message of any topic to the form that the sink writes."""
    topic, partition, offset = raw.topic(), raw.partition(), raw.offset()
    assert offset is not None
    value, (_, timestamp_ms) = raw.value() or b"", raw.timestamp()
    if topic == rejects_topic:
        headers: Any = raw.headers() or []
        value = reject_row(f"{topic}/{partition}/{offset}", timestamp_ms, headers, value)
    return Message(offset, timestamp_ms, value)


class RejectsProducer:
    """A Kafka producer that sends messages that cannot be stored or delivered to the rejects topic."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._kafka = kafka
        self._producer: Producer | None = None

    def send(self, raw: bytes, detail: str, record_id: str) -> None:
        """Send one message and wait until Kafka has acknowledged it. Raises SinkBusy on failure.

        A process that crashes before the acknowledgement later sends the message again, with the same `record_id`.
        """
        if self._producer is None:
            self._producer = Producer(
                {
                    **client_config(self._kafka),
                    **ONCE_IN_ORDER,
                    "message.max.bytes": MESSAGE_BYTES_MAX,
                    "log_level": 2,
                }
            )
        failures: list[str] = []
        try:
            self._producer.produce(
                self._topic,
                value=raw,
                headers={
                    "reason": Reason.NOT_DELIVERABLE.value,
                    "detail": detail[:DETAIL_CHARS_MAX],
                    RECORD_ID: record_id,
                },
                on_delivery=lambda error, _: failures.append(str(error)) if error else None,
            )
            if self._producer.flush(DELIVERY_SECS_MAX):
                self._producer.purge()
                failures.append(f"no answer within {DELIVERY_SECS_MAX:.0f} s")
        except (KafkaException, BufferError) as error:
            failures.append(str(error))
        if failures:
            raise SinkBusy(f"topic {self._topic} does not take a refused message: {failures[0]}")

    def close(self) -> None:
        """Drop the producer; Kafka has acknowledged all messages already."""
        self._producer = None
