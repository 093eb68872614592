"""The sink seen from outside, on the real Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

from common.group_watch import Watch
from common.health import Looks
from common.kafka import client_config
from schemas.settings import Settings
from schemas.topics import DEVICE_EVENTS, NETWORK_EVENTS, topic_name
from sinks.consumer import SinkLoop
from sinks.metrics import served_pages
from tests.sinks.memory_sink import MemorySink
from tests.sinks.sink_world import publish
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port


@dataclass
class Member:
    """A member of the group as its watch sees it."""

    own: set[tuple[str, int]] = field(default_factory=set)
    joined: bool = True
    done: int = 0
    failing_since: float | None = None


def commit(settings: Settings, place: tuple[str, int], offset: int) -> None:
    """As if the group had written so far."""
    consumer = Consumer({**client_config(settings.kafka), "group.id": settings.sink.group})
    consumer.commit(offsets=[TopicPartition(*place, offset)], asynchronous=False)
    consumer.close()


def test_lag_is_seen_from_outside(kafka_settings_for: Callable[..., Settings]) -> None:
    """What is ours and not committed is the lag, by topic; it stands while nothing is committed; the page shows it."""
    port = free_port()
    settings = kafka_settings_for(sink={"metrics_port": port})
    network, verdicts = topic_name(settings, NETWORK_EVENTS), topic_name(settings, DEVICE_EVENTS)
    publish(settings, NETWORK_EVENTS, [b"{}"] * 12)
    publish(settings, DEVICE_EVENTS, [b"{}"])
    own = {(network, 0), (network, 1), (verdicts, 0)}
    looks = Looks(silent_since=time.monotonic())
    loop = SinkLoop(settings, [MemorySink()])
    watch = Watch(settings.kafka, settings.sink.group, loop.topics, looks, Member(own), 60)
    watch.look()
    assert (looks.silent_since, looks.lag) == (None, 7)
    first = looks.standing_since
    watch.look()
    assert looks.standing_since == first is not None
    with served_pages(settings, loop, looks):
        lags = (scrape(port) or {})["unproxy_sink_lag_messages"]
    assert {topic: lag for topic, lag in lags.items() if lag} == {network: 6, verdicts: 1}

    for place, end in {(network, 0): 3, (network, 1): 2, (verdicts, 0): 1}.items():
        commit(settings, place, end)
    watch.look()
    assert looks.lag == 1
    assert looks.standing_since is not None
    assert looks.standing_since > (first or 0)
    own.clear()
    watch.look()
    nothing_waits = Looks(looked_at=looks.looked_at, lag_by_topic=dict.fromkeys(looks.lag_by_topic, 0))
    assert looks == nothing_waits


def test_a_member_that_stands_still_is_ended(kafka_settings_for: Callable[..., Settings]) -> None:
    """Input waits and it does nothing, or the group gives it nothing: the watch logs why and ends it, and no other."""
    settings = kafka_settings_for()
    topic = topic_name(settings, NETWORK_EVENTS)
    publish(settings, NETWORK_EVENTS, [b"{}"] * 4)
    ended: list[str] = []

    def watched(member: Member) -> str:
        looks = Looks(silent_since=time.monotonic())
        watch = Watch(settings.kafka, settings.sink.group, [topic], looks, member, 0.0, ended.append)
        ended.clear()
        watch.look()
        watch.look()
        return ended[-1].partition(" for ")[0] if ended else ""

    own = {(topic, 0)}
    assert watched(Member(own)) == "input waits and nothing was done"
    assert watched(Member(joined=False)) == "Kafka answers, and the group gives no partitions"
    assert watched(Member()) == ""
    assert watched(Member(own, failing_since=1.0)) == ""


def test_silence_is_seen() -> None:
    """No listener at Kafka's address: that is recorded, and since when."""
    settings = Settings.model_validate({"kafka": {"bootstrap": f"127.0.0.1:{free_port()}"}})
    looks = Looks()
    watch = Watch(settings.kafka, "group", [NETWORK_EVENTS], looks, Member(), 60)
    watch.look()
    since = looks.silent_since
    watch.look()

    assert since is not None
    assert looks.silent_since == since
