"""The forwarder's health from facts, and its page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from common.group_watch import Watch
from common.health import AWAY_SECS_MAX, Looks
from schemas.settings import Settings
from sinks.forward.loop import Forwarder
from sinks.forward.metrics import STANDING_SECS_MAX, served_pages
from sinks.forward.webhook import Webhook
from sinks.health import FAILING_SECS_MAX, Facts, alive, ready
from tests.conftest import SettingsMaker
from tests.sinks.forward.forward_world import alert, committed, forwarding, metric, publish
from tests.sinks.forward.receivers import WebhookServer
from tests.sinks.sink_world import until
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port


@pytest.fixture
def receiver() -> Iterator[WebhookServer]:
    """A webhook that takes everything."""
    server = WebhookServer().start()
    yield server
    server.stop()


def settings_of(make: SettingsMaker, receiver: WebhookServer, **changes: Any) -> Settings:
    """Settings that send to this receiver."""
    group = f"{make().kafka.topic_prefix}forward"
    return make(forward={"url": receiver.url, "group": group, "retry_secs_max": 0.5, **changes})


def facts(now: float, **changes: Any) -> Facts:
    """A forwarder that waits for alerts, but for what the test is about."""
    standing_since = changes.pop("standing_since", None)
    looks = Looks()
    looks.answered(9 if standing_since is not None else 0, standing_since, now)
    return Facts(
        **{
            "looks": looks,
            "joined": True,
            "failing_since": None,
            "failed_at": float("-inf"),
            "failure": "the receiver has not taken an alert",
            "standing_secs_max": STANDING_SECS_MAX,
            **changes,
        }
    )


def test_idle_is_well() -> None:
    """Nothing to send is nothing to complain of."""
    assert alive(facts(100.0), 101.0).ok
    assert ready(facts(100.0), 101.0).ok
    assert not ready(facts(100.0, joined=False), 101.0).ok


def test_the_receiver_may_be_away_for_a_while() -> None:
    """It is alive, soon not ready, and after long not alive either."""
    failing = facts(100.0, failing_since=50.0, failed_at=100.0, standing_since=1.0)

    assert ready(failing, 50 + FAILING_SECS_MAX).ok
    verdict = ready(failing, 101.0)
    assert (verdict.ok, verdict.why) == (False, "the receiver has not taken an alert for 51 s; the log states why")
    assert alive(failing, 101.0).ok
    assert not alive(failing, 51 + AWAY_SECS_MAX).ok


def test_standing_still_is_not_alive() -> None:
    """Alerts wait, no try fails, and nothing is committed; time in which the receiver was away does not count."""
    end = 100 + STANDING_SECS_MAX + 1

    assert not alive(facts(end, standing_since=100.0), end).ok
    assert not ready(facts(end, standing_since=100.0), end).ok
    assert alive(facts(end, standing_since=100.0, failed_at=end - 5), end).ok


def test_the_page_moves(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """What is read, waits, fails and is sent is on the page while it runs, with the lag as the broker has it."""
    port = free_port()
    settings = settings_of(kafka_settings_for, receiver, metrics_port=port)
    receiver.answering = lambda _: 401
    publish(settings, [alert(f"a{number}") for number in range(5)])
    looks = Looks(silent_since=time.monotonic())

    def page(name: str) -> float:
        return sum((scrape(port) or {}).get(name, {}).values())

    with forwarding(settings) as forwarder, served_pages(settings.forward, forwarder, looks):
        own = settings.forward.group, [forwarder.topic]
        watch = Watch(settings.kafka, *own, looks, forwarder, STANDING_SECS_MAX)
        until(lambda: page("unproxy_forward_alerts_waiting") == 5)
        until(lambda: page("unproxy_forward_misconfigured") == 1)
        watch.look()
        assert page("unproxy_forward_lag_messages") == 5
        assert page("unproxy_forward_retries_total") > 0
        receiver.answering = lambda _: 200
        until(lambda: page("unproxy_forward_alerts_sent_total") == 5)
        assert page("unproxy_forward_alerts_read_total") == 5
        assert page("unproxy_forward_latency_seconds_count") == 5
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 5)
        watch.look()
        assert page("unproxy_forward_lag_messages") == 0


def test_retention_that_passes_the_forwarder(
    kafka_settings_for: SettingsMaker, receiver: WebhookServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Alerts deleted before they were read are counted and logged as an error; the rest is sent."""
    settings = settings_of(kafka_settings_for, receiver)
    publish(settings, [alert(version=version) for version in (1, 2)])
    with forwarding(settings) as forwarder:
        topic = forwarder.topic
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 2)
    ((partition, _),) = [place for place in committed(settings, settings.forward.group).items() if place[1] == 2]
    publish(settings, [alert(version=version) for version in (3, 4, 5, 6)])
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    for deleted in admin.delete_records([TopicPartition(topic, partition, 5)]).values():
        deleted.result(10)
    with forwarding(settings) as forwarder:
        until(lambda: receiver.versions()[-1:] == [("a1", 6)])
        assert metric(forwarder, "unproxy_forward_messages_missed_total") == {"": 3}
    (record,) = [record for record in caplog.records if "deleted before they were read" in record.message]
    assert (record.__dict__["from"], record.__dict__["to"]) == (2, 4)


def test_failed_commits_are_counted() -> None:
    """A commit that Kafka does not take is counted; members that come and go are not."""
    settings = Settings.model_validate({"kafka": {"bootstrap": "127.0.0.1:1"}, "forward": {"url": "http://x.test"}})
    forwarder = Forwarder(settings, Webhook(settings.forward))
    for code in (KafkaError._TRANSPORT, KafkaError.REBALANCE_IN_PROGRESS):
        forwarder._on_commit(KafkaError(code), [TopicPartition("topic", 0, 5)])

    assert metric(forwarder, "unproxy_forward_commit_failures_total") == {"": 1}


def test_stop_while_kafka_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """No listener at Kafka's address: the log states it, and a stop request ends the forwarder in time."""
    settings = Settings.model_validate({"kafka": {"bootstrap": "127.0.0.1:1"}, "forward": {"url": "http://x.test"}})
    with forwarding(settings):
        until(lambda: "kafka is in trouble, will retry" in caplog.messages)
