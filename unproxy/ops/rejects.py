"""Replays rejects: publishes each once to the topic of sensor lines, in order, in the partition that it came from.

Only the rejects that are on the topic at the start are read. Lines that are rejected again are appended to the topic and
wait for the next replay. The recorded offset advances only once Kafka has acknowledged all lines before it. If the
process ends in between, these lines are published again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from threading import Event
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from common.kafka import MESSAGE_BYTES_MAX, ONCE_IN_ORDER
from common.throttle import Throttle
from schemas.events import Reason
from schemas.settings import Settings
from schemas.topics import (
    CLAIMS,
    CLAIMS_VERDICTS,
    CLOCK,
    CLOCK_LOG,
    DEVICE_FROM,
    FROM_KEY,
    REJECTS,
    TELEMETRY,
    topic_name,
)
from unproxy.errors import Failed, KafkaAway
from unproxy.kafka.cluster import kafka_client_config, partitions_of
from unproxy.ops.reject_positions import Rejected, Replayed, Wanted, why_left
from unproxy.output import NOTIFY_SECS
from unproxy.timeouts import ASK_SECS_MAX, POLL_SECS, KafkaWait

CHUNK_MESSAGES, CHUNK_BYTES = 2_000, 8 << 20
"""Largest number and size of rejects that are read, published and recorded together."""
MESSAGE_LINES_BYTES = 256 * 1024
"""Size, in bytes, up to which consecutive lines of one device share a message."""
REPLAYED = ""
"""Stands for the reason of rejects that were replayed in `Account.done`."""


@dataclass(slots=True)
class Account:
    """Counts of the rejects that were read."""

    read: int = 0
    of: int = 0
    """Number of rejects to read."""
    done: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Number of selected rejects by reason, dialect and why they were not replayed; REPLAYED if they were."""
    before: int = 0
    """Number of selected rejects that had been replayed before."""

    @property
    def replayed(self) -> int:
        """Number of rejects that were replayed, or that a dry run would have replayed."""
        return sum(count for (_, _, why), count in self.done.items() if why == REPLAYED)


