"""A simulated world through a pipeline, without a broker: its rows beside the requests that were really made."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from producers.simulation import World, WorldSettings
from producers.simulation.journal import SLICE
from schemas.clock import MICROS
from schemas.settings import CorrelationSettings
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message, Pipeline
from tests.factories import Row, latest
from tests.sample import Score, score

TICKS_EVERY = MICROS // SLICE
AFTERWARDS_SECS = 200
"""Seconds for which the log continues after the last line."""


@dataclass
class Played:
    """The rows and the truth of one world."""

    tally: Counter[str]
    rows: list[Row] = field(default_factory=list)
    truth: list[Row] = field(default_factory=list)
    rejects: int = 0
    book: dict[str, int] = field(default_factory=dict)

    def score(self) -> Score:
        """Compare rows with the truth."""
        return score(latest(self.rows), self.truth)


def play(settings: WorldSettings, correlation: CorrelationSettings | None = None) -> Played:
    """Return a world as its publishers send it: a message per slice of each file, with ticks in between."""
    pipeline = Pipeline(correlation or CorrelationSettings())
    truth: list[Row] = []
    world = World(settings, truth=truth.append)
    played = Played(world.tally, truth=truth)
    offset = number = 0

    def keep() -> None:
        output = pipeline.drain()
        played.rows.extend(map(json.loads, output.network_events))
        played.rejects += len(output.rejects)

    for number, (until, by_device) in enumerate(world.slices(), 1):
        for one in by_device:
            for stream, lines in zip(one.streams, one.lines, strict=True):
                if lines:
                    offset += 1
                    value = b"\n".join(line for _, line in lines)
                    pipeline.take(Message(offset, until // 1000, one.device.encode(), value, stream.dialect))
        if number % TICKS_EVERY == 0:
            offset += 1
            pipeline.take(Message(offset, until // 1000, b"", b"", TICK_DIALECT))
        keep()
    for second in range(AFTERWARDS_SECS):
        offset += 1
        pipeline.take(Message(offset, (until + second * MICROS) // 1000, b"", b"", TICK_DIALECT))
        keep()
    pipeline.finish()
    keep()
    played.book = pipeline.book()
    return played
