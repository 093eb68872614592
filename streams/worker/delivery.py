"""Delivery: sends everything that leaves the worker until Kafka acknowledges it.

`await send()` returns before Kafka has the message. `Delivery` therefore awaits the future of every message and sends failed
ones again, with growing pauses and without a time limit. Only a message that is too large can never be delivered: its bytes
go to `rejects` instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from schemas.events import Reason, Reject
from schemas.settings import Settings
from schemas.topics import (
    BLOCK_ALERTS,
    CLAIMS,
    DEVICE_COVERAGE,
    DEVICE_EVENTS,
    DEVICE_FROM,
    FROM_KEY,
    NETWORK_EVENTS,
    PROTECTION_MODES,
    REJECTS,
    SENSOR_GAPS,
    STATE_CHANGELOG,
    TABLE_OF_TOPIC,
    topic_name,
)
from streams.pipeline import Output
from streams.worker.counters import WorkerCounters

log = logging.getLogger(__name__)

ROWS_BYTES_MAX = 900_000
"""Bytes of a message of rows, unless one row alone is larger."""
DETAIL_CHARS_MAX = 500
TOGETHER_MAX = 5_000
"""Messages sent before the first one's delivery is awaited."""
PAUSE_SECS_FIRST = 0.1
PAUSE_SECS_MAX = 5.0


class OutgoingRecord(NamedTuple):
    """One message to send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    """Empty for a tick and for the removal of a state entry."""
    headers: tuple[tuple[str, bytes], ...] = ()


class Receipt(Protocol):
    """Kafka's acknowledgement of a message."""

    @property
    def offset(self) -> int:
        """Return the offset of the message in its partition."""


Send = Callable[[OutgoingRecord], Awaitable[Awaitable[Receipt]]]
"""Function that hands a message to the producer; returns the future of its delivery."""
Check = Callable[[], Awaitable[None]]
"""Function that returns only while writing is safe."""


