"""The feed of indicators over a real broker: changes come within moments, stay over restarts, and no decision comes too early."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.indicator_input import Given, indicator_of
from schemas.indicator_topic import PARTITION, key_of, read, value_of
from schemas.indicators import Indicator
from schemas.settings import Settings
from schemas.suppressions import Suppression
from schemas.topics import INDICATORS, topic_name, topics
from streams.indicators.index import IndicatorSet
from streams.indicators.suppressions import SuppressionSet
from streams.worker import indicator_feed
from streams.worker.indicator_feed import GRACE_MS, FeedError, IndicatorFeed
from tests.conftest import SettingsMaker
from tests.streams.worker.worker_process import wait_until
from unproxy.local.servers.broker import Broker, create_topics

LATER_MS = 1 << 50
"""A log time long after all that happens here."""
SUPPRESSION = Suppression("quiet", "alice", "test machines", 1 << 60, domain="evil.example")

Follow = Callable[[Settings], "Followed"]


class Followed:
    """A feed with its two sets."""

    def __init__(self, settings: Settings) -> None:
        self.indicators, self.suppressions = IndicatorSet(), SuppressionSet()
        self.feed = IndicatorFeed(settings, self.indicators, self.suppressions)
        self.feed.load(30)

    def titles(self, host: str, logged_ms: int = LATER_MS) -> list[str]:
        """Titles of the indicators that match a host at a log time."""
        return [match.indicator.title for match in self.indicators.match(host, 443, "", "", True, 1, logged_ms, ())]

    def hidden(self) -> bool:
        """Whether the suppression above is known and holds."""
        found = self.suppressions.find("blocked", "dev", (), "evil.example", (), "", 1, LATER_MS)
        return found is not None


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Starts feeds that end with the test."""
    made: list[Followed] = []

    def begin(settings: Settings) -> Followed:
        made.append(Followed(settings))
        return made[-1]

    yield begin
    for one in made:
        one.feed.close()


def indicator(value: str, title: str) -> Indicator:
    """One that blocks."""
    made = indicator_of(Given(value, title=title), now=0)
    assert isinstance(made, Indicator)
    return made


def send(settings: Settings, *messages: tuple[bytes, bytes | None]) -> None:
    """Put messages on the topic, acknowledged."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "acks": "all"})
    for key, value in messages:
        producer.produce(topic_name(settings, INDICATORS), value, key, PARTITION)
    assert producer.flush(30) == 0


def put(settings: Settings, *ones: Indicator | Suppression) -> None:
    """Publish as they are now."""
    send(settings, *((key_of(one), value_of(one)) for one in ones))


def test_changes_come_and_stay(kafka_settings_for: SettingsMaker, follow: Follow) -> None:
    """New, changed and removed ones are seen within moments by one who follows, and by one who starts later."""
    settings = kafka_settings_for()
    first = indicator("evil.example", "one")
    put(settings, first, indicator("other.example", "other"))
    early = follow(settings)
    assert early.titles("www.evil.example") == ["one"]

    put(settings, indicator("evil.example", "two"), SUPPRESSION)
    wait_until(lambda: early.titles("evil.example") == ["two"] and early.hidden(), "the change", 5.0)
    send(settings, (key_of(first), None), (key_of(SUPPRESSION), None))
    wait_until(lambda: not early.titles("evil.example") and not early.hidden(), "the end", 5.0)
    late = follow(settings)
    assert (late.titles("evil.example"), late.titles("other.example"), late.hidden()) == ([], ["other"], False)


def test_a_change_holds_from_a_log_time_on(kafka_settings_for: SettingsMaker, follow: Follow) -> None:
    """Five seconds after its append time, the same for all who read it, whenever they do; what it replaced holds until then."""
    settings = kafka_settings_for()
    put(settings, indicator("evil.example", "one"))
    early = follow(settings)
    put(settings, indicator("evil.example", "two"))
    wait_until(lambda: early.titles("evil.example") == ["two"], "the change")
    late = follow(settings)

    (since_ms,) = (entry.since_ms for entry in early.indicators._index_by_time if entry.value.title == "two")
    assert abs(since_ms - GRACE_MS - time.time() * 1_000) < 60_000
    for one in (early, late):
        assert one.titles("evil.example", since_ms - 1) == ["one"]
        assert one.titles("evil.example", since_ms) == ["two"]
        assert one.titles("evil.example", 1_000) == []


def test_a_repeated_message_changes_nothing(kafka_settings_for: SettingsMaker, follow: Follow) -> None:
    """The same indicator twice holds from its first time on, and costs nothing."""
    settings = kafka_settings_for()
    put(settings, *[indicator("evil.example", "one")] * 3, *[SUPPRESSION] * 3)
    one = follow(settings)

    assert (len(list(one.indicators._index_by_time)), len(list(one.suppressions._index_by_time))) == (1, 1)


def test_the_feed_becomes_metrics(
    kafka_settings_for: SettingsMaker, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreadable message is counted and logged, and harms no other: unproxy_indicators, unproxy_suppressions,
    unproxy_indicators_unreadable, unproxy_indicators_age_seconds.
    """
    settings = kafka_settings_for()
    good = indicator("evil.example", "one")
    network = indicator("203.0.113.0/24", "network")
    send(
        settings,
        (b"i:x", b"no json"),
        (b"i:x", b"[" * 5_000),
        (b"x", value_of(good)),
        (b"s:" + good.id.encode(), value_of(good)),
        (b"i:another", value_of(good)),
        (key_of(good), value_of(good).replace(b"evil", b"Evil")),
        (key_of(network), value_of(network).replace(b"/24", b"/99")),
        (key_of(good), value_of(good)),
        (key_of(SUPPRESSION), value_of(SUPPRESSION)),
    )
    one = follow(settings)

    values = {family.name: family.samples[0].value for family in one.feed.families()}
    assert values.pop("unproxy_indicators_age_seconds") > 0
    assert values == {"unproxy_indicators": 1, "unproxy_suppressions": 1, "unproxy_indicators_unreadable": 7}
    assert caplog.messages.count("message skipped, its content cannot be used") == 3


