"""What the agent takes at a time, from a real Faust stream: under load what came meanwhile, after a pause it waits a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import faust
import pytest

from streams.worker.intake import STILL_TURNS_MAX, batches

LONG_SECS = 60.0
FULL = 5

Send = Callable[[str], Awaitable[None]]
Take = Callable[[], Awaitable[str]]


def converse(wait_secs: float, talk: Callable[[Send, Take], Awaitable[None]]) -> None:
    """Let `talk` send messages of a letter each and take batches of them."""

    async def go() -> None:
        app = faust.App("intake", broker="kafka://")
        app.flow_control.resume()
        channel = app.channel(maxsize=1_000)
        stream = channel.stream()
        taken: AsyncGenerator[list[Any], None] = batches(stream, FULL, wait_secs)

        async def send(letters: str) -> None:
            for letter in letters:
                await channel.send(value=letter)

        async def take() -> str:
            return "".join(event.value for event in await anext(taken))

        await talk(send, take)
        await stream.stop()
        consumer: Any = app.consumer  # made by the stream, never started: its thread's loop is all there is of it
        consumer._thread.thread_loop.close()

    asyncio.run(asyncio.wait_for(go(), LONG_SECS / 2))


@pytest.mark.parametrize("first", ["abcde", "abcdef"])
def test_what_came_while_a_batch_was_worked_on_is_the_next_at_once(first: str) -> None:
    """The second would wait for a minute otherwise. One message more than fits is held by Faust at that moment."""

    async def talk(send: Send, take: Take) -> None:
        await send(first)
        assert await take() == "abcde"
        await send("ghi")
        assert await take() == first[FULL:] + "ghi"

    converse(LONG_SECS, talk)


def test_more_than_a_batch_holds_is_left_for_the_next_ones() -> None:
    async def talk(send: Send, take: Take) -> None:
        await send("abcdefghijkl")
        assert [await take() for _ in range(3)] == ["abcde", "fghij", "kl"]

    converse(LONG_SECS, talk)


def test_after_a_pause_a_batch_fills_for_a_while() -> None:
    """The first message after a pause is no batch yet; more than that the batch does not hold, so it is complete at once."""

    async def talk(send: Send, take: Take) -> None:
        await send("abcde")
        assert await take() == "abcde"
        taking = asyncio.ensure_future(take())
        for letter in "fg":
            await turns()
            await send(letter)
        await turns()
        assert not taking.done()
        await send("hij")
        assert await taking == "fghij"

    converse(LONG_SECS, talk)


async def turns() -> None:
    """Let the event loop turn more often than a batch without a pause waits."""
    for _ in range(5 * STILL_TURNS_MAX):
        await asyncio.sleep(0)


def test_a_batch_that_does_not_fill_ends() -> None:
    """After its time a batch is what there is."""

    async def talk(send: Send, take: Take) -> None:
        await send("a")
        assert await take() == "a"

    converse(0.05, talk)
