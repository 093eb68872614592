"""The watchdog: a thread that ends the process when it stalls although it could make progress, or when a stop hangs.

It is a thread and not a task, because it must also detect a blocked event loop. A timer of the interpreter, which runs no
Python code, watches the watchdog itself: if a library blocks all threads, it dumps their stacks and ends the process with
exit code 1.
"""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NoReturn

from common.group_lag import Progress
from common.health import Looks, Standstill
from streams.quarantine import NO_LINE
from streams.worker.group_offsets import GroupView
from streams.worker.guards.at_hand import AtHand, Place
from streams.worker.guards.exit_codes import Exit, end

log = logging.getLogger(__name__)

ROUND_SECS = 0.25
ASK_SECS = 2.0
STOP_GRACE_SECS = 0.5
"""Time for an orderly stop before the watchdog checks whether Kafka answers."""
STOP_IDLE_SECS_MAX = 3.0
"""Time for Faust's shutdown when no batch is being processed; while Faust joins its group, it may never end."""
STUCK_SECS_MAX = 30.0
"""Limit for one round of the watchdog; each request in a round is answered or times out within seconds.

A library that blocks all threads stops the heartbeats, too, so the next worker gets the same message after a session timeout.
The sooner the process ends, the fewer workers get that message."""
TURNS = 4
"""Factor of the limit for a partition that stands still while others of the same worker progress.

The partitions take turns. A turn is the data fetched of a partition, one or two megabytes; on a machine that is short of CPU
it may take longer than the limit."""
BEATS = 2
"""Factor of the limit for a log without ticks: a rebalance may take half a minute, and no worker ticks meanwhile."""


class Stall:
    """The decision whether the group makes progress; pure, the caller passes the time in seconds."""

    def __init__(self, secs_max: float) -> None:
        self._secs_max = secs_max
        self._standstill = Standstill[int]()
        self._sign: object = None
        self._committed = 0
        self._moved_at = 0.0
        self._now = 0.0

    def forget(self) -> None:
        """Start the observation again: after a broker outage or a change of partitions the past standstill proves nothing."""
        self._standstill.forget()

    def stalled(
        self, progress: Mapping[int, Progress], now: float, sign: object = None, *, everywhere: bool = False
    ) -> Collection[int]:
        """Return the partitions whose input has waited too long without a commit. A new `sign` of work counts as progress.

        `progress` covers one worker's partitions, or with `everywhere` those of the whole group.
        """
        if sign != self._sign:
            self._sign = sign
            self.forget()
        self._standstill.look(progress, now)
        committed = sum(place.committed for place in progress.values())
        if committed != self._committed:
            self._committed, self._moved_at = committed, now
        self._now = now
        return [partition for partition, since in self._since(everywhere).items() if now - since > self._secs_max]

    def standing_since(self, *, everywhere: bool) -> float | None:
        """Return since when a partition with waiting input has had no commit.

        With `everywhere`, since when none of them has had one.
        """
        since = self._since(everywhere).values()
        return (max if everywhere else min)(since, default=None)

    def _since(self, everywhere: bool) -> dict[int, float]:
        """Return since when each partition stands still, without the time in which it may wait for its turn."""
        since = self._standstill.since
        if everywhere:
            return since
        longest = TURNS * self._secs_max
        return {
            partition: at if self._now - at > longest else max(at, self._moved_at) for partition, at in since.items()
        }


class Pulse:
    """The decision whether ticks reach the log; pure, the caller passes the time in seconds.

    The owner of a partition writes a tick into it every second. If no partition grows, none has an owner, or no ticker runs.
    """

    def __init__(self, secs_max: float) -> None:
        self.secs_max = secs_max
        self._ends: Mapping[int, int] = {}
        self._sign: object = None
        self._beat_at: float | None = None

    def forget(self) -> None:
        """Start the observation again: during a broker outage the end offsets may stand still although ticks are due."""
        self._beat_at = None

    def stopped(self, progress: Mapping[int, Progress], now: float, sign: object = None) -> bool:
        """Return whether none of these partitions has grown for too long. A new `sign` of work counts as growth."""
        ends = {partition: place.end for partition, place in progress.items()}
        if self._beat_at is None or ends != self._ends or sign != self._sign:
            self._ends, self._sign, self._beat_at = ends, sign, now
        return now - self._beat_at > self.secs_max


