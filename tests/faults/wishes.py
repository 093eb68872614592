"""Indicators and suppressions that a run publishes before it and in the middle of it, and when each is valid."""

from __future__ import annotations

from confluent_kafka import Producer

from schemas.clock import LATEST
from schemas.indicator_input import Given
from schemas.indicator_topic import INDICATOR_MARK, PARTITION, Removed, key_of, read, value_of
from schemas.indicators import Indicator
from schemas.settings import Settings
from schemas.suppressions import Suppression, suppression_id
from schemas.topics import INDICATORS, topic_name
from streams.alerts.policy import Policy
from streams.worker.indicator_feed import GRACE_MS
from tests.factories import indicator
from tests.streams.worker.worker_process import read_all

PROTECTION = {
    "groups": ["first=ws-0000*", "all=ws-*"],
    "modes": ["ws-00001=off", "ws-00012=audit"],
    "alert_gap_secs": 2.0,
}
"""Settings: two devices whose mode is known beforehand, and alerts that change often in a short run."""
BEFORE = (
    Given("good3.example"),
    Given("www.good5.example", action="allow"),
    Given("good5.example", action="warn"),
    Given("shop1.test", action="audit", groups=("first",)),
    Given("203.0.113.64/27", process="curl"),
    Given("http://img.good8.example/img"),
    Given("cdn.test", port=443, severity="high"),
)
IN_THE_MIDDLE = (Given("good7.example"), Given("203.0.113.100"))
REMOVED = (Given("good3.example"),)
SUPPRESSION = Suppression(
    suppression_id("", "ws-00002", "good7.example", ""), "tests", "known", LATEST, "", "ws-00002", "good7.example"
)


def publish_before(settings: Settings) -> None:
    """What holds from the beginning."""
    _publish(settings, [(key_of(one), value_of(one)) for one in map(indicator, BEFORE)])


def publish_in_the_middle(settings: Settings) -> None:
    """An indicator is added, one removed, one suppressed."""
    put: list[Indicator | Suppression] = [*map(indicator, IN_THE_MIDDLE), SUPPRESSION]
    removed: list[tuple[bytes, bytes | None]] = [(key_of(one), None) for one in map(indicator, REMOVED)]
    _publish(settings, [*((key_of(one), value_of(one)) for one in put), *removed])


def policy_of(settings: Settings) -> Policy:
    """What a worker knows that has read all of it, each change with the time from which on it holds."""
    policy = Policy(settings.protection)
    for raw in read_all(settings, INDICATORS, partitions=1):
        given, since_ms = read(raw.key(), raw.value()), raw.timestamp()[1] + GRACE_MS
        if isinstance(given, Indicator):
            policy.indicators.put(given, since_ms)
        elif isinstance(given, Suppression):
            policy.suppressions.put(given, since_ms)
        else:
            assert isinstance(given, Removed)
            (policy.indicators if given.mark == INDICATOR_MARK else policy.suppressions).remove(given.id, since_ms)
    return policy


def _publish(settings: Settings, messages: list[tuple[bytes, bytes | None]]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "enable.idempotence": True})
    for key, value in messages:
        producer.produce(topic_name(settings, INDICATORS), value, key, PARTITION)
    producer.flush()
