"""The ticker goes on whatever becomes of a tick."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import NotReady, ProducerSendError

from streams import ticker
from streams.delivery import Parcel
from streams.worker_counters import WorkerCounters


@pytest.mark.parametrize(
    "error", [NotReady("Producer service not yet started"), ProducerSendError(), KafkaTimeoutError()]
)
def test_a_tick_that_fails_is_followed_by_another(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Faust gave out partitions before its producer was there."""
    monkeypatch.setattr(ticker, "TICK_SECS", 0.001)
    counters, sent = WorkerCounters(), asyncio.Event()
    errors = [error]

    async def send(parcel: Parcel) -> Any:
        assert parcel.topic == "telemetry"
        if errors:
            raise errors.pop()
        sent.set()
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivered.set_result(None)
        return delivered

    async def run() -> None:
        running = asyncio.create_task(ticker.Ticker("telemetry", send, lambda: [0], counters).run())
        await asyncio.wait_for(sent.wait(), 10)
        running.cancel()

    asyncio.run(run())
    assert not errors
