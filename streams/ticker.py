"""The ticker: once a second it writes a message without lines into each own input partition, into one after the other.

What the passing time makes ripe is work like any other, and all partitions' at once would hold up the alerts of that moment.
So time reaches the pipelines through the log, with an offset, and a replay gives the very same rows. The ticker only
writes input; results are never made from a timer, which has no offset to be replayed from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from aiokafka.errors import KafkaError
from faust.exceptions import NotReady, ProducerSendError

from schemas.topics import TICK_DIALECT
from streams.delivery import Parcel, Send
from streams.worker_counters import WorkerCounters

log = logging.getLogger(__name__)

TICK_SECS = 1.0
ROUNDS_TOGETHER = 5
"""Of partitions that were just given to us."""
TICK_HEADERS = (("dialect", TICK_DIALECT.encode()),)


class Ticker:
    """Ticks into the partitions that are ours at the moment."""

    def __init__(self, topic: str, send: Send, own: Callable[[], Collection[int]], counters: WorkerCounters) -> None:
        self._topic = topic
        self._send = send
        self._own = own
        self._counters = counters
        self._due = 0.0

    async def run(self) -> None:
        """Tick until cancelled. A tick waits for the one before: while Kafka is away they must not pile up.

        Faust may give out partitions before its producer has started. Where nothing was committed yet it drops what it read
        ahead when partitions move, and a worker ends itself by that: the first ticks come together, so that soon all have been.
        """
        self._due = time.monotonic()
        known: list[int] = []
        together = 0
        while True:
            own = sorted(self._own())
            if own != known:
                known, together = own, ROUNDS_TOGETHER
            if together or not known:
                await self._pause(TICK_SECS)
                # Also those that came in the pause: the sooner they tick, the sooner they have a commit.
                await self._try(sorted(self._own()))
                together = max(together - 1, 0)
                continue
            for partition in known:
                await self._pause(TICK_SECS / len(known))
                if partition in self._own():
                    await self._try([partition])

    async def _pause(self, secs: float) -> None:
        """Until so long after the last pause had to end; what was missed is not made up for."""
        self._due = max(self._due + secs, time.monotonic())
        await asyncio.sleep(self._due - time.monotonic())

    async def _try(self, partitions: Sequence[int]) -> None:
        ticks = [Parcel(self._topic, partition, b"", b"", TICK_HEADERS) for partition in partitions]
        try:
            for future in [await self._send(tick) for tick in ticks]:
                await future
                self._counters.ticks += 1
        except (KafkaError, ProducerSendError, NotReady) as error:
            log.warning("tick not delivered, the next one will tell the time", extra={"error": repr(error)})