def test_many_are_read_soon(kafka_settings_for: SettingsMaker, follow: Follow) -> None:
    """Twenty thousand indicators are there after loading."""
    settings = kafka_settings_for()
    put(settings, *(indicator(f"n{number}.example", "many") for number in range(20_000)))

    assert len(follow(settings).indicators) == 20_000


def test_fresh_is_what_cannot_have_been_missed(
    kafka_settings_for: SettingsMaker, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the topic's end everything can be decided; out of touch only what is older than a change that was read."""
    settings = kafka_settings_for()
    put(settings, indicator("evil.example", "one"))
    begun = time.monotonic()
    one = follow(settings)
    newest = one.feed._newest_ms
    asyncio.run(asyncio.wait_for(one.feed.wait_fresh(LATER_MS), 60))
    assert one.feed.age_secs <= time.monotonic() - begun

    monkeypatch.setattr(indicator_feed, "FRESH_SECS", 0.0)
    assert one.feed.is_fresh(newest + GRACE_MS - 1)
    assert not one.feed.is_fresh(newest + GRACE_MS)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(one.feed.wait_fresh(newest + GRACE_MS), 0.3))
    one.feed.close()
    with pytest.raises(FeedError, match="the indicator feed has ended"):
        asyncio.run(one.feed.wait_fresh(newest + GRACE_MS))


def test_broker_dies_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Out of reach of Kafka the feed keeps what it has and reports that it is not fresh; then it goes on; it ends at once."""
    broker = Broker(tmp_path / "kafka", login=False)
    broker.start()
    settings = Settings.model_validate({"kafka": {"bootstrap": broker.bootstrap}})
    create_topics(broker.settings, topics(settings))
    try:
        put(settings, indicator("evil.example", "one"))
        one = Followed(settings)
        with closing(one.feed):
            broker.kill()
            wait_until(lambda: not one.feed.is_fresh(LATER_MS), "it knows that it may miss something")
            assert one.titles("evil.example") == ["one"]
            wait_until(lambda: "the known ones stay valid" in caplog.text, "it is logged")
            broker.start()
            put(settings, indicator("evil.example", "two"))
            wait_until(lambda: one.titles("evil.example") == ["two"], "the change")
            wait_until(lambda: one.feed.is_fresh(LATER_MS), "it is fresh again")
            broker.kill()
            wait_until(lambda: not one.feed.is_fresh(LATER_MS), "it is away again")
            begun = time.monotonic()
        assert time.monotonic() - begun < 5.0, "a busy machine takes a second or two"
    finally:
        broker.kill()


def test_recreated_topic(kafka_settings_for: SettingsMaker, follow: Follow, caplog: pytest.LogCaptureFixture) -> None:
    """A recreated topic is read from its beginning, and that is logged."""
    settings = kafka_settings_for()
    put(settings, *(indicator(f"n{number}.example", "old") for number in range(10)))
    one = follow(settings)
    delete(settings)
    create_topics(settings.kafka, topics(settings))
    put(settings, indicator("evil.example", "new"))

    wait_until(lambda: one.titles("evil.example") == ["new"], "the new topic is read")
    assert "topic was created again" in caplog.text
    assert one.titles("n1.example") == ["old"]


def delete(settings: Settings) -> None:
    """Take the topic away."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    name = topic_name(settings, INDICATORS)
    admin.delete_topics([name], operation_timeout=10)[name].result()
    wait_until(lambda: name not in admin.list_topics(timeout=5).topics, "the topic is gone")


def load_within(settings: Settings, secs: float) -> None:
    """Load, or fail."""
    IndicatorFeed(settings, IndicatorSet(), SuppressionSet()).load(secs)


def test_missing_topic_is_reported(kafka_settings_for: SettingsMaker) -> None:
    """Without the topic loading fails with what to do."""
    settings = kafka_settings_for()
    delete(settings)
    with pytest.raises(FeedError, match=r"unproxy topics --create"):
        load_within(settings, 2.0)


def test_kafka_away_is_reported() -> None:
    """Without Kafka loading fails with what to do, after the time it was given."""
    settings = Settings.model_validate({"kafka": {"bootstrap": "127.0.0.1:1"}})
    begun = time.monotonic()
    with pytest.raises(FeedError, match=r"127\.0\.0\.1:1.*set kafka\.bootstrap"):
        load_within(settings, 1.0)

    assert time.monotonic() - begun < 5.0


def test_messages_are_read_as_they_are_written() -> None:
    """Key and value bring an indicator and a suppression back; equal ones have equal bytes."""
    for one in (indicator("evil.example", "one"), indicator("203.0.113.0/24", ""), SUPPRESSION):
        assert read(key_of(one), value_of(one)) == one
        assert read(key_of(one), None) == (key_of(one)[:2].decode(), one.id)
    assert value_of(indicator("evil.example", "one")) == value_of(indicator("EVIL.example.", "one"))
