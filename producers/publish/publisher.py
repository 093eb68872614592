"""The delivery of batches to Kafka: acknowledged by all replicas, in order, without loss.

    send     blocks while too much is unacknowledged (reading is delayed, nothing is dropped)
    broker   unreachable or refusing: the batch is resent until accepted, with warnings at intervals
    fatal    the Kafka client cannot continue: PublisherFailed; a restart continues from the saved position

A line that is too long to publish, a line that its sender may not report, and a message that Kafka finds too large go
to `rejects` instead.

Lines are numbered from 1 per device, dialect and sensor. `seq` is the number of a message's first line, `lines` the
number of its lines; a consumer can thus compute how many lines are missing. A line that is sent again after a restart
may get another number, but no number is skipped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from common.kafka import MESSAGE_BYTES_MAX, ONCE_IN_ORDER, client_config, what_to_do
from producers.files.batcher import Batch
from producers.files.lines import KEPT_BYTES_OF_TOO_LONG
from producers.files.position import SEQS_KEPT_MAX, SeqKey
from producers.publish.health import PublisherFacts
from schemas.events import Reason
from schemas.logins import masked
from schemas.settings import Settings
from schemas.topics import (
    CLAIMS,
    CLAIMS_NONE,
    CLAIMS_VERDICTS,
    CLOCK,
    CLOCK_LOG,
    DEVICE_FROM,
    FROM_KEY,
    REJECTS,
    TELEMETRY,
    topic_name,
)

log = logging.getLogger(__name__)

WARNING_SECS_MIN = 10.0
"""Shortest interval between two warnings about the same error."""
POLL_SECS = 0.05
RETRY_SECS_MAX = 2.0
"""Longest pause before a refused batch is sent again."""
ANSWER_SECS_MAX = 1.0
MESSAGES_MAX = 100_000
"""Largest number of messages that the client holds."""
_BY_NUMBER = attrgetter("number")


class PublisherFailed(Exception):
    """A failure after which this process cannot publish; a restart continues from the saved position."""


@dataclass(slots=True, eq=False)
class Sending:
    """A batch that is being sent."""

    batch: Batch
    number: int
    suspect: bool = False
    """Kafka found its request too large, so it is sent again alone."""
    refusals: int = 0
    """How often Kafka found it too large when sent alone. It then goes to `rejects`, shorter each time."""


class Publisher:
    """One Kafka client and the batches that it is sending.

    If `stopping` returns True, the waits of `send` and `flush` end early; unacknowledged batches stay in `outstanding`.
    `acknowledged` is called with each batch that Kafka has. `last_seq` returns the number of the last
    acknowledged line of a line counter, 0 if there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        acknowledged: Callable[[Batch], None],
        last_seq: Callable[[SeqKey], int],
    ) -> None:
        self._bootstrap = settings.kafka.bootstrap
        raw = settings.publisher.topic
        self._telemetry = topic_name(settings, raw or TELEMETRY)
        # A producer for a raw topic has no right to write to another topic, so it writes rejects there, too. The producer
        # that follows the topic rejects lines that were cut.
        self._rejects = topic_name(settings, raw or REJECTS)
        self._bytes_max = settings.publisher.queue_bytes_max
        self._clock, self._stopping = clock, stopping
        self._acknowledged, self._last_seq = acknowledged, last_seq
        self._seqs: dict[SeqKey, int] = {}
        self._flying: dict[int, Sending] = {}
        self._failed: list[Sending] = []
        self._retry_at, self._retry_secs = 0.0, POLL_SECS
        self._sent = 0
        self._warned_at: dict[str, float] = {}
        self._fatal = ""
        self._progress_at = 0.0
        self.unacknowledged_bytes = 0
        self.resends = 0
        self._producer = Producer(producer_config(settings, self.on_error))

    def send(self, batch: Batch) -> bool:
        """Wait for room and send a batch. Return False, without sending it, if a stop is requested before there is room."""
        while not self._has_room(batch):
            if self._stopping():
                return False
            self.serve(POLL_SECS)
        if not self._flying:
            self._progress_at = self._clock()
        self._sent += 1
        batch.seq = 0 if batch.reason is not None else self._count(batch)
        sending = Sending(batch, self._sent)
        self._flying[sending.number] = sending
        self.unacknowledged_bytes += batch.size_bytes
        self._produce(sending)
        return True

    def serve(self, wait_secs: float = 0.0) -> None:
        """Process delivery reports and resend refused batches. Raises PublisherFailed after a fatal error."""
        self._producer.poll(wait_secs)
        if self._fatal:
            raise PublisherFailed(f"publishing to {self._telemetry} failed: {self._fatal}; start again to go on")
        if any(sending.suspect for sending in self._failed):
            self._send_one_alone()
        elif self._failed and self._clock() >= self._retry_at:
            again, self._failed = sorted(self._failed, key=_BY_NUMBER), []
            self.resends += len(again)
            self._retry_at = self._clock() + self._retry_secs
            self._retry_secs = min(2 * self._retry_secs, RETRY_SECS_MAX)
            for sending in again:
                self._produce(sending)

    def flush(self, timeout_secs: float, *, quiet_secs: float | None = None) -> bool:
        """Wait until Kafka has everything; return False after a timeout or `quiet_secs` without an acknowledgement.

        Without `quiet_secs`, a stop request also ends the wait.
        """
        began = progress_at = self._clock()
        left = len(self._flying)
        while self._flying:
            now = self._clock()
            if len(self._flying) < left:
                left, progress_at = len(self._flying), now
            quiet = self._stopping() if quiet_secs is None else now - progress_at >= quiet_secs
            if quiet or now - began >= timeout_secs:
                return False
            self.serve(POLL_SECS)
        return True

    def outstanding(self) -> Iterable[Batch]:
        """Return the batches that Kafka has not acknowledged."""
        return [sending.batch for sending in self._flying.values()]

    def facts(self) -> PublisherFacts:
        """Return the state that the health pages use. May be called from any thread."""
        waiting = len(self._flying)
        return PublisherFacts(waiting, self._progress_at if waiting else None)

    def answers(self) -> bool:
        """Return whether Kafka answers a metadata request within `ANSWER_SECS_MAX` seconds. May be called from any thread."""
        try:
            self._producer.list_topics(self._telemetry, timeout=ANSWER_SECS_MAX)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        """Drop unacknowledged batches and close the client."""
        self._flying.clear()
        self._failed.clear()
        self._producer.purge()
        self._producer.flush(1.0)

    def on_error(self, error: KafkaError) -> None:
        """Handle an error of the client: the cluster is unreachable, or the client failed permanently."""
        if error.fatal():
            self._fatal = self._fatal or error.str()
        else:
            self._warn("kafka is out of reach, waiting for it", error)

    def _count(self, batch: Batch) -> int:
        """Return the number of the batch's first line, and advance the line counter past its last line."""
        key = (batch.device, batch.dialect, batch.sensor)
        last = self._seqs.pop(key, 0) or self._last_seq(key)
        self._seqs[key] = last + len(batch.lines)
        while len(self._seqs) > SEQS_KEPT_MAX:
            del self._seqs[next(iter(self._seqs))]
        return last + 1

    def _has_room(self, batch: Batch) -> bool:
        """Return whether the batch can be sent now; a batch larger than the limit must be the only one in flight."""
        waiting = self.unacknowledged_bytes
        return not self._failed and (not waiting or waiting + batch.size_bytes <= self._bytes_max)

    def _send_one_alone(self) -> None:
        """Resend the first failed batch alone, once no other batch is in flight.

        The client groups messages into requests, so only a request with a single message shows which one is too large.
        """
        if len(self._flying) == len(self._failed):
            first = min(self._failed, key=_BY_NUMBER)
            self._failed.remove(first)
            first.suspect = True
            self.resends += 1
            self._produce(first)

    def _produce(self, sending: Sending) -> None:
        topic, value, headers = self._message(sending)
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    sending.batch.device.encode("utf-8", "replace"),
                    headers=headers,
                    on_delivery=partial(self._delivered, sending),
                )
            except BufferError:
                if self._stopping():
                    self._failed.append(sending)
                    return
                self._producer.poll(POLL_SECS)
            except KafkaException as raised:
                self._undelivered(sending, raised.args[0])
                return
            else:
                return

    def _message(self, sending: Sending) -> tuple[str, bytes, list[tuple[str, str | bytes | None]]]:
        batch = sending.batch
        value = b"\n".join(batch.lines)
        keyed = [(DEVICE_FROM, FROM_KEY)] if batch.names_device else []
        grant = batch.file.grant
        claims = [(CLAIMS, CLAIMS_VERDICTS if grant.verdicts else CLAIMS_NONE)] if grant is not None else []
        if batch.reason is not None or sending.refusals:
            reason, detail = batch.reason, batch.detail
            if sending.refusals and reason is not Reason.TOO_LONG:
                whole = f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"
                reason, detail = Reason.NOT_DELIVERABLE, f"kafka finds the message too large: {whole}"
            assert reason is not None
            kept = KEPT_BYTES_OF_TOO_LONG >> (sending.refusals - 1) if sending.refusals else len(value)
            device = batch.device.encode("utf-8", "replace")
            rejected = [("reason", reason.value), ("detail", detail), ("dialect", batch.dialect), ("device", device)]
            return self._rejects, masked(value)[:kept], [*rejected, *keyed, *claims]
        clock = [(CLOCK, CLOCK_LOG)] if grant is not None and not grant.only else []
        sensor = batch.sensor.encode("ascii", "backslashreplace")
        counted = [("seq", str(batch.seq)), ("lines", str(len(batch.lines)))]
        return (
            self._telemetry,
            value,
            [("dialect", batch.dialect), ("sensor", sensor), *counted, *keyed, *claims, *clock],
        )

    def _delivered(self, sending: Sending, error: KafkaError | None, _message: Message) -> None:
        if sending.number not in self._flying:  # purged by `close`
            return
        if error is not None:
            self._undelivered(sending, error)
            return
        self._retry_secs = POLL_SECS
        self._progress_at = self._clock()
        del self._flying[sending.number]
        self.unacknowledged_bytes -= sending.batch.size_bytes
        self._acknowledged(sending.batch)

    def _undelivered(self, sending: Sending, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = self._fatal or error.str()
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large(sending)
        else:
            self._warn("kafka refused a message, will send it again", error)
        self._failed.append(sending)

    def _too_large(self, sending: Sending) -> None:
        batch = sending.batch
        if not sending.suspect:
            sending.suspect = True
        elif len(batch.lines) == 1:
            log.warning("line is too large for kafka, rejected", extra={"bytes": batch.size_bytes})
            sending.refusals += 1
        else:
            self._fatal = (
                f"a message of {batch.size_bytes} bytes is too large for the topic;"
                " lower publisher.batch_bytes_max or raise the topic's max.message.bytes"
            )

    def _warn(self, what: str, error: KafkaError) -> None:
        now = self._clock()
        if now - self._warned_at.get(what, -WARNING_SECS_MIN) >= WARNING_SECS_MIN:
            self._warned_at[what] = now
            detail = f"{error.str()}; {what_to_do(error, self._bootstrap)}"
            log.warning(what, extra={"error": detail, "unacknowledged": len(self._flying)})


def producer_config(settings: Settings, on_error: Callable[[KafkaError], None]) -> dict[str, object]:
    """Return the client's settings: Kafka's own mechanisms exclude duplicates, loss and reordering."""
    return {
        **client_config(settings.kafka),
        **ONCE_IN_ORDER,
        "compression.type": "zstd",
        # Faust and Java hash keys this way; librdkafka's default would choose another partition for a device.
        "partitioner": "murmur2_random",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "message.timeout.ms": 0,  # never give up
        "linger.ms": 5,
        "batch.size": 1024 * 1024,
        "queue.buffering.max.messages": MESSAGES_MAX,
        "queue.buffering.max.kbytes": settings.publisher.queue_bytes_max // 1024 + 2 * MESSAGE_BYTES_MAX // 1024,
        "log_level": 2,  # errors are delivered to on_error
        "error_cb": on_error,
    }
