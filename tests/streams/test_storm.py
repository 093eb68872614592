"""A storm of hits: at most one message per minute of an alert, exact counts, in spite of repeats and crashes."""

from __future__ import annotations

import random

import pytest

from bench.hits import Storm, Way
from bench.storm import GAP_SECS_MIN, Seen, pipeline_for
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message

DEVICES, DOMAINS, HITS_EACH, SECS = 8, 10, 1_000, 600
REPLAYED = 40
"""The largest number of messages before the written state's that are read again after a crash."""


def play(storm: Storm, *, twice: bool = False, chance: random.Random | None = None) -> Seen:
    """Run the storm through a pipeline, which may crash at random and continues from its written state."""
    pipeline, seen = pipeline_for(storm), Seen(storm.way)
    table: dict[bytes, bytes] = {}
    log: list[Message] = []
    restart_from = 0

    def take(message: Message) -> None:
        pipeline.take(message)
        for _, alert in pipeline.drain().alerts:
            seen.take(alert, message.logged_ms)

    for message in storm.messages(twice=twice):
        log.append(message)
        take(message)
        if chance is not None and message.dialect == TICK_DIALECT:
            if chance.random() < 0.3:
                table.update(pipeline.checkpoint())
                restart_from = len(log)
            elif chance.random() < 0.05:
                pipeline = pipeline_for(storm)
                pipeline.restore(table.items())
                for again in log[max(restart_from - chance.randrange(REPLAYED), 0) :]:
                    take(again)
    return seen


@pytest.mark.parametrize(("way", "domains_each"), [(Way.BLOCKED, 1), (Way.NOT_ENFORCED, DOMAINS)])
def test_a_storm_is_few_messages_and_exact_counts(way: Way, domains_each: int) -> None:
    """Each alert counts every hit that was sent, and is emitted at most once a minute."""
    storm = Storm(way, DEVICES, DOMAINS, domains_each, HITS_EACH, SECS)
    seen = play(storm)

    assert seen.counts() == storm.counts()
    assert sum(seen.counts().values()) == DEVICES * HITS_EACH
    assert len(seen.latest) == DEVICES * domains_each
    assert seen.shortest_gap_ms >= GAP_SECS_MIN * 1_000
    assert max(seen.messages.values()) <= 1 + SECS // GAP_SECS_MIN


@pytest.mark.parametrize(("way", "seed"), [(Way.BLOCKED, 1), (Way.NOT_ENFORCED, 2)])
def test_crashes_and_repeats_change_nothing(way: Way, seed: int) -> None:
    """Every line twice, and crashes between checkpoints: the same alerts, equally often."""
    storm = Storm(way, DEVICES // 2, DOMAINS, 1, HITS_EACH // 2, SECS)
    expected, found = play(storm), play(storm, twice=True, chance=random.Random(seed))

    assert found.latest == expected.latest
    assert found.messages == expected.messages
    assert found.shortest_gap_ms >= GAP_SECS_MIN * 1_000
