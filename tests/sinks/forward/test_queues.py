"""The order in which alerts go, and what may be committed: laws of the queues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinks.forward.queues import AlertQueues, Item
from tests.sinks.forward.forward_world import seen


def item(offset: int, name: str = "a1", version: int = 1, partition: int = 0) -> Item:
    """A message."""
    return Item(partition, offset, 0, b"raw", seen(name, version))


def queues(*, coalesce: bool = True) -> AlertQueues:
    """One with a partition that begins at offset 0."""
    made = AlertQueues(coalesce=coalesce)
    made.begin(0, 0)
    return made


def test_one_alert_is_under_way_once() -> None:
    """The second version waits for the first, another alert does not."""
    line = queues()
    first, second, other = item(0), item(1, version=2), item(2, "a2")
    for one in (first, second, other):
        assert not line.add(one)

    assert [line.take(), line.take(), line.take()] == [first, other, None]
    line.done(first)
    assert line.take() is second


def test_the_first_and_the_newest_stay() -> None:
    """Versions between are superseded; an older or equal one that comes later is, too."""
    line = queues()
    superseded = [line.add(item(offset, version=version)) for offset, version in enumerate((1, 2, 3, 3, 2, 4))]
    sent = []
    while one := line.take():
        sent.append(one.version)
        line.done(one)

    assert superseded == [False, False, True, True, True, True]
    assert sent == [1, 4]
    assert dict(line.committable()) == {0: 6}
    assert (line.waiting, line.bytes) == (0, 0)


def test_a_gap_is_not_committed_over() -> None:
    """What was done later does not carry what was not."""
    line = queues()
    first, second = item(0), item(1, "a2")
    line.add(first)
    line.add(second)
    line.skip(0, 2)
    assert line.take() is first
    assert line.take() is second
    line.done(second)
    assert dict(line.committable()) == {0: 0}
    line.done(first)

    assert dict(line.committable()) == {0: 3}


def test_what_left_is_forgotten() -> None:
    """A partition that goes takes its messages along, also the one under way; when it comes back all is new."""
    line = queues()
    line.begin(1, 0)
    old, stays = item(0), item(0, "b", partition=1)
    line.add(old)
    line.add(item(1, "a2"))
    line.add(stays)
    assert line.take() is old
    assert line.leave(0) == 2
    line.done(old)
    line.begin(0, 0)
    again = item(0)
    line.add(again)

    assert old.abandoned
    assert [line.take(), line.take(), line.take()] == [stays, again, None]
    assert line.waiting == 2


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=60),
    st.booleans(),
)
def test_laws(steps: list[tuple[int, bool, bool]], coalesce: bool) -> None:
    """Whatever the order of work: each alert's first and newest are sent, in order, and commits never pass what is open."""
    line = queues(coalesce=coalesce)
    under_way: list[Item] = []
    sent: dict[str, list[int]] = {}
    versions: dict[str, int] = {}

    def finish(at: int) -> None:
        one = under_way.pop(at % len(under_way))
        assert one.alert is not None
        sent.setdefault(one.alert.AlertId, []).append(one.version)
        line.done(one)

    for offset, (name, takes, finishes) in enumerate(steps):
        versions[f"a{name}"] = versions.get(f"a{name}", 0) + 1
        line.add(item(offset, f"a{name}", versions[f"a{name}"]))
        if takes and (one := line.take()):
            under_way.append(one)
        if finishes and under_way:
            finish(offset)
        mark = dict(line.committable())[0]
        assert all(one.offset >= mark for one in under_way)
    while under_way or (one := line.take()):
        if not under_way:
            assert one is not None
            under_way.append(one)
        finish(0)

    assert dict(line.committable()) == {0: len(steps)}
    for alert_id, last in versions.items():
        arrived = sent[alert_id]
        assert arrived == sorted(set(arrived))
        assert (arrived[0], arrived[-1]) == (1, last)
        assert coalesce or arrived == list(range(1, last + 1))
