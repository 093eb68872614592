"""The ticker: writes a message without lines (a tick) into each own input partition once a second, one after the other.

Ticks bring the passing of time to the pipelines through the log, with an offset, so a replay gives the very same rows. The
ticker only writes input. No results come from a timer, because a timer has no offset to replay from.
The work that becomes due with a tick is work like any other. Ticks into all partitions at once would delay the alerts of that
moment, so the ticker spreads them over the second.
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
    """The writer of ticks into the partitions assigned to this worker now."""

    def __init__(self, topic: str, send: Send, own: Callable[[], Collection[int]], counters: WorkerCounters) -> None:
        self._topic = topic
        self._send = send
        self._own = own
        self._counters = counters
        self._due = 0.0

    async def run(self) -> None:
        """Write ticks until cancelled. Each waits for the delivery of the one before, so that none pile up without Kafka."""
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
        """Sleep until `secs` after the end of the last pause was due; missed time is not caught up."""
        self._due = max(self._due + secs, time.monotonic())
        await asyncio.sleep(self._due - time.monotonic())

    async def _tick(self, partition: int) -> None:
        try:
            await (await self._send(OutgoingRecord(self._topic, partition, b"", b"", TICK_HEADERS)))
            self._counters.ticks += 1
        except (KafkaError, ProducerSendError, NotReady) as error:
            # Faust may assign partitions before its producer has started.
            log.warning("tick not delivered, the next one will carry the time", extra={"error": repr(error)})
