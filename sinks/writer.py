"""The writer thread: it writes batches to the sink one after another and retries until each is written.

The offsets of a batch are committed after its insert, never before. Messages whose rows the sink cannot store go to the
rejects topic; the rest of the batch is written. All other errors (unreachable, busy, table missing) are retried with
growing pauses; no rows are dropped.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sinks.base import RowsRefused, Sink, SinkBusy, SinkRefused
from sinks.batch import Batch, Message, token
from sinks.counters import Written
from sinks.sending import SendingThread

log = logging.getLogger(__name__)

PAUSE_SECS_FIRST = 0.2

REFUSED_IN_A_ROW_MAX = 100
"""Number of messages refused in a row, without a successful write in between, after which the sink stops.

So many refusals have another cause than the rows.
"""


class Refusal(NamedTuple):
    """A message that the sink cannot store, and the reason."""

    message: Message
    detail: str


class Writer(SendingThread):
    """A thread that writes batches in order. `changed` is notified whenever a batch is finished."""

    def __init__(
        self,
        sink: Sink,
        tables: Mapping[str, str],
        retry_secs_max: float,
        commit: Callable[[Batch], None],
        reroute: Callable[[Batch, Refusal], None],
        changed: threading.Condition,
    ) -> None:
        super().__init__("sink-writer")
        self.counts = Written.of(tables.values())
        self.refused = 0
        """Number of messages refused."""
        self._sink = sink
        self._tables = tables
        self._retry_secs_max = retry_secs_max
        self._commit = commit
        self._reroute = reroute
        self._refused_in_a_row = 0
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._held: list[Batch] = []
        self._changed = changed
        self._stopping = threading.Event()
        self.start()

    @property
    def waiting(self) -> int:
        """Number of batches handed over and not finished."""
        return len(self._held)

    @property
    def rows_written(self) -> int:
        """Rows written to the sink."""
        return self.counts.rows.total()

    @property
    def batches(self) -> int:
        """Number of batches written."""
        return self.counts.batches.total()

    @property
    def retries(self) -> int:
        """Number of failed writes that were postponed."""
        return self.counts.retries.total()

    def hand_over(self, batch: Batch) -> None:
        """Queue a batch for writing."""
        with self._changed:
            self._held.append(batch)
        self._batches.put(batch)

    @property
    def bytes(self) -> int:
        """Bytes of the batches held."""
        with self._changed:
            return sum(batch.bytes for batch in self._held)

    def rows_held(self) -> Counter[str]:
        """Return the rows of the batches held, by table."""
        with self._changed:
            held = list(self._held)
        return sum((Counter({self._tables[batch.topic]: batch.rows}) for batch in held), Counter())

    def abandon(self, topic: str, partition: int) -> None:
        """Stop writing the batches of a partition that is now assigned to another sink, which reads them again."""
        with self._changed:
            for batch in self._held:
                if (batch.topic, batch.partition) == (topic, partition):
                    batch.abandoned = True

    def stop(self) -> None:
        """Ask the thread to end, without waiting; batches that are not written stay uncommitted."""
        self._stopping.set()
        self._batches.put(None)

    def run(self) -> None:
        """Write batches until stopped."""
        try:
            while (batch := self._batches.get()) and not self._stopping.is_set():
                self._deliver(batch)
                self.failing_since = None
                with self._changed:
                    self._held = [other for other in self._held if other is not batch]
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the consumer must end on it, not wait for ever
            self.failure = error
            with self._changed:
                self._changed.notify_all()

    def _deliver(self, batch: Batch) -> None:
        pause = PAUSE_SECS_FIRST
        again = batch.end is not None
        while not batch.abandoned and not self._stopping.is_set():
            try:
                refusals = write(self._sink, self._tables[batch.topic], batch, again=again)
                self._finish(batch, refusals)
            except SinkBusy as error:
                self._log(logging.WARNING, "sink is busy, will retry", batch, error)
            except SinkRefused as error:
                self._log(logging.ERROR, "sink refuses until an operator acts, will retry", batch, error)
            else:
                return
            again = True
            self._note_failure()
            self.counts.retries[self._tables[batch.topic]] += 1
            self._stopping.wait(pause)
            pause = min(pause * 2, self._retry_secs_max)
        if batch.abandoned and batch.rows:
            self.counts.rows_left[self._tables[batch.topic]] += batch.rows

    def _finish(self, batch: Batch, refusals: list[Refusal]) -> None:
        lost = sum(refusal.message.rows for refusal in refusals)
        in_a_row = self._refused_in_a_row + len(refusals) if lost == batch.rows else 0
        if in_a_row > REFUSED_IN_A_ROW_MAX:
            raise SinkRefused(f"the last {in_a_row} messages were all refused: {refusals[-1].detail}")
        for refusal in refusals:
            self._reroute(batch, refusal)
        self._refused_in_a_row = in_a_row
        self.refused += len(refusals)
        table = self._tables[batch.topic]
        self.counts.rows_refused[table] += lost
        self.counts.rows[table] += batch.rows - lost
        self.counts.batches[table] += 1
        self.counts.batch_rows[table].add(batch.rows - lost)
        now = time.time()
        for message in batch.messages:
            # The clocks of two machines may differ by more than the latency.
            self.counts.latency_secs[table].add(max(0.0, now - message.timestamp_ms / 1000))
        if not batch.abandoned:
            self._commit(batch)

    def _log(self, level: int, what: str, batch: Batch, error: Exception) -> None:
        if not self._throttle.due():
            return
        log.log(
            level, what, extra={"topic": batch.topic, "rows": batch.rows, "retries": self.retries, "error": str(error)}
        )


def write(sink: Sink, table: str, batch: Batch, *, again: bool = False) -> list[Refusal]:
    """Write a batch and return the messages whose rows were refused. Raises SinkBusy and SinkRefused.

    If rows are refused, the batch is halved until the refused messages are isolated. Each part has its own token, so
    that a repetition after a crash adds no rows.
    """
    return _write(sink, table, batch, (batch.start, batch.next_offset, batch.messages), again)


def _write(sink: Sink, table: str, batch: Batch, part: tuple[int, int, list[Message]], again: bool) -> list[Refusal]:
    """Write a part of a batch: the first offset and the end offset that it covers, and its messages."""
    start, end, messages = part
    rows = [message.value for message in messages if message.value]
    if not rows:
        return []
    try:
        sink.write(table, rows, token(batch.topic, batch.partition, start, end, messages[-1]), again=again)
    except RowsRefused as error:
        if len(messages) == 1:
            return [Refusal(messages[0], str(error))]
        middle = len(messages) // 2
        halves = messages[:middle], messages[middle:]
        between = halves[1][0].offset
        return [
            *_write(sink, table, batch, (start, between, halves[0]), again),
            *_write(sink, table, batch, (between, end, halves[1]), again),
        ]
    return []