class Replay:
    """One run of `unproxy rejects --replay`."""

    def __init__(
        self, settings: Settings, wanted: Wanted, *, again: bool, dry_run: bool, notify: Callable[[str], None]
    ) -> None:
        self._wanted, self._again, self._dry_run = wanted, again, dry_run
        self._notify = notify
        self._throttle = Throttle(NOTIFY_SECS, at_once=False)
        self._bootstrap = settings.kafka.bootstrap
        self._wait = KafkaWait(self._bootstrap, _TRY_AGAIN)
        self._rejects, self._telemetry = topic_name(settings, REJECTS), topic_name(settings, TELEMETRY)
        self._partitions = partitions_of(settings, self._rejects)
        self._inputs = len(partitions_of(settings, self._telemetry))
        client = kafka_client_config(settings)
        self._consumer = Consumer(
            {
                **client,
                "group.id": group_of(settings),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 32_768,
                "error_cb": self._wait.note,
            }
        )
        self._producer = Producer(
            {
                **client,
                **ONCE_IN_ORDER,
                "compression.type": "zstd",
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "message.timeout.ms": 0,  # `KafkaWait` decides how long to wait
                "linger.ms": 5,
                "error_cb": self._wait.note,
            }
        )
        self._marks: dict[int, Replayed] = {}
        self._failure = ""
        self.account = Account()

    def until(self, stop: Event) -> Account:
        """Replay all selected rejects and return the account, which `account` also has after an exception.

        Raises Stopped soon after `stop` is set, KafkaAway if Kafka does not answer, and Failed if the topic of sensor
        lines refuses a line.
        """
        self._wait.stop = stop
        try:
            spans = dict(self._spans())
            self.account.of = sum(end - begin for begin, end in spans.values())
            for chunk in self._chunks(spans):
                self._take(chunk)
            return self.account
        except KafkaException as error:
            raise KafkaAway(f"{self._bootstrap}: {error.args[0].str()}; {_TRY_AGAIN}") from None
        finally:
            self._producer.purge()
            self._consumer.close()

    def _spans(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield the range of offsets to read of each partition."""
        places = [TopicPartition(self._rejects, partition) for partition in self._partitions]
        for place in self._wait.retried(self._committed, places):
            marks = self._marks[place.partition] = Replayed.read(place.offset, place.metadata or "")
            low, high = self._wait.retried(self._consumer.get_watermark_offsets, place, ASK_SECS_MAX)
            begin = low if self._again else max(low, marks.before(self._wanted.reason, self._wanted.dialect))
            if begin < high:
                yield place.partition, (begin, high)

    def _chunks(self, spans: Mapping[int, tuple[int, int]]) -> Iterator[list[Rejected]]:
        """Yield the rejects of these ranges in chunks, in order within a partition."""
        left = {partition: end for partition, (_, end) in spans.items()}
        self._consumer.assign([TopicPartition(self._rejects, part, begin) for part, (begin, _) in spans.items()])
        chunk: list[Rejected] = []
        size = 0
        progress_at = time.monotonic()
        while left:
            self._wait.check_stop()
            message = self._consumer.poll(POLL_SECS)
            if message is None:
                self._wait.check(progress_at)
            elif (error := message.error()) is not None:
                self._wait.note(error)
            else:
                progress_at = time.monotonic()
                rejected = _rejected(message)
                if rejected.partition in left:
                    chunk.append(rejected)
                    size += len(rejected.raw)
                    if rejected.offset + 1 >= left[rejected.partition]:
                        # The rejects after this one came after the start.
                        del left[rejected.partition]
                        self._consumer.incremental_unassign([TopicPartition(self._rejects, rejected.partition)])
            if chunk and (not left or len(chunk) >= CHUNK_MESSAGES or size >= CHUNK_BYTES):
                yield chunk
                chunk, size, progress_at = [], 0, time.monotonic()

    def _take(self, chunk: Sequence[Rejected]) -> None:
        """Publish the selected rejects of a chunk, wait until Kafka has acknowledged them, and record the offsets."""
        account = self.account
        going: list[Rejected] = []
        for rejected in chunk:
            account.read += 1
            if not self._wanted.fits(rejected):
                continue
            if not self._again and self._marks[rejected.partition].has(rejected):
                account.before += 1
                continue
            why = why_left(rejected, self._wanted)
            account.done[rejected.reason, rejected.dialect, why] += 1
            if not why:
                going.append(rejected)
        if not self._dry_run:
            self._publish(going)
            self._remember(chunk)
        if self._throttle.due():
            self._notify(f"{account.read:,} of {account.of:,} rejects read, {account.replayed:,} replayed")

    def _publish(self, going: Sequence[Rejected]) -> None:
        for home, several in groupby(sorted(going, key=attrgetter("partition", "device", "offset")), key=_home):
            for value in _joined(rejected.raw for rejected in several):
                self._produce(home, value)
        progress_at, waiting = time.monotonic(), len(self._producer)
        while len(self._producer):
            self._producer.poll(POLL_SECS)
            if len(self._producer) < waiting:
                progress_at, waiting = time.monotonic(), len(self._producer)
            self._wait.check(progress_at)
        if self._failure:
            raise Failed(f"{self._bootstrap}: topic {self._telemetry} does not take a line: {self._failure}")

    def _produce(self, home: _Home, value: bytes) -> None:
        # The lines are old, so their times must not advance the device's clock.
        headers: list[tuple[str, str | bytes | None]] = [("dialect", home.dialect), (CLOCK, CLOCK_LOG)]
        if home.keyed:
            headers.append((DEVICE_FROM, FROM_KEY))
        if home.claims:
            headers.append((CLAIMS, home.claims))
        while True:
            try:
                # Use the number of the partition that the reject came from: the device's state is there, whatever the
                # key.
                self._producer.produce(
                    self._telemetry,
                    value,
                    home.device or None,
                    home.partition % self._inputs,
                    headers=headers,
                    on_delivery=self._delivered,
                )
                return
            except BufferError:
                self._wait.check_stop()
                self._producer.poll(POLL_SECS)

    def _remember(self, chunk: Sequence[Rejected]) -> None:
        if not self._wanted.is_whole:
            return
        ends = {rejected.partition: rejected.offset + 1 for rejected in chunk}
        places = []
        for partition, end in ends.items():
            self._marks[partition].advance(self._wanted, end)
            offset, metadata = self._marks[partition].written()
            places.append(TopicPartition(self._rejects, partition, offset, metadata))
        self._wait.retried(self._commit, places)

    def _committed(self, places: list[TopicPartition]) -> list[TopicPartition]:
        found = self._consumer.committed(places, timeout=ASK_SECS_MAX)
        _raise_first(found)
        return found

    def _commit(self, places: list[TopicPartition]) -> None:
        _raise_first(self._consumer.commit(offsets=places, asynchronous=False))

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failure = error.str()


_TRY_AGAIN = "what was replayed so far is remembered, start again to go on"


def group_of(settings: Settings) -> str:
    """Return the consumer group whose offsets record which rejects were replayed."""
    return f"{settings.worker.group}-rejects-replay"


def _rejected(message: Message) -> Rejected:
    headers: dict[str, Any] = dict(message.headers() or [])
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None

    def text(name: str) -> str:
        return (headers.get(name) or b"").decode("utf-8", "replace")

    return Rejected(
        partition,
        offset,
        message.timestamp()[1],
        text("reason"),
        text("detail"),
        text("dialect"),
        headers.get("device") or b"",
        message.value() or b"",
        "cut_from_bytes" in headers,
        text(DEVICE_FROM) == FROM_KEY,
        headers.get(CLAIMS) or b"",
    )


def _raise_first(places: Sequence[TopicPartition]) -> None:
    """Raise KafkaException if a partition in an answer has an error."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)


class _Home(NamedTuple):
    """The values that all lines of one message have in common."""

    partition: int
    dialect: str
    device: bytes
    keyed: bool
    claims: bytes


def _home(rejected: Rejected) -> _Home:
    # An operator who replays lines that were not allowed vouches for them. For all other lines, the rights of the sender
    # still apply.
    claims = CLAIMS_VERDICTS.encode() if rejected.reason == Reason.NOT_ALLOWED else rejected.claims
    return _Home(rejected.partition, rejected.dialect, rejected.device, rejected.keyed, claims)


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines, joined to values of messages of at most `MESSAGE_LINES_BYTES` bytes; a longer line is alone."""
    some: list[bytes] = []
    size = 0
    for line in lines:
        if some and size + len(line) >= MESSAGE_LINES_BYTES:
            yield b"\n".join(some)
            some, size = [], 0
        some.append(line)
        size += len(line) + 1
    if some:
        yield b"\n".join(some)
