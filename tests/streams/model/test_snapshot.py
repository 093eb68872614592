"""State as entries: a restore gives the state that was written, whatever it was and wherever a crash cut it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import rocksdict

from schemas.settings import CorrelationSettings
from schemas.topics import TICK_DIALECT
from streams.model import snapshot as store
from streams.model.connection import Connection
from streams.model.device import Device
from streams.model.snapshot import PART_BYTES_MAX, RING
from streams.pipeline import Message, Pipeline
from streams.worker import rocksdb as worker_state
from streams.worker.rocksdb import StateStore
from tests.sample import sample


def messages(count: int) -> list[Message]:
    """Return the first messages of the sample, ten lines each, one device and dialect per message."""
    waiting: dict[tuple[str, str], list[bytes]] = {}
    made: list[Message] = []
    for line in sample():
        held = waiting.setdefault((line.device, line.dialect), [])
        held.append(line.value)
        if len(held) == 10:
            made.append(Message(len(made), len(made), line.device.encode(), b"\n".join(held), line.dialect))
            held.clear()
    return made[:count]


def state_of(pipeline: Pipeline) -> dict[str, tuple[object, ...]]:
    """Return everything a pipeline knows, comparable.

    Groups that are parked have no timer until the device reports again or a restart; either state leads to the same rows.
    """
    found: dict[str, tuple[object, ...]] = {}
    for name, device in pipeline.devices.items():
        timers = {second: keys for second, keys in device.timers.items() if keys}
        found[name] = (device.items(), msgspec.to_builtins(device.facts), bool(timers or device.parked))
    return found


def test_state_comes_back_whole() -> None:
    """After any number of checkpoints a pipeline restored from the table equals the old one."""
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


def test_timers_of_a_second_fire_in_the_same_order_after_a_restart() -> None:
    """Alerts are numbered in the order in which timers fire, so that order must survive a restart."""
    live, restored = Device("d"), Device("d")
    for key in ("b", "c", "a"):
        live.wake_at(7, key)
    for key in ("a", "b", "c"):
        restored.wake_at(7, key)

    assert live.due_until(7) == restored.due_until(7) == (7, ["a", "b", "c"])


def test_a_second_whose_groups_have_left_is_not_due() -> None:
    """A second without a remaining timer is not due; a restored device does not know it either."""
    device = Device("d")
    one, other = Connection(), Connection()
    one.due, other.due = 5, 6
    device.groups = {"a": [one], "b": [other]}
    for key, connection in (("a", one), ("b", other)):
        device.wake_at(connection.due, key)
    device.let_sleep(one, "a")
    assert device.next_due == 6

    device.let_sleep(other, "b")
    assert device.due_until(100) is None


@pytest.mark.parametrize("quiet_secs", [60, 200])
def test_a_quiet_device_leaves_at_the_same_tick_after_a_restart(quiet_secs: int) -> None:
    """Before and after parking of its ended connections, a restored pipeline continues like one that never stopped."""

    def tick(second: int) -> Message:
        return Message(1_000 + second, log[-1].logged_ms + 1_000 * second, b"", b"", TICK_DIALECT)

    log = messages(20)
    whole = Pipeline(CorrelationSettings(idle_secs=400.0))
    for message in (*log, *map(tick, range(quiet_secs))):
        whole.take(message)
        whole.drain()
    restored = Pipeline(CorrelationSettings(idle_secs=400.0))
    restored.restore(whole.checkpoint())
    assert any(device.parked for device in whole.devices.values()) == (quiet_secs == 200)
    assert state_of(restored) == state_of(whole)

    for second in range(quiet_secs, 900):
        whole.take(tick(second))
        restored.take(tick(second))

        assert restored.drain() == whole.drain()
        assert state_of(restored) == state_of(whole)
    assert not any(device.groups for device in whole.devices.values())


def test_a_crash_between_entries_costs_a_replay_only() -> None:
    """A partly written checkpoint, then the same input again, gives the same rows and state."""
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


def test_a_device_with_100_000_open_connections() -> None:
    """It is written in parts that fit a message; later checkpoints cost what changed, and all is restored."""
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    written: list[int] = []

    def take(offset: int, value: bytes) -> int:
        pipeline.take(Message(offset, offset, b"dev", value, "sockets"))
        pipeline.drain()
        entries = pipeline.checkpoint()
        table.update(entries)
        written.extend(len(value) for _, value in entries)
        return sum(len(value) for _, value in entries)

    for offset in range(100):
        take(offset, opened(range(1024, 2024), local=offset))
    whole = sum(len(value) for key, value in table.items() if b"\0s" in key)
    costs = [take(offset, opened([3000], local=offset)) for offset in range(100, 2_100)]
    again = Pipeline(CorrelationSettings())
    again.restore(table.items())

    assert len(pipeline.devices["dev"].groups) == 102_000
    assert whole > 20 * PART_BYTES_MAX
    assert max(written) < 600_000
    assert sorted(costs)[len(costs) // 2] < 1_000
    assert sum(cost > 1_000 for cost in costs) <= 4
    assert state_of(again) == state_of(pipeline)


def test_slots_are_used_again() -> None:
    """A device has as many entries as its snapshot has parts and its ring has slots."""
    pipeline = Pipeline(CorrelationSettings())
    keys: set[bytes] = set()
    for offset in range(500):
        pipeline.take(Message(offset, offset, b"dev", opened([1000 + offset]), "sockets"))
        pipeline.drain()
        keys.update(key for key, _ in pipeline.checkpoint())

    assert RING // 2 < len(keys) <= RING + 2


def test_a_connection_larger_than_a_part_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues in the next parts; once shorter, no rest remains."""
    monkeypatch.setattr(store, "PART_BYTES_MAX", 200)
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for offset, length in enumerate([700, 1_000, 1]):
        value = opened([1000 + offset, 1]).replace(b'"process":"p"', b'"process":"%s"' % (b"x" * length))
        pipeline.take(Message(offset, offset, b"dev", value, "sockets"))
        pipeline.drain()
        entries = pipeline.checkpoint()
        table.update(entries)
        assert max(len(value) for _, value in entries) < 500
        again = Pipeline(CorrelationSettings())
        again.restore(reversed(table.items()))

        assert state_of(again) == state_of(pipeline)
    assert len(table) > 10


