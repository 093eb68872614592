"""Batches of the agent's input: the first batch after a pause waits to fill; under load a batch is what arrived meanwhile.

Faust's `noack_take` gives every batch the time to fill, even if it arrived while the previous one was processed. Under load the
worker idles in that time, and every alert is late by as much.
"""

from __future__ import annotations

from asyncio import Event, Queue, sleep
from collections.abc import AsyncGenerator
from typing import Any

STILL_TURNS_MAX = 10
"""Turns of the event loop without a message taken, after which a batch is complete.

The stream's task needs half of them to resume after a full batch.
"""


async def batches(stream: Any, messages_max: int, wait_secs: float) -> AsyncGenerator[list[Any], None]:
    """Yield the events of a faust.Stream, not acknowledged, in batches of at most `messages_max`.

    After a pause a batch has `wait_secs` to fill. Each batch is emptied when the next one is requested. Faust's interface type
    lacks `noack_take`. The wait inside `noack_take` can be replaced only as the stream's `wait_for_stopped`.
    """
    wait: Any = stream.wait_for_stopped
    worked = False

    async def fill(full: Event, *, timeout: float) -> bool:
        nonlocal worked
        if not worked:
            return bool(await wait(full, timeout=timeout))
        worked = False
        await _drained(stream.channel.queue, full)
        return bool(stream.should_stop)

    stream.wait_for_stopped = fill
    async for events in stream.noack_take(messages_max, within=wait_secs):
        yield events
        events.clear()  # at a rebalance Faust waits for messages that are still referenced
        worked = True


async def _drained(queue: Queue[Any], full: Event) -> None:
    """Let the stream's own task take what is queued: one message per turn, none while the flow is suspended."""
    still = 0
    while still < STILL_TURNS_MAX and not full.is_set():
        before = queue.qsize()
        await sleep(0)
        still = still + 1 if queue.qsize() == before else 0
