"""The ticker goes on whatever becomes of a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
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


class Clock:
    """Stands in for the ticker's `time` and `asyncio`: a sleep takes no time and moves the clock; past the end it cancels."""

    def __init__(self, ends_at: float) -> None:
        self._now = 0.0
        self._ends_at = ends_at

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, secs: float) -> None:
        await asyncio.sleep(0)
        self._now += max(0.0, secs)
        if self._now > self._ends_at:
            raise asyncio.CancelledError


def ticks(
    monkeypatch: pytest.MonkeyPatch,
    secs: float,
    own: Callable[[int], list[int]],
    delivery_secs: Callable[[int], float] = lambda _: 0.0,
) -> list[tuple[float, int]]:
    """Return the second and the partition of each tick in so many seconds; both functions get the number of ticks sent before."""
    clock = Clock(secs)
    monkeypatch.setattr(ticker, "time", clock)
    monkeypatch.setattr(ticker, "asyncio", clock)
    sent: list[tuple[float, int]] = []

    async def send(outgoing: OutgoingRecord) -> Any:
        sent.append((round(clock.monotonic(), 6), outgoing.partition))
        return asyncio.ensure_future(clock.sleep(delivery_secs(len(sent) - 1)))

    with suppress(asyncio.CancelledError):
        asyncio.run(ticker.Ticker("telemetry", send, lambda: own(len(sent)), WorkerCounters()).run())
    return sent


def test_partitions_tick_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once in the time, spread over it."""
    sent = ticks(monkeypatch, 3.2, lambda _: [4, 7])

    assert sent == [(0.5, 4), (1.0, 7), (1.5, 4), (2.0, 7), (2.5, 4), (3.0, 7)]


def test_a_partition_that_was_given_away_has_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was given away since the last one's."""
    sent = ticks(monkeypatch, 9.0, lambda sent: [4, 7] if sent < 3 else [4])

    assert [partition for _, partition in sent[:3]] == [4, 7, 4]
    assert {partition for _, partition in sent[3:]} == {4}


def test_ticks_that_kafka_held_up_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a delivery that took seven seconds the next tick follows a pause, not a burst."""
    sent = ticks(monkeypatch, 10.5, lambda _: [0], lambda sent: 0.0 if sent else 7.0)

    assert [at for at, _ in sent] == [1.0, 8.0, 9.0, 10.0]
