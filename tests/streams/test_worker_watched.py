"""The worker's parts against a real Kafka: the way back to what is committed, and a log in which nobody ticks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError

from schemas.settings import Settings
from schemas.topics import TELEMETRY, TICK_DIALECT, topic_name
from streams.commits import Commits
from tests.streams.worker_process import PARTITIONS, commit, produce

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


WATCHED = """
import sys, threading
from schemas.health import Looks
from schemas.settings import Settings
from streams import watchdog
from streams.guard_group import GroupView
settings = Settings.model_validate_json(sys.stdin.read())
watchdog.ASK_SECS = 0.2
nothing = dict.fromkeys(("sign_of_work", "stopping", "stop_asked", "busy"), lambda: False)
watchdog.Watchdog(
    GroupView(settings), Looks(), **nothing, stall_secs_max=1.5, stop_secs_max=9, partitions=4,
    own_partitions=lambda: [int(partition) for partition in sys.argv[1:]],
).start()
threading.Event().wait(50)
"""


@pytest.mark.parametrize(
    ("own", "why"),
    [([], "for 3 s nobody has ticked into any partition"), (["0"], "for 3 s nobody has ticked into partitions that")],
    ids=["without partitions", "with one"],
)
def test_a_worker_in_a_log_without_ticks_is_ended(
    own: list[str], why: str, kafka_settings_for: SettingsFor, tmp_path: Path
) -> None:
    """Nothing waits and Kafka answers: while somebody ticks there it goes on, and after that it ends itself with 76."""
    settings = kafka_settings_for()
    log = tmp_path / "log"
    with log.open("wb") as out:
        watched = subprocess.Popen([sys.executable, "-c", WATCHED, *own], stdin=subprocess.PIPE, stdout=out, stderr=out)
    assert watched.stdin is not None
    watched.stdin.write(settings.model_dump_json().encode())
    watched.stdin.close()
    for offset in range(7):
        produce(settings, [(0, b"", b"")], TICK_DIALECT)
        commit(settings, 0, offset + 1)
        time.sleep(1)
    lived = watched.poll() is None

    assert watched.wait(30) == 76
    assert lived
    assert why in log.read_text()
