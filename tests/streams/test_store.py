"""State as entries: what comes back is what was there, whatever was written and wherever a crash cut it."""

from __future__ import annotations

from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from streams.store import PART_BYTES_MAX, RING, Store
from tests.sample import sample


def messages(count: int) -> list[Message]:
    """The first messages of the sample, ten lines each, one device and dialect a message."""
    waiting: dict[tuple[str, str], list[bytes]] = {}
    made: list[Message] = []
    for line in sample():
        held = waiting.setdefault((line.device, line.dialect), [])
        held.append(line.value)
        if len(held) == 10:
            made.append(Message(len(made), line.at // 1000, line.device.encode(), b"\n".join(held), line.dialect))
            held.clear()
    return made[:count]


def state_of(pipeline: Pipeline) -> dict[str, object]:
    """Everything a pipeline knows, comparable."""
    found: dict[str, object] = {}
    for name, device in pipeline.devices.items():
        timers = {second: sorted(set(keys)) for second, keys in device.timers.items() if keys}
        found[name] = (device.items(), repr(device.facts), bool(timers))
    return found


def test_state_comes_back_whole() -> None:
    """After any number of checkpoints a pipeline restored from the table knows what the old one knew."""
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for number, message in enumerate(messages(300)):
        pipeline.take(message)
        pipeline.drain()
        table.update(pipeline.checkpoint())
        if number % 37 == 0:
            again = Pipeline(CorrelationSettings())
            again.restore(table.items())

            assert state_of(again) == state_of(pipeline)


def test_a_crash_between_entries_costs_a_replay_only() -> None:
    """Entries of a checkpoint written in part, then the same input again: the same rows and the same state."""
    whole, cut = Pipeline(CorrelationSettings()), Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    log = messages(200)
    for number, message in enumerate(log):
        whole.take(message)
        whole.drain()
        cut.take(message)
        cut.drain()
        entries = cut.checkpoint()
        table.update(entries[: len(entries) // 2] if number % 23 == 0 else entries)
        if number % 23 == 0:
            cut = Pipeline(CorrelationSettings())
            cut.restore(table.items())
            for again in log[max(0, number - 3) : number + 1]:
                cut.take(again)
            cut.drain()
            table.update(cut.checkpoint())
    whole.finish()
    cut.finish()

    assert whole.book() == cut.book()
    assert {name: device.items().keys() for name, device in whole.devices.items()} == {
        name: device.items().keys() for name, device in cut.devices.items()
    }


def test_entries_stay_small_and_few() -> None:
    """A device with many connections is written in parts below the limit, and its slots are used again."""
    pipeline = Pipeline(CorrelationSettings())
    line = (
        '{"device":"dev","pid":1,"process":"p","local_ip":"10.%d.%d.1","local_port":%d,"remote_ip":"10.9.9.9",'
        '"remote_port":3128,"result":"open","ts_attempt":"2026-11-24T19:07:26.%06dZ","ts_established":null,"ts_closed":null}'
    )
    keys: set[bytes] = set()
    largest = 0
    for offset in range(120):
        lines = (line % (n % 200, n // 200, 1000 + offset, n) for n in range(offset * 100, offset * 100 + 100))
        pipeline.take(Message(offset, offset, b"dev", "\n".join(lines).encode(), "sockets"))
        pipeline.drain()
        for key, value in pipeline.checkpoint():
            keys.add(key)
            largest = max(largest, len(value))

    assert largest < PART_BYTES_MAX + 64 * 1024
    assert sum(b"\0d" in key for key in keys) <= RING
    again = Pipeline(CorrelationSettings())
    assert len(pipeline.devices["dev"].groups) == 12_000
    again.restore({}.items())
    assert again.devices == {}


def test_what_was_written_late_is_sent_again() -> None:
    """Entries for input at or after the first message of an assignment may be missing from the changelog."""
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for message in messages(40):
        pipeline.take(message)
        pipeline.drain()
        table.update(pipeline.checkpoint())
    again = Pipeline(CorrelationSettings())
    again.restore(table.items())
    late = dict(again.entries_since(30))

    assert late
    assert late.items() <= table.items()
    assert again.entries_since(30) == []
    assert Store().entries_since(0) == []
