"""Commits never pass what was handled, and where reading goes back to them it goes back in every partition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name
from streams.worker.commits import Commits
from tests.streams.worker.worker_process import PARTITIONS, commit, produce

SettingsFor = Callable[..., Settings]


class FaustConsumer:
    """As much of Faust's consumer as goes back to what is committed; it does so in a thread of its own, here in this one."""

    _commit_offsets = None

    def __init__(self, kafka: Any, meanwhile: Callable[[], None]) -> None:
        self._thread = self
        self._kafka = kafka
        self._meanwhile = meanwhile

    def _ensure_consumer(self) -> Any:
        return self._kafka

    async def call_thread(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        await work(*arguments)

    async def seek_to_committed(self) -> Any:
        committed = await self._kafka.seek_to_committed()
        self._meanwhile()
        return committed


async def no_answer(_places: object) -> None:
    raise KafkaTimeoutError


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [("", {0: 0, 1: 2, 2: 0, 3: 0}), ("given away", {}), ("no answer", {0: 5, 1: 2, 2: 5, 3: 5})],
)
def test_what_was_dropped_before_a_first_commit_is_read_again(
    trouble: str, expected: dict[int, int], kafka_settings_for: SettingsFor
) -> None:
    """In each partition reading goes on behind the commit, or at the beginning; partitions may be given away meanwhile.

    Faust looks at the positions all the time, so there is one at each moment. Without an answer all stays as it is.
    """
    settings = kafka_settings_for()
    topic = topic_name(settings, TELEMETRY)
    produce(settings, [(partition, b"dev", b"x") for partition in range(PARTITIONS) for _ in range(5)])
    commit(settings, 1, 2)
    untyped: Any = AIOKafkaConsumer

    async def positions() -> dict[int, int]:
        kafka = untyped(
            topic,
            bootstrap_servers=settings.kafka.bootstrap,
            group_id=settings.worker.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with kafka:
            read = 0
            while read < 5 * PARTITIONS - 2:
                read += sum(map(len, (await kafka.getmany(timeout_ms=100)).values()))
            if trouble == "no answer":
                kafka.beginning_offsets = no_answer
            consumer = FaustConsumer(kafka, kafka.unsubscribe if trouble == "given away" else lambda: None)
            Commits(topic).watch(consumer)
            going_back = asyncio.create_task(consumer.seek_to_committed())
            while not going_back.done():
                await asyncio.sleep(0)
                for place in kafka.assignment():
                    assert kafka._subscription.subscription.assignment.state_value(place).has_valid_position
            await going_back
            return {place.partition: await kafka.position(place) for place in kafka.assignment()}

    assert asyncio.run(positions()) == expected


def test_no_commit_passes_what_was_handled() -> None:
    """Faust acknowledges what it skips; a commit is cut at what was done, and there is none before anything was."""
    seen: list[object] = []

    async def commit(offsets: object, *, start_new_transaction: bool) -> bool:
        seen.append((offsets, start_new_transaction))
        return True

    consumer = SimpleNamespace(_commit_offsets=commit, seek_to_committed=None)
    commits = Commits("telemetry")
    commits.watch(consumer)
    commits.watch(consumer)
    commits.handled(0, 4)
    commits.handled(0, 3)
    asked = {TP("telemetry", 0): 9, TP("telemetry", 1): 9, TP("other", 1): 9}
    answers = [asyncio.run(consumer._commit_offsets(asked, start_new_transaction=False))]
    commits.forget()
    answers.append(asyncio.run(consumer._commit_offsets({TP("telemetry", 0): 9}, start_new_transaction=True)))

    assert seen == [({TP("telemetry", 0): 5, TP("other", 1): 9}, False)]
    assert answers == [True, False]
