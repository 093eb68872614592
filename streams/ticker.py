"""The ticker: once a second it writes a message without lines into each own input partition.

So time reaches the pipelines through the log, with an offset, and a replay gives the very same rows. The ticker only
writes input; results are never made from a timer, which has no offset to be replayed from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from aiokafka.errors import KafkaError
from faust.exceptions import NotReady, ProducerSendError

from schemas.topics import TICK_DIALECT
from streams.delivery import Parcel, Send
from streams.worker_counters import WorkerCounters

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

    async def run(self) -> None:
        """Tick until cancelled. A tick waits for the one before: while Kafka is away they must not pile up.

        Faust may give out partitions before its producer has started.
        """
        while True:
            await asyncio.sleep(TICK_SECS)
            try:
                await self._tick()
            except (KafkaError, ProducerSendError, NotReady) as error:
                log.warning("tick not delivered, the next one will tell the time", extra={"error": repr(error)})

    async def _tick(self) -> None:
        ticks = [Parcel(self._topic, partition, b"", b"", TICK_HEADERS) for partition in self._own()]
        for future in [await self._send(tick) for tick in ticks]:
            await future
            self._counters.ticks += 1
