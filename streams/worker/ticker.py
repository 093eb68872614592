"""The ticker: once a second it writes a message without lines into each own input partition, into one after the other.

What the passing time makes ripe is work like any other, and all partitions' at once would hold up the alerts of that moment.
So time reaches the pipelines through the log, with an offset, and a replay gives the very same rows. The ticker only
writes input; results are never made from a timer, which has no offset to be replayed from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from aiokafka.errors import KafkaError
from faust.exceptions import NotReady, ProducerSendError

from schemas.topics import TICK_DIALECT
from streams.worker.counters import WorkerCounters
from streams.worker.delivery import OutgoingRecord, Send

log = logging.getLogger(__name__)

TICK_SECS = 1.0
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
        """Tick until cancelled. A tick waits for the one before: while Kafka is away they must not pile up."""
        self._due = time.monotonic()
        while True:
            own = sorted(self._own())
            if not own:
                await self._pause(TICK_SECS)
            for partition in own:
                await self._pause(TICK_SECS / len(own))
                if partition in self._own():
                    await self._tick(partition)

    async def _pause(self, secs: float) -> None:
        """Until so long after the last pause had to end; what was missed is not made up for."""
        self._due = max(self._due + secs, time.monotonic())
        await asyncio.sleep(self._due - time.monotonic())

    async def _tick(self, partition: int) -> None:
        try:
            await (await self._send(OutgoingRecord(self._topic, partition, b"", b"", TICK_HEADERS)))
            self._counters.ticks += 1
        except (KafkaError, ProducerSendError, NotReady) as error:
            # Faust may give out partitions before its producer has started.
            log.warning("tick not delivered, the next one will tell the time", extra={"error": repr(error)})