def test_a_large_state_comes_back_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition's store returns whole devices, some at a time, whatever their names, without Faust's own entry."""
    monkeypatch.setattr(worker_state, "PIECE_BYTES", 1)
    names = [f"dev{number}{odd}" for number in range(20) for odd in ("", "d", "s", "d00")]
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

    assert len(pieces) == len(names)
    assert state_of(again) == state_of(pipeline)


def test_one_checkpoint_never_writes_a_slot_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode change touches every connection of a large device: more parts than the ring holds become a snapshot."""
    monkeypatch.setattr(store, "PART_BYTES_MAX", 2_000)
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for offset, value in enumerate([opened(range(1000, 2500)), VERDICTS, VERDICTS.replace(b"allowed", b"blocked")]):
        pipeline.take(Message(offset, offset, b"dev", value, "sockets" if offset == 0 else "suricata"))
        pipeline.drain()
        entries = pipeline.checkpoint()
        table.update(entries)

        assert len(dict(entries)) == len(entries)
    again = Pipeline(CorrelationSettings())
    again.restore(table.items())
    assert state_of(again) == state_of(pipeline)


def test_parts_of_a_delta_mean_nothing_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """After repeated crashes in the middle of a checkpoint, counts and state equal those of an undisturbed run."""
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
    """Eviction at the bound is the same after a restart, though an old connection was written last."""
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


def opened(ports: Iterable[int], local: int = 0) -> bytes:
    """Return kernel lines of open connections."""
    line = (
        '{"device":"dev","pid":1,"process":"p","local_ip":"10.0.%d.%d","local_port":%d,"remote_ip":"10.9.9.9",'
        '"remote_port":3128,"result":"open","ts_attempt":"2026-11-24T19:07:26.%06dZ","ts_established":null,"ts_closed":null}'
    )
    return "\n".join(line % (local // 250, 1 + local % 250, port, port) for port in ports).encode()


VERDICTS = (
    b'{"timestamp":"2026-11-24T19:07:27.000000+0000","flow_id":1,"event_type":"alert","src_ip":"10.0.0.1","src_port":1000,'
    b'"dest_ip":"10.9.9.9","dest_port":3128,"proto":"TCP","alert":{"action":"allowed","signature":"s"},'
    b'"http":{"hostname":"a.example","url":"a.example:443","http_method":"CONNECT"},"host":"dev"}'
)


def test_state_of_another_version_is_refused_in_words() -> None:
    """It is neither read nor discarded: the operator decides."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(messages(1)[0])
    ((key, value),) = pipeline.checkpoint()
    other = msgspec.msgpack.encode([99, *msgspec.msgpack.decode(value)[1:]])
    for strange in (other, b"\x93\x01\x02\x03"):
        with pytest.raises(store.StateUnreadable, match="another version of unproxy"):
            Pipeline(CorrelationSettings()).restore([(key, strange)])


def test_an_alert_that_waits_goes_on_waiting() -> None:
    """A tick before its time does nothing, after a restart as well."""
    pipeline = Pipeline(CorrelationSettings())
    for number in (1, 2):
        line = VERDICTS.replace(b'"flow_id":1', b'"flow_id":%d' % number).replace(b"27.000", b"2%d.000" % (6 + number))
        pipeline.take(Message(number, 1_000 * number, b"dev", line.replace(b"allowed", b"blocked"), "suricata"))
    assert len(pipeline.drain().alerts) == 1
    again = Pipeline(CorrelationSettings())
    again.restore(pipeline.checkpoint())
    for offset, logged_ms, alerts in ((3, 3_000, 0), (4, 70_000, 1)):
        for one in (pipeline, again):
            one.take(Message(offset, logged_ms, b"", b"", TICK_DIALECT))
            assert len([alert for _, alert in one.drain().alerts if json.loads(alert)["Kind"] == "blocked"]) == alerts
        assert state_of(again) == state_of(pipeline)


def test_a_repeat_leaves_no_trace() -> None:
    """Repeated messages leave no state that the written entries lack."""
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    made = messages(300)
    for number, message in enumerate([*made[:200], *made[:40], *made[200:], *made[:40]]):
        pipeline.take(message._replace(offset=number, logged_ms=number))
        pipeline.drain()
        table.update(pipeline.checkpoint())
    again = Pipeline(CorrelationSettings())
    again.restore(table.items())

    assert state_of(again) == state_of(pipeline)
