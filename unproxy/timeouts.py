"""How long a command that works with Kafka waits for it, and how it is told to stop."""

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
"""Without any progress for so long Kafka is away."""

Answer = TypeVar("Answer")


class Stopped(Exception):
    """Told to stop; what was done is done."""


class Patience:
    """Of one run of a command; `again` says what starting it once more does."""

    def __init__(self, bootstrap: str, again: str) -> None:
        self.stop = Event()
        """Set by whoever wants an end."""
        self._bootstrap = bootstrap
        self._again = again
        self._trouble = "no answer"

    def note(self, error: KafkaError) -> None:
        """What Kafka's client complains of, in case nothing better comes."""
        self._trouble = error.str()

    def check_stop(self) -> None:
        """Raises Stopped once an end is wanted."""
        if self.stop.is_set():
            raise Stopped

    def check(self, heard_at: float) -> None:
        """Raises Stopped, and KafkaAway when the last progress, by the monotonic clock, is too long ago."""
        self.check_stop()
        if time.monotonic() - heard_at >= AWAY_SECS_MAX:
            raise KafkaAway(f"{self._bootstrap}: Kafka went away ({self._trouble}); {self._again}")

    def asked(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """The broker's answer. One that moves, or has just begun, does not know everything at once: it is asked again."""
        since = time.monotonic()
        while True:
            self.check_stop()
            try:
                return question(*arguments)
            except KafkaException as error:
                self.note(error.args[0])
                self.check(since)
                self.stop.wait(POLL_SECS)
