"""Limits of the time that a command waits for Kafka, and the stop of such a wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from unproxy.errors import KafkaAway

ASK_SECS_MAX = 2.0
POLL_SECS = 0.1
AWAY_SECS_MAX = 30.0
"""Seconds without progress after which Kafka counts as unreachable."""

Answer = TypeVar("Answer")


class Stopped(Exception):
    """The command was asked to stop; the work that it has done stays done."""


class KafkaWait:
    """The waits for Kafka in one run of a command, which end at a stop, and when Kafka is unreachable for too long.

    `again` states what a repeated run does; it is the end of the message of KafkaAway.
    """

    def __init__(self, bootstrap: str, again: str) -> None:
        self.stop = Event()
        """When it is set, waits end with Stopped."""
        self._bootstrap = bootstrap
        self._again = again
        self._trouble = "no answer"

    def note(self, error: KafkaError) -> None:
        """Keep the latest error of the Kafka client for the message of KafkaAway."""
        self._trouble = error.str()

    def check_stop(self) -> None:
        """Raise Stopped if `stop` is set."""
        if self.stop.is_set():
            raise Stopped

    def check(self, progress_at: float) -> None:
        """Raise Stopped if `stop` is set, and KafkaAway if the last progress (monotonic time) is `AWAY_SECS_MAX` ago."""
        self.check_stop()
        if time.monotonic() - progress_at >= AWAY_SECS_MAX:
            raise KafkaAway(f"{self._bootstrap}: Kafka went away ({self._trouble}); {self._again}")

    def retried(self, request: Callable[..., Answer], *arguments: object) -> Answer:
        """Return the broker's answer to a request, which is repeated while it fails, such as during a change of leaders.

        Raises the same exceptions as `check`.
        """
        since = time.monotonic()
        while True:
            self.check_stop()
            try:
                return request(*arguments)
            except KafkaException as error:
                self.note(error.args[0])
                self.check(since)
                self.stop.wait(POLL_SECS)
