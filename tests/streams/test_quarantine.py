"""Which messages are rejected unread, by the deaths of workers that read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.events import Reason
from schemas.settings import CorrelationSettings, Settings
from schemas.topics import TELEMETRY, topic_name
from streams.messages import MESSAGE_LINES_MAX
from streams.pipeline import Message, Pipeline
from streams.quarantine import NO_LINE, Death, refused_after
from streams.worker.guards.deaths import DEATHS_MAX, Deaths
from tests.streams.worker.guards.test_worker_poison import GOOD

SettingsFor = Callable[..., Settings]


def dead(*places: tuple[int, int]) -> list[Death]:
    """Return deaths of workers with exit code 76, each at an offset and a line."""
    return [Death(offset, line, 76) for offset, line in places]


@pytest.mark.parametrize(
    ("deaths", "refused"),
    [
        ([], None),
        ([(7, 2)], None),
        ([(7, 2), (8, 2)], None),
        ([(7, 2), (8, 2), (7, 2)], {2}),
        ([(7, 2), (7, 4)], {2, 4}),
        ([(7, 2), (7, 2), (7, 2)], {2}),
        ([(7, 2), (7, 2), (7, 4)], {2, 4}),
        ([(7, 2), (7, 2), (7, 4), (7, 5)], {2, 4, 5, NO_LINE}),
        ([(7, 2), (7, NO_LINE)], {2, NO_LINE}),
    ],
)
def test_two_deaths_at_an_offset_refuse_lines_and_three_lines_the_message(
    deaths: list[tuple[int, int]], refused: set[int] | None
) -> None:
    """One death refuses nothing; two refuse their lines; a third line, or one outside the lines, refuses the message."""
    found = refused_after(dead(*deaths), 7)

    assert (set(found[7].lines) if 7 in found else None) == refused
    assert 8 not in found


def test_what_is_acknowledged_is_forgotten() -> None:
    """A death before the group's committed offset no longer counts."""
    assert refused_after(dead((7, 2), (7, 2)), 8) == {}


def test_the_detail_names_place_and_exit() -> None:
    """The reject names the message, the lines, and the workers' exit."""
    found = refused_after([Death(7, 1, 76), Death(7, NO_LINE, 0)], 0)

    assert found[7].whole
    assert found[7].detail.startswith(
        "2 worker processes ended while they read the message at offset 7 (at line 2, outside of its lines; their own exit "
        "codes: 76, none)"
    )


def test_deaths_are_registered_for_all_workers(kafka_settings_for: SettingsFor) -> None:
    """Each partition has its own list, which other clients read; its length has a bound that a broker accepts."""
    settings = kafka_settings_for()
    Deaths(settings).register(1, Death(7, 2, 76))
    Deaths(settings).register(3, Death(1, 0, 0))
    Deaths(settings).register(1, Death(7, NO_LINE, 0))
    other = Deaths(settings)
    found = other.of(1), other.of(3), other.of(0)
    large = [Death(2**62 + number, MESSAGE_LINES_MAX, 255) for number in range(DEATHS_MAX + 5)]
    for death in large:
        other.register(0, death)

    assert found == ([Death(7, 2, 76), Death(7, NO_LINE, 0)], [Death(1, 0, 0)], [])
    assert other.of(0) == large[-DEATHS_MAX:]


def test_a_register_that_cannot_be_read_begins_again(kafka_settings_for: SettingsFor) -> None:
    """An invalid entry of another client stops no worker."""
    settings = kafka_settings_for()
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": f"{settings.worker.group}-deaths"})
    consumer.commit(offsets=[TopicPartition(topic_name(settings, TELEMETRY), 1, 7, "[[7,")], asynchronous=False)
    consumer.close()
    deaths = Deaths(settings)

    assert deaths.of(1) == []
    deaths.register(1, Death(7, 2, 76))
    assert deaths.of(1) == [Death(7, 2, 76)]


def test_a_refused_line_is_a_reject_in_its_place() -> None:
    """It is counted and keeps its bytes; the lines around it are read."""
    refused = refused_after(dead((7, 1), (7, 1)), 0)[7]
    lines = [GOOD % 2001, b"poison", GOOD % 2002]
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(7, 1_000, b"dev", b"\n".join(lines), "sockets"), refused)
    (reject,) = pipeline.drain().rejects
    book = pipeline.book()

    assert (reject.reason, reject.raw, reject.device) == (Reason.STOPS_WORKER, b"poison", "dev")
    assert (book["read"], book["parsed"], book["rejected:stops_worker"]) == (3, 2, 1)


def test_the_line_that_is_read_is_known() -> None:
    """A pipeline exposes the line that it reads, blank ones counted, and that it reads none at the end."""
    pipeline = Pipeline(CorrelationSettings())
    seen: list[int] = []

    class Watched(list[int]):
        def __setitem__(self, index: object, line: object) -> None:
            assert isinstance(line, int)
            seen.append(line)

    pipeline.current_line = Watched([NO_LINE])
    pipeline.take(Message(7, 1_000, b"dev", b"a\n\nb", "sockets"))

    assert seen == [0, 1, 2, NO_LINE]