@dataclass(eq=False)
class Watchdog:
    """The thread that watches one Faust app from outside its event loop."""

    group: GroupView
    looks: Looks
    _: KW_ONLY
    stall_secs_max: float
    stop_secs_max: float
    partitions: int
    own_partitions: Callable[[], Collection[int]]
    sign_of_work: Callable[[], Any]
    stopping: Callable[[], bool]
    stop_asked: Callable[[], bool]
    busy: Callable[[], bool]
    at_hand: AtHand
    _answered: bool = field(default=True, init=False)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self.run, name="watchdog", daemon=True).start()

    def run(self) -> None:
        """Check the process every ROUND_SECS until it ends."""
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001  # any exception: the worker must not continue without its watchdog
            end(Exit.UNEXPECTED, f"the watchdog failed: {error!r}")

    def _watch(self) -> None:
        stall, pulse = Stall(self.stall_secs_max), Pulse(BEATS * self.stall_secs_max)
        asked_at = since = time.monotonic()
        seen = self.at_hand.look()
        stopping_since: float | None = None
        while True:
            faulthandler.dump_traceback_later(STUCK_SECS_MAX, exit=True)
            time.sleep(ROUND_SECS)
            now = time.monotonic()
            looked = self.at_hand.look()
            if looked != seen or not looked[0]:
                seen, since = looked, now
            elif now - since > self.stall_secs_max:
                self._end_at(looked[1])
            if self.stopping():
                stopping_since = stopping_since or now
                self._hasten(now - stopping_since)
            elif now - asked_at > ASK_SECS:
                asked_at = now
                self._ask(stall, pulse, now)

    def _ask(self, stall: Stall, pulse: Pulse, now: float) -> None:
        own = self.own_partitions()
        progress = self.group.progress(own or range(self.partitions))
        if progress is None:
            stall.forget()  # a restart does not bring the broker back
            pulse.forget()
            if self._answered:
                log.warning("Kafka does not answer, the worker continues when it does")
            self._answered = False
            self.looks.silent(now)
            return
        if not self._answered:
            log.info("Kafka answers again")
        self._answered = True
        sign = self.sign_of_work()
        late = stall.stalled(progress, now, sign, everywhere=not own)
        behind = [place for place in progress.values() if place.committed < place.end]
        # A spare worker has no partitions; it reacts only if all of the group's waiting partitions stand still.
        lag = sum(place.end - place.committed for place in behind) if own else 0
        self.looks.answered(lag, stall.standing_since(everywhere=not own), now)
        if late and (own or len(late) == len(behind)):
            where = ", ".join(f"partition {p} at {progress[p].committed} of {progress[p].end}" for p in sorted(late))
            end(Exit.STALLED, f"input waits and nothing was committed for {self.stall_secs_max:.0f} s: {where}")
        if pulse.stopped(progress, now, sign):
            whose = "partitions that are ours" if own else "any partition, and none is ours"
            end(Exit.STALLED, f"Kafka answers, but for {pulse.secs_max:.0f} s no tick was published to {whose}")

    def _end_at(self, place: Place) -> NoReturn:
        """End the process at a message that takes too long. The dumped stacks show the code that processes it."""
        self.at_hand.note_exit(Exit.STALLED)
        faulthandler.dump_traceback()
        _, line, _ = place.death
        where = "outside of its lines" if line == NO_LINE else f"line {line + 1}"
        end(
            Exit.STALLED,
            f"the message in partition {place.partition} at offset {place.death.offset}, {where}, has been worked on for "
            f"{self.stall_secs_max:.0f} s, the stacks above show where; after a second time it goes to rejects",
        )

    def _hasten(self, secs: float) -> None:
        if self.stop_asked() and not self.busy() and secs > min(STOP_IDLE_SECS_MAX, self.stop_secs_max):
            end(Exit.DONE, "stopped; no message was in progress")
        if secs > self.stop_secs_max:
            end(Exit.STOP_HANGS, f"the stop did not end within {self.stop_secs_max:.0f} s")
        if secs > STOP_GRACE_SECS and self.stop_asked() and not (self._answered and self.group.progress([0])):
            # An orderly stop would wait for acknowledgements that cannot come. Unacknowledged messages are read again.
            end(Exit.DONE, "stopped while Kafka did not answer; messages in progress will be read again")
