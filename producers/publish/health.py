"""The health of a producer. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from common.health import AWAY_SECS_MAX, Verdict

QUIET_SECS_MAX = 10.0
"""Seconds that messages may wait for Kafka's acknowledgement before the producer is no longer ready."""


DIALECTS_REPORTED_MAX = 20
"""Largest number of dialects that the text of a health page lists."""


class PublisherFacts(NamedTuple):
    """State of a producer that its health pages use."""

    waiting: int
    """Number of messages that Kafka has not acknowledged."""
    quiet_since: float | None
    """Time, by the producer's clock, since which messages wait and Kafka acknowledges none; None if no message waits."""


def alive(facts: PublisherFacts, now: float) -> Verdict:
    """Return whether the producer is alive: no message waits, or Kafka acknowledged one in the last `AWAY_SECS_MAX` seconds."""
    if facts.quiet_since is None:
        return Verdict(True, "nothing waits for Kafka")
    quiet_secs = now - facts.quiet_since
    waiting = f"{facts.waiting} messages wait for Kafka, which acknowledged nothing for {quiet_secs:.0f} s"
    return Verdict(quiet_secs <= AWAY_SECS_MAX, f"{waiting} (at most {AWAY_SECS_MAX:.0f})")


def with_dialects(verdict: Verdict, lines: Mapping[str, int]) -> Verdict:
    """Return the verdict with the dialects of the lines read so far, the most frequent first."""
    if not lines:
        return verdict
    first = sorted(lines.items(), key=lambda one: (-one[1], one[0]))[:DIALECTS_REPORTED_MAX]
    return Verdict(verdict.ok, f"{verdict.why}; lines read: {', '.join(f'{name} {count:,}' for name, count in first)}")


def ready(facts: PublisherFacts, kafka_answers: bool, now: float) -> Verdict:
    """Return whether the producer is ready: Kafka answers, and acknowledges waiting messages within `QUIET_SECS_MAX` seconds."""
    if not kafka_answers:
        return Verdict(False, "Kafka does not answer")
    if facts.quiet_since is not None and now - facts.quiet_since > QUIET_SECS_MAX:
        return Verdict(False, f"Kafka answers, but has acknowledged nothing for {now - facts.quiet_since:.0f} s")
    return Verdict(True, "Kafka answers")
