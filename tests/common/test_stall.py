"""When a member of a group counts as standing still."""

from __future__ import annotations

import pytest

from common.group_lag import Progress
from common.stall import Sign, Stall

PLACE = ("rows", 0)
STOOD = Sign(joined=True, committed={PLACE: Progress(3, 9)}, done=5, failing=False)
LOST = Sign(joined=False, committed={}, done=5, failing=False)


@pytest.mark.parametrize("sign", [STOOD, LOST])
def test_nothing_changes(sign: Sign) -> None:
    """The same sign for longer than it may be."""
    stall = Stall(60.0)

    assert [bool(stall.look(sign, now)) for now in (100.0, 130.0, 160.0, 160.5)] == [False, False, False, True]


@pytest.mark.parametrize(
    "between",
    [
        STOOD._replace(committed={PLACE: Progress(4, 9)}),
        STOOD._replace(done=6),
        STOOD._replace(failing=True),
        STOOD._replace(committed={PLACE: Progress(9, 9)}),
        STOOD._replace(committed={PLACE: Progress(3, 9), ("rows", 1): Progress(0, 9)}),
        LOST,
        None,
    ],
)
def test_any_work_resets_the_stall(between: Sign | None) -> None:
    """A commit, a write, a try, other partitions, nothing that waits; None: Kafka was away."""
    stall = Stall(60.0)
    stall.look(STOOD, 100.0)
    if between is None:
        stall.forget()
    else:
        stall.look(between, 150.0)

    assert not stall.look(STOOD, 170.0)
    assert not stall.look(STOOD, 210.0)
    assert stall.look(STOOD, 231.0)


def test_more_input_is_nothing_done() -> None:
    """What comes in meanwhile does not count."""
    stall = Stall(60.0)
    stall.look(STOOD, 100.0)

    assert stall.look(STOOD._replace(committed={PLACE: Progress(3, 99)}), 161.0)


def test_nothing_waits() -> None:
    """A member with nothing to do may do nothing for ever."""
    idle = STOOD._replace(committed={PLACE: Progress(9, 9)})
    stall = Stall(60.0)

    assert not any(stall.look(idle, float(now)) for now in range(100, 1_000, 50))
