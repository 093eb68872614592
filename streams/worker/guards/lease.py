"""The lease: allows writes only shortly after the group coordinator confirmed that this worker owns its partitions.

After a pause of the whole process (swap, SIGSTOP, a sleeping machine) only a clock can show that another worker may have
its partitions. An accepted heartbeat proves that at the moment it was *sent* no other worker had them, and that none gets
them for one session timeout from then on. The lease therefore records the send time of each accepted heartbeat. Before each
write the worker waits for a newer one if the last is older than two thirds of the session timeout. If the membership has
changed meanwhile, the current batch belongs to another worker: the process ends and puts its local state aside, because it
may contain a late write.
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
"""After this time without an accepted heartbeat the process ends, as a restart is more likely to help than more waiting."""
POLL_SECS = 0.05
STALE_MARK = ".stale-"


class Membership(NamedTuple):
    """This worker's membership in the consumer group; every rebalance that affects the worker changes it."""

    generation: int
    member_id: str


class Lease:
    """The guard of one worker's membership in its group."""

    def __init__(self, session_secs: float, data_dir: Path, counters: WorkerCounters) -> None:
        self._secs_max = session_secs * 2 / 3
        self._data_dir = data_dir
        self._counters = counters
        self._join_began_at = self._renewed_at = float("-inf")
        self._fenced = ""
        self._coordinator: Any = None

    def joining(self) -> None:
        """Record that the worker is about to request partitions: their assignment proves as much as a heartbeat sent now."""
        self._join_began_at = time.monotonic()

    def watch(self, coordinator: Any) -> None:
        """Renew the lease after an assignment, and record the heartbeats of aiokafka's coordinator from now on.

        It replaces a private method, so the version of aiokafka is pinned.
        """
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
                # For example another process of the same name. Retries do not help, so the next check ends the process.
                self._fenced = f"the coordinator refused our heartbeat ({error}); is there another worker of this name?"
                raise
            if accepted:
                self._renewed_at = sent_at
            return accepted

        coordinator._do_heartbeat = noted_beat

    def membership(self) -> Membership:
        """Return the present membership; a batch keeps the one under which it begins."""
        assert self._coordinator is not None, "messages arrive only after an assignment, which calls watch()"
        return Membership(self._coordinator.generation, self._coordinator.member_id)

    async def check(self, born: Membership) -> None:
        """Return only if writing is still safe for a batch that began under this membership.

        Waits up to WAIT_SECS_MAX for a heartbeat; otherwise ends the process with Exit.LEASE_LOST.
        """
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
    """Delete the folders that earlier processes put aside."""
    for stale in data_dir.parent.glob(f"{data_dir.name}{STALE_MARK}*"):
        shutil.rmtree(stale, ignore_errors=True)
