"""State as entries: what comes back is what was there, whatever was written and wherever a crash cut it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import rocksdict

from schemas.settings import CorrelationSettings
from streams import store, worker_state
from streams.pipeline import Message, Pipeline
from streams.store import PART_BYTES_MAX, RING
from streams.worker_state import StateStore
from tests.sample import sample


def messages(count: int) -> list[Message]:
    """The first messages of the sample, ten lines each, one device and dialect a message."""
    waiting: dict[tuple[str, str], list[bytes]] = {}
    made: list[Message] = []
    for line in sample():
        held = waiting.setdefault((line.device, line.dialect), [])
        held.append(line.value)
        if len(held) == 10:
            made.append(Message(len(made), len(made), line.device.encode(), b"\n".join(held), line.dialect))
            held.clear()
    return made[:count]


def state_of(pipeline: Pipeline) -> dict[str, object]:
    """Everything a pipeline knows, comparable."""
    found: dict[str, object] = {}
    for name, device in pipeline.devices.items():
        timers = {second: keys for second, keys in device.timers.items() if keys}
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
    late = dict(again.restore(table.items(), since=30))

    assert late
    assert late.items() < table.items()
    assert Pipeline(CorrelationSettings()).restore(table.items()) == []


def test_a_large_state_comes_back_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition's store gives whole devices, some at a time, whatever they are called, and not Faust's own note."""
    monkeypatch.setattr(worker_state, "PIECE_BYTES", 1)
    names = [f"dev{number}{odd}" for number in range(20) for odd in ("", "\0d", "\0s", "\0")]
    pipeline = Pipeline(CorrelationSettings())
    data = SimpleNamespace(offset_key=b"dev3", db=rocksdict.Rdict(str(tmp_path), rocksdict.Options(raw_mode=True)))
    data._db_for_partition = lambda _: data.db
    kept = StateStore(SimpleNamespace(data=data))
    data.db.put(data.offset_key, b"7")
    for offset, name in enumerate(names * 3):
        value = opened([1000 + offset]).replace(b'"dev"', json.dumps(name).encode())
        pipeline.take(Message(offset, offset, name.encode(), value, "sockets"))
        kept.write(0, pipeline.checkpoint())
    again = Pipeline(CorrelationSettings())
    pieces = list(kept.pieces(0))
    for piece in pieces:
        again.restore(piece)

    assert len(pieces) == 20
    assert state_of(again) == state_of(pipeline)


def test_one_checkpoint_never_writes_a_slot_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of mode touches every connection of a large device: more parts than the ring may hold become a snapshot."""
    monkeypatch.setattr(store, "PART_BYTES_MAX", 2_000)
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for offset, value in enumerate([opened(range(1000, 2500)), JUDGED, JUDGED.replace(b"allowed", b"blocked")]):
        pipeline.take(Message(offset, offset, b"dev", value, "sockets" if offset == 0 else "suricata"))
        pipeline.drain()
        entries = pipeline.checkpoint()
        table.update(entries)

        assert len(dict(entries)) == len(entries)
    again = Pipeline(CorrelationSettings())
    again.restore(table.items())
    assert state_of(again) == state_of(pipeline)


def test_parts_of_a_delta_mean_nothing_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a checkpoint, again and again: the book and what is known stay those of a quiet run."""
    monkeypatch.setattr(store, "PART_BYTES_MAX", 300)
    quiet, cut = Pipeline(CorrelationSettings()), Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    log = messages(150)
    written = 0
    for number, message in enumerate(log):
        for one in (quiet, cut):
            one.take(message)
            one.drain()
        entries = cut.checkpoint()
        if number % 7 == 3:
            table.update(entries[: number % len(entries)])
            cut = Pipeline(CorrelationSettings())
            cut.restore(table.items())
            for again in log[written : number + 1]:
                cut.take(again)
            cut.drain()
            entries = cut.checkpoint()
        table.update(entries)
        written = number + 1
    quiet.finish()
    cut.finish()

    assert cut.book() == quiet.book()
    assert {n: d.items().keys() for n, d in cut.devices.items()} == {
        n: d.items().keys() for n, d in quiet.devices.items()
    }


def test_the_oldest_stays_the_oldest() -> None:
    """What is let go at the bound is the same after a restart, though an old connection was written last."""
    settings = CorrelationSettings(connections_max=3)
    pipeline = Pipeline(settings)
    table: dict[bytes, bytes] = {}
    for offset, port in enumerate([1, 2, 3, 1]):
        value = (
            opened([port])
            if offset < 3
            else opened([1]).replace(b'"ts_closed":null', b'"ts_closed":"2026-11-24T19:07:30Z"')
        )
        pipeline.take(Message(offset, offset, b"dev", value, "sockets"))
        pipeline.drain()
        table.update(pipeline.checkpoint())
    again = Pipeline(settings)
    again.restore(table.items())
    for one in (pipeline, again):
        one.take(Message(9, 9, b"dev", opened([4]), "sockets"))

        assert [key.split()[1] for key in one.devices["dev"].groups] == ["2", "3", "4"]


def opened(ports: Iterable[int]) -> bytes:
    """Kernel lines of open connections."""
    line = (
        '{"device":"dev","pid":1,"process":"p","local_ip":"10.0.0.1","local_port":%d,"remote_ip":"10.9.9.9",'
        '"remote_port":3128,"result":"open","ts_attempt":"2026-11-24T19:07:26.%06dZ","ts_established":null,"ts_closed":null}'
    )
    return "\n".join(line % (port, port) for port in ports).encode()


JUDGED = (
    b'{"timestamp":"2026-11-24T19:07:27.000000+0000","flow_id":1,"event_type":"alert","src_ip":"10.0.0.1","src_port":1000,'
    b'"dest_ip":"10.9.9.9","dest_port":3128,"proto":"TCP","alert":{"action":"allowed","signature":"s"},'
    b'"http":{"hostname":"a.example","url":"a.example:443","http_method":"CONNECT"},"host":"dev"}'
)


def test_state_of_another_version_is_refused_in_words() -> None:
    """Neither guessed at nor thrown away: the operator decides."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(messages(1)[0])
    ((key, value),) = pipeline.checkpoint()
    other = msgspec.msgpack.encode([99, *msgspec.msgpack.decode(value)[1:]])
    for strange in (other, b"\x93\x01\x02\x03"):
        with pytest.raises(store.StateUnreadable, match="another version of unproxy"):
            Pipeline(CorrelationSettings()).restore([(key, strange)])