class Delivery:
    """The delivery of all messages of a batch."""

    def __init__(self, settings: Settings, send: Send, counters: WorkerCounters) -> None:
        self._send = send
        self._counters = counters
        self._topics = {name: topic_name(settings, name) for name in (*TABLE_OF_TOPIC, STATE_CHANGELOG)}

    def outgoing_records(self, partition: int, output: Output) -> Iterator[OutgoingRecord]:
        """Yield the messages of a pipeline's output; they stay in the partition of their input."""
        for name, rows in (
            (NETWORK_EVENTS, output.network_events),
            (DEVICE_EVENTS, output.device_events),
            (SENSOR_GAPS, output.sensor_gaps),
            (DEVICE_COVERAGE, output.coverage),
            (PROTECTION_MODES, output.modes),
        ):
            for value in packed(rows, ROWS_BYTES_MAX):
                yield OutgoingRecord(self._topics[name], partition, None, value)
        for device, alert in output.alerts:
            yield OutgoingRecord(self._topics[BLOCK_ALERTS], partition, device, alert)
        for reject in output.rejects:
            yield self._reject(partition, reject)

    def entry(self, partition: int, key: bytes, value: bytes) -> OutgoingRecord:
        """Return the changelog message of a state entry."""
        return OutgoingRecord(self._topics[STATE_CHANGELOG], partition, key, value)

    async def deliver(self, outgoing_records: Iterable[OutgoingRecord], check: Check) -> dict[int, int]:
        """Deliver every message; return the last offset that Kafka assigned in each partition."""
        last: dict[int, int] = {}
        waiting = iter(outgoing_records)
        while some := list(islice(waiting, TOGETHER_MAX)):
            for partition, offset in (await self._deliver(some, check)).items():
                last[partition] = max(offset, last.get(partition, -1))
        return last

    async def _deliver(self, outgoing_records: Sequence[OutgoingRecord], check: Check) -> dict[int, int]:
        last: dict[int, int] = {}
        pause_secs = PAUSE_SECS_FIRST
        while outgoing_records:
            await check()
            again: list[OutgoingRecord] = []
            problems: list[BaseException] = []
            behind: set[tuple[str, int]] = set()
            for outgoing, result in zip(outgoing_records, await self._try(outgoing_records), strict=True):
                place = (outgoing.topic, outgoing.partition)
                if isinstance(result, MessageSizeTooLargeError):
                    again.append(self._instead(outgoing))
                elif isinstance(result, BaseException):
                    again.append(outgoing)
                    problems.append(result)
                    behind.add(place)
                elif place in behind:
                    # Send again what follows a failed message, to keep the order of the partition.
                    again.append(outgoing)
                else:
                    self._counters.deliver(outgoing.topic)
                    last[outgoing.partition] = max(result.offset, last.get(outgoing.partition, -1))
            if problems:
                self._counters.resends += len(again)
                facts = {"messages": len(again), "pause_secs": pause_secs, "error": repr(problems[0])}
                log.warning("delivery failed, will retry", extra=facts)
                await asyncio.sleep(pause_secs)
                pause_secs = min(pause_secs * 2, PAUSE_SECS_MAX)
            outgoing_records = again
        return last

    async def _try(self, outgoing_records: Sequence[OutgoingRecord]) -> list[Receipt | BaseException]:
        """Send each message once; return the outcome of each, in order."""
        futures = [await self._hand_over(outgoing) for outgoing in outgoing_records]
        results: list[Receipt | BaseException] = []
        for future in futures:
            try:
                results.append(future if isinstance(future, KafkaError) else await future)
            except KafkaError as error:
                results.append(error)
        return results

    async def _hand_over(self, outgoing: OutgoingRecord) -> Awaitable[Receipt] | KafkaError:
        try:
            return await self._send(outgoing)
        except ProducerSendError as error:
            # Faust wraps what aiokafka raises before it sends. A cause other than a KafkaError is a bug in this code.
            if isinstance(error.__cause__, KafkaError):
                return error.__cause__
            raise

    def _instead(self, outgoing: OutgoingRecord) -> OutgoingRecord:
        """Return the replacement for a message that is too large for its topic."""
        assert outgoing.topic != self._topics[STATE_CHANGELOG], "state entries are small; the pipeline sees to it"
        self._counters.undeliverable += 1
        if outgoing.topic != self._topics[REJECTS]:
            log.error(
                "message too large, goes to rejects", extra={"topic": outgoing.topic, "bytes": len(outgoing.value)}
            )
            detail = (
                f"{len(outgoing.value)} bytes are too large for topic {outgoing.topic}; raise its max.message.bytes"
            )
            key = (outgoing.key or b"").decode(errors="replace")
            return self._reject(
                outgoing.partition,
                Reject(Reason.NOT_DELIVERABLE, detail, outgoing.value, dialect="unproxy", device=key),
            )
        # The topic rejects has a limit, too. Keep half of the bytes, and the full size in a header; the rest is lost.
        log.error(
            "rejected line too large even for rejects, half of it is cut off", extra={"bytes": len(outgoing.value)}
        )
        assert outgoing.value, "an empty reject cannot be too large"
        cut = ("cut_from_bytes", str(len(outgoing.value)).encode())
        headers = outgoing.headers if any(name == cut[0] for name, _ in outgoing.headers) else (*outgoing.headers, cut)
        return outgoing._replace(value=outgoing.value[: len(outgoing.value) // 2], headers=headers)

    def _reject(self, partition: int, reject: Reject) -> OutgoingRecord:
        """Return the message for an unreadable line: its bytes unchanged, the rest in headers."""
        headers = (
            ("reason", reject.reason.encode()),
            ("detail", reject.detail[:DETAIL_CHARS_MAX].encode(errors="replace")),
            ("dialect", reject.dialect.encode(errors="replace")),
            ("device", reject.device.encode(errors="replace")),
            *(((DEVICE_FROM, FROM_KEY.encode()),) if reject.keyed else ()),
            *(((CLAIMS, reject.claims.encode(errors="replace")),) if reject.claims else ()),
        )
        return OutgoingRecord(self._topics[REJECTS], partition, None, reject.raw, headers)


def packed(rows: Iterable[bytes], bytes_max: int) -> Iterator[bytes]:
    """Join rows into messages of JSON lines of at most `bytes_max` bytes; a larger row is a message of its own."""
    some: list[bytes] = []
    size = 0
    for row in rows:
        if some and size + len(row) + 1 > bytes_max:
            yield b"\n".join(some)
            some, size = [], 0
        some.append(row)
        size += len(row) + 1
    if some:
        yield b"\n".join(some)
