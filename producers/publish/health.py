"""Whether a producer is well: pure, time comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from common.health import AWAY_SECS_MAX, Verdict

QUIET_SECS_MAX = 10.0
"""Messages may wait for so long for Kafka's acknowledgement before the producer does not count as ready any more."""


DIALECTS_TOLD_MAX = 20
"""So many are named in a sentence."""


class PublisherFacts(NamedTuple):
    """What its pages know of a producer."""

    waiting: int
    """Messages that Kafka has not acknowledged."""
    quiet_since: float | None
    """Nothing has been acknowledged since then although something waits; None while nothing does."""


def alive(facts: PublisherFacts, now: float) -> Verdict:
    """What it sends is acknowledged, or nothing is to be sent, or Kafka is away for not too long."""
    if facts.quiet_since is None:
        return Verdict(True, "nothing waits for Kafka")
    quiet_secs = now - facts.quiet_since
    waiting = f"{facts.waiting} messages wait for Kafka, which acknowledged nothing for {quiet_secs:.0f} s"
    return Verdict(quiet_secs <= AWAY_SECS_MAX, f"{waiting} (at most {AWAY_SECS_MAX:.0f})")


def with_dialects(verdict: Verdict, lines: Mapping[str, int]) -> Verdict:
    """The same, and which dialects the lines read so far were written in, the most frequent first."""
    if not lines:
        return verdict
    first = sorted(lines.items(), key=lambda one: (-one[1], one[0]))[:DIALECTS_TOLD_MAX]
    return Verdict(verdict.ok, f"{verdict.why}; lines read: {', '.join(f'{name} {count:,}' for name, count in first)}")


def ready(facts: PublisherFacts, kafka_answers: bool, now: float) -> Verdict:
    """Kafka answers, and acknowledges what it is sent."""
    if not kafka_answers:
        return Verdict(False, "Kafka does not answer")
    if facts.quiet_since is not None and now - facts.quiet_since > QUIET_SECS_MAX:
        return Verdict(False, f"Kafka answers, but has acknowledged nothing for {now - facts.quiet_since:.0f} s")
    return Verdict(True, "Kafka answers")
