"""The ticker goes on whatever becomes of a tick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import NotReady, ProducerSendError

from streams.worker import ticker
from streams.worker.counters import WorkerCounters
from streams.worker.delivery import OutgoingRecord


@pytest.mark.parametrize(
    "error", [NotReady("Producer service not yet started"), ProducerSendError(), KafkaTimeoutError()]
)
def test_a_tick_that_fails_is_followed_by_another(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Faust gave out partitions before its producer was there."""
    monkeypatch.setattr(ticker, "TICK_SECS", 0.001)
    counters, sent = WorkerCounters(), asyncio.Event()
    errors = [error]

    async def send(outgoing: OutgoingRecord) -> Any:
        assert outgoing.topic == "telemetry"
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


def ticks(
    secs: float, own: Callable[[int], list[int]], delivery_secs: Callable[[int], float]
) -> list[tuple[float, int]]:
    """When each partition had a tick, of a ticker that runs for so long; what is told depends on how many were sent before."""
    sent: list[tuple[float, int]] = []

    async def send(outgoing: OutgoingRecord) -> Any:
        sent.append((time.monotonic(), outgoing.partition))
        return asyncio.ensure_future(asyncio.sleep(delivery_secs(len(sent) - 1)))

    async def run() -> None:
        running = asyncio.create_task(ticker.Ticker("telemetry", send, lambda: own(len(sent)), WorkerCounters()).run())
        await asyncio.sleep(secs)
        running.cancel()

    asyncio.run(run())
    return sent


def test_partitions_tick_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once in the time, spread over it."""
    monkeypatch.setattr(ticker, "TICK_SECS", 0.3)
    sent = ticks(1.2, lambda _: [4, 7], lambda _: 0.0)
    assert [partition for _, partition in sent[:6]] == [4, 7, 4, 7, 4, 7]
    assert all(later - at > 0.1 for (at, _), (later, _) in pairwise(sent)), "0.15 s lie between them"


def test_a_partition_that_was_given_away_has_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was given away since the last one's."""
    monkeypatch.setattr(ticker, "TICK_SECS", 0.02)
    sent = ticks(0.4, lambda sent: [4, 7] if sent < 3 else [4], lambda _: 0.0)
    assert [partition for _, partition in sent[:3]] == [4, 7, 4]
    assert {partition for _, partition in sent[3:]} == {4}


def test_ticks_that_kafka_held_up_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "TICK_SECS", 0.1)
    sent = ticks(1.0, lambda _: [0], lambda sent: 0.0 if sent else 0.7)
    assert len(sent) <= 4
