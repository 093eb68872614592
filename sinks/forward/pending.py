"""State that the reading thread and the sender threads share: the queues, counters, and the time of the next try."""

from __future__ import annotations

import threading
import time
from collections import Counter

from common.histogram import Histogram
from schemas.metrics import SECONDS
from sinks.forward.alert import Skip
from sinks.forward.queues import AlertQueues, Item
from sinks.forward.target import Answer

BYTES_MAX = 64 * 1024 * 1024
"""Bytes of waiting alerts at which reading stops, whatever their number."""
REFUSED_IN_A_ROW_MAX = 20
"""Number of alerts refused in a row, without a delivery in between, after which alerts are no longer rerouted.

So many refusals have another cause than the alerts.
"""


class PendingAlerts:
    """Alerts that the reading thread adds and the sender threads take."""

    def __init__(self, *, coalesce: bool, waiting_max: int) -> None:
        self.read = 0
        self.sent = 0
        self.refused = 0
        """Number of messages sent to the rejects topic instead of the receiver."""
        self.left = 0
        """Number of messages that were read and not sent because their partition was revoked."""
        self.skipped: Counter[Skip] = Counter(dict.fromkeys(Skip, 0))
        self.retries: Counter[Answer] = Counter(
            dict.fromkeys((answer for answer in Answer if answer not in (Answer.DELIVERED, Answer.REFUSED)), 0)
        )
        self.latency_secs = Histogram(SECONDS)
        """Seconds from the message's timestamp to the receiver's answer."""
        self.stopping = threading.Event()
        self._waiting_max = waiting_max
        self._queues = AlertQueues(coalesce=coalesce)
        self._refused_in_a_row = 0
        self._not_before = 0.0
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Number of messages that were read and are neither sent nor rerouted yet."""
        return self._queues.waiting

    @property
    def full(self) -> bool:
        """Whether reading should stop."""
        return self._queues.waiting >= self._waiting_max or self._queues.bytes >= BYTES_MAX

    def begin(self, partition: int, offset: int) -> None:
        """Add an assigned partition, whose next message should have this offset."""
        with self._changed:
            self._queues.begin(partition, offset)

    def expected(self, partition: int) -> int | None:
        """Return the expected offset of a partition's next message; None if the partition is not assigned."""
        return self._queues.expected(partition)

    def skip(self, partition: int, offset: int, why: Skip) -> None:
        """Record a message that is not sent, and why."""
        with self._changed:
            self.read += 1
            self.skipped[why] += 1
            self._queues.skip(partition, offset)

    def add(self, item: Item) -> None:
        """Queue a message for sending."""
        with self._changed:
            self.read += 1
            self.skipped[Skip.SUPERSEDED] += self._queues.add(item)
            self._changed.notify()

    def leave(self, partition: int) -> None:
        """Remove a revoked partition."""
        with self._changed:
            self.left += self._queues.leave(partition)

    def committable(self) -> dict[int, int]:
        """Return, for each partition, the offset to commit: all messages before it are done."""
        with self._changed:
            return dict(self._queues.committable())

    def take(self) -> Item | None:
        """Wait for the next message to send and return it; None when stopping."""
        with self._changed:
            while not self.stopping.is_set():
                if item := self._queues.take():
                    return item
                self._changed.wait()
        return None

    def delivered(self, item: Item) -> None:
        """Record that the receiver has the alert."""
        with self._changed:
            self._refused_in_a_row = 0
            self._done(item)
            if not item.abandoned:
                self.sent += 1
                # The clocks of two machines may differ by more than the latency.
                self.latency_secs.add(max(0.0, time.time() - item.timestamp_ms / 1_000))

    def rerouted(self, item: Item) -> None:
        """Record that the rejects topic has the message."""
        with self._changed:
            self._refused_in_a_row += item.alert is not None
            self._done(item)
            if not item.abandoned:
                self.refused += 1

    def may_reroute(self) -> bool:
        """Return whether a refused alert may go to the rejects topic; False if the receiver refuses one after another."""
        return self._refused_in_a_row < REFUSED_IN_A_ROW_MAX

    def again(self, answer: Answer, pause_secs: float) -> None:
        """Record a failed try. If the receiver requests a pause (`pause_secs`), no sender tries before its end."""
        with self._changed:
            self.retries[answer] += 1
            self._not_before = max(self._not_before, time.monotonic() + pause_secs if pause_secs else 0.0)

    def hold_secs(self) -> float:
        """Return the seconds until the end of the pause that the receiver requested; 0 if there is none."""
        return max(0.0, self._not_before - time.monotonic())

    def stop(self) -> None:
        """Set `stopping`; `take` then returns None to all senders."""
        with self._changed:
            self.stopping.set()
            self._changed.notify_all()

    def _done(self, item: Item) -> None:
        self._queues.done(item)
        self._changed.notify()
