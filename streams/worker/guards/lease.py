"""The lease: nothing is written unless the group coordinator said a short while ago that our partitions are ours.

After a pause of the whole process (swap, SIGSTOP, a sleeping machine) nothing in it knows that its partitions went to
another worker; only a clock can tell. An accepted heartbeat proves that at the moment it was *sent* nobody else had
them, and for one session timeout from then on nobody gets them. So each heartbeat's send time is noted, and before each
write the worker waits for a newer one when the last is older than two thirds of the session. If the membership changed
meanwhile, what is at hand belongs to somebody else: the process ends, and its local state is put aside, since a write
may have slipped into it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from streams.worker.counters import WorkerCounters
from streams.worker.guards.exit_codes import Exit, end

log = logging.getLogger(__name__)

WAIT_SECS_MAX = 300.0
"""Without an accepted heartbeat for this long, starting anew is the better try."""
POLL_SECS = 0.05
STALE_MARK = ".stale-"


class Membership(NamedTuple):
    """Our place in the consumer group; any rebalance that concerns us changes it."""

    generation: int
    member_id: str


class Lease:
    """Watches one worker's membership in its group."""

    def __init__(self, session_secs: float, data_dir: Path, counters: WorkerCounters) -> None:
        self._secs_max = session_secs * 2 / 3
        self._data_dir = data_dir
        self._counters = counters
        self._join_began_at = self._renewed_at = float("-inf")
        self._fenced = ""
        self._coordinator: Any = None

    def joining(self) -> None:
        """We are about to ask for partitions; being given some later is as good as a heartbeat sent now."""
        self._join_began_at = time.monotonic()

    def watch(self, coordinator: Any) -> None:
        """Partitions were given to us: listen to the heartbeats of aiokafka's coordinator (private, so pinned)."""
        self._renewed_at = max(self._renewed_at, self._join_began_at)
        if coordinator is self._coordinator:
            return
        self._coordinator = coordinator
        beat: Callable[[], Awaitable[bool]] = coordinator._do_heartbeat

        async def noted_beat() -> bool:
            sent_at = time.monotonic()
            try:
                accepted = await beat()
            except Exception as error:
                # Another process with our name, for one: it never gets better, so the next check ends the process.
                self._fenced = f"the coordinator refused our heartbeat ({error}); is there another worker of this name?"
                raise
            if accepted:
                self._renewed_at = sent_at
            return accepted

        coordinator._do_heartbeat = noted_beat

    def membership(self) -> Membership:
        """What we are in the group right now; remember it when a batch begins."""
        assert self._coordinator is not None, "messages arrive only after an assignment, which calls watch()"
        return Membership(self._coordinator.generation, self._coordinator.member_id)

    async def check(self, born: Membership) -> None:
        """Return only if writing is still safe for a batch that began under this membership."""
        since = time.monotonic()
        waited = False
        while time.monotonic() - self._renewed_at > self._secs_max and self.membership() == born and not self._fenced:
            if not waited:
                self._counters.lease_waits += 1
                waited = True
                log.warning("no heartbeat accepted lately, writing waits for one")
            if time.monotonic() - since > WAIT_SECS_MAX:
                self._give_up(f"no heartbeat was accepted for {WAIT_SECS_MAX:.0f} s")
            await asyncio.sleep(POLL_SECS)
        if self._fenced:
            self._give_up(self._fenced)
        if self.membership() != born:
            self._give_up(f"the group gave our partitions away within a batch ({born} is now {self.membership()})")

    def _give_up(self, why: str) -> None:
        put_aside(self._data_dir)
        end(Exit.LEASE_LOST, why)


def put_aside(data_dir: Path) -> None:
    """Rename a folder that may hold stale state, so that the next start recovers from the changelog."""
    if data_dir.exists():
        data_dir.rename(data_dir.with_name(f"{data_dir.name}{STALE_MARK}{time.time_ns()}"))


def sweep(data_dir: Path) -> None:
    """Delete what earlier lives put aside."""
    for stale in data_dir.parent.glob(f"{data_dir.name}{STALE_MARK}*"):
        shutil.rmtree(stale, ignore_errors=True)
