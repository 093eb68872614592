"""What the agent takes at a time: after a pause a batch has a while to fill, and under load it is what came meanwhile.

Faust's `noack_take` lets every batch fill for as long, also one that came while the last was worked on. Under load that is
time in which nothing is done, and every alert is as much later.
"""

from __future__ import annotations

from asyncio import Event, Queue, sleep
from collections.abc import AsyncGenerator
from typing import Any

STILL_TURNS_MAX = 10
"""Turns of the event loop without a message taken. The stream's task needs half of them to go on after a full batch."""


async def batches(stream: Any, messages_max: int, wait_secs: float) -> AsyncGenerator[list[Any], None]:
    """The events of a faust.Stream, not acknowledged, at most so many at a time; each batch is emptied after its use.

    Faust's own interface type lacks noack_take; the wait inside it has no name but the stream's `wait_for_stopped`.
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
        events.clear()  # Faust waits at a rebalance for messages that somebody still holds
        worked = True


async def _drained(queue: Queue[Any], full: Event) -> None:
    """Let the stream's own task take what is there: a message a turn, none while the flow is held."""
    still = 0
    while still < STILL_TURNS_MAX and not full.is_set():
        before = queue.qsize()
        await sleep(0)
        still = still + 1 if queue.qsize() == before else 0
