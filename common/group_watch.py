"""A thread that watches a member of a consumer group: it reads the member's progress from the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Protocol

from confluent_kafka import KafkaException

from common.group_lag import GroupView, Place, by_topic
from common.health import Looks, Standstill
from common.process_exit import STALLED, leave
from common.stall import Sign, Stall
from schemas.settings import KafkaSettings

ASK_SECS = 2.0
"""Seconds between two queries of the broker."""
ANSWER_SECS_MAX = 1.0
STOP_SECS_MAX = 0.1
"""Longest wait, in seconds, for the thread to stop. If a query takes longer, the thread is abandoned."""


class Member(Protocol):
    """The watched member. The watch reads its properties in the watch's own thread."""

    @property
    def own(self) -> Collection[Place]:
        """Partitions that are assigned to it now."""

    @property
    def joined(self) -> bool:
        """Whether the group has assigned partitions to it, possibly none."""

    @property
    def done(self) -> Hashable:
        """Counter of its work; any change counts as progress."""

    @property
    def failing_since(self) -> float | None:
        """Monotonic time since which the destination of its output is unreachable; None if it is reachable."""


class Watch(threading.Thread):
    """A thread that records the member's progress in `looks`, for the health pages.

    If the member stalls for more than `stall_secs_max` seconds, it calls `end`, which by default ends the process.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        group: str,
        topics: Iterable[str],
        looks: Looks,
        member: Member,
        stall_secs_max: float,
        end: Callable[[str], None] = lambda why: leave(STALLED, "process", why),
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._looks = looks
        self._member = member
        self._stall = Stall(stall_secs_max)
        self._end = end
        self._topics = list(topics)
        self._group = GroupView(kafka, group, ANSWER_SECS_MAX, log_level=0)
        self._standstill = Standstill[Place]()
        self._stopped = threading.Event()
        looks.lag_by_topic = dict.fromkeys(self._topics, 0)

    def run(self) -> None:
        """Read the progress every `ASK_SECS` seconds until stopped."""
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(ASK_SECS)
        self._group.close()

    def look(self) -> None:
        """Read the member's progress once and record it; call `end` if the member is stalled."""
        own = self._member.own
        try:
            progress = self._group.progress(own or [(self._topics[0], 0)])
        except KafkaException:
            self._standstill.forget()
            self._stall.forget()
            self._looks.silent(time.monotonic())
            return
        now = time.monotonic()
        ours = {place: at for place, at in progress.items() if place in self._member.own}
        self._standstill.look(ours, now)
        self._looks.lag_by_topic = by_topic(self._topics, ours)
        lag = sum(self._looks.lag_by_topic.values())
        self._looks.answered(lag, min(self._standstill.since.values(), default=None), now)
        failing = self._member.failing_since is not None
        if why := self._stall.look(Sign(self._member.joined, ours, self._member.done, failing), now):
            self._end(why)

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self.join(STOP_SECS_MAX)
