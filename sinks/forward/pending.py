"""Where reading and sending meet: the queues under a lock, what became of each alert, and when the receiver is tried again."""

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
"""Bytes of waiting alerts beyond which reading stops, whatever their number."""
REFUSED_IN_A_ROW_MAX = 20
"""So many alerts refused and none taken between: then it is not the alerts, and rerouting everything is losing it."""


class PendingAlerts:
    """Shared by the thread that reads and those that send."""

    def __init__(self, *, coalesce: bool, waiting_max: int) -> None:
        self.read = 0
        self.sent = 0
        self.refused = 0
        """Sent to the rejects topic instead."""
        self.left = 0
        """Read and not sent as their partition went to another."""
        self.skipped: Counter[Skip] = Counter(dict.fromkeys(Skip, 0))
        self.retries: Counter[Answer] = Counter(
            dict.fromkeys((answer for answer in Answer if answer not in (Answer.DELIVERED, Answer.REFUSED)), 0)
        )
        self.latency_secs = Histogram(SECONDS)
        """From the message's time to the receiver's answer."""
        self.stopping = threading.Event()
        self._waiting_max = waiting_max
        self._queues = AlertQueues(coalesce=coalesce)
        self._refused_in_a_row = 0
        self._not_before = 0.0
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Alerts read and not done."""
        return self._queues.waiting

    @property
    def full(self) -> bool:
        """Whether reading should stop."""
        return self._queues.waiting >= self._waiting_max or self._queues.bytes >= BYTES_MAX

    def begin(self, partition: int, offset: int) -> None:
        """A partition is ours."""
        with self._changed:
            self._queues.begin(partition, offset)

    def expected(self, partition: int) -> int | None:
        """Offset of its next message; None for a partition that is not ours."""
        return self._queues.expected(partition)

    def skip(self, partition: int, offset: int, why: Skip) -> None:
        """This message is not sent."""
        with self._changed:
            self.read += 1
            self.skipped[why] += 1
            self._queues.skip(partition, offset)

    def add(self, item: Item) -> None:
        """This message is sent when its turn comes."""
        with self._changed:
            self.read += 1
            self.skipped[Skip.SUPERSEDED] += self._queues.add(item)
            self._changed.notify()

    def leave(self, partition: int) -> None:
        """A partition is not ours any more."""
        with self._changed:
            self.left += self._queues.leave(partition)

    def committable(self) -> dict[int, int]:
        """The offset of each partition before which everything is done."""
        with self._changed:
            return dict(self._queues.committable())

    def take(self) -> Item | None:
        """The next message to send, waited for; None at the end."""
        with self._changed:
            while not self.stopping.is_set():
                if item := self._queues.take():
                    return item
                self._changed.wait()
        return None

    def delivered(self, item: Item) -> None:
        """The receiver has it."""
        with self._changed:
            self._refused_in_a_row = 0
            self._done(item)
            if not item.abandoned:
                self.sent += 1
                # Two clocks may differ by a little more than the way took.
                self.latency_secs.add(max(0.0, time.time() - item.timestamp_ms / 1_000))

    def rerouted(self, item: Item) -> None:
        """The rejects topic has it."""
        with self._changed:
            self._refused_in_a_row += item.alert is not None
            self._done(item)
            if not item.abandoned:
                self.refused += 1

    def may_reroute(self) -> bool:
        """Whether a refusal is about one alert; not when everything is refused."""
        return self._refused_in_a_row < REFUSED_IN_A_ROW_MAX

    def again(self, answer: Answer, pause_secs: float) -> None:
        """A try failed; where the receiver asks for a pause, nobody tries before."""
        with self._changed:
            self.retries[answer] += 1
            self._not_before = max(self._not_before, time.monotonic() + pause_secs if pause_secs else 0.0)

    def hold_secs(self) -> float:
        """How long the receiver still wants to be left alone."""
        return max(0.0, self._not_before - time.monotonic())

    def stop(self) -> None:
        """Give out nothing more."""
        with self._changed:
            self.stopping.set()
            self._changed.notify_all()

    def _done(self, item: Item) -> None:
        self._queues.done(item)
        self._changed.notify()
