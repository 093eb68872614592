"""Modes of protection come from sensors and settings, in any order; each row has the mode of its own time."""

from __future__ import annotations

from itertools import permutations

import pytest

from schemas.events import Action, Event, ProtectionMode
from schemas.tables import ModeStatus
from streams.assess.mode_history import ENTRIES_MAX, REPORTS_MAX
from tests.factories import Row, World, connection, latest, listing, mode, process_verdict, request, verdict, world_of

BLOCK, AUDIT, OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF


def history(world: World) -> list[tuple[object, object, object]]:
    """Return the shown rows: mode, start and end, as seconds of the first minute."""
    shown = [row for row in latest(world.modes) if row["Status"] != ModeStatus.WITHDRAWN]
    return [
        (row["Mode"], _second(row["FromTime"]), _second(row["ToTime"]))
        for row in sorted(shown, key=lambda row: str(row["FromTime"] or ""))
    ]


def _second(time: object) -> float | None:
    return None if time is None else round((float(str(time)[17:-1]) - 28) % 60, 3)  # T0 is at 28 s of its minute


def mode_of(world: World, port: int) -> object:
    """The mode on the row of the connection with this local port."""
    (row,) = [row for row in world.connections if row["LocalPort"] == port]
    return row["ProtectionMode"]


def test_nothing_known_is_off() -> None:
    """A device without evidence of a mode counts as off and has no history."""
    world = world_of([connection(0), request(0.1)])

    assert (mode_of(world, 40_000), history(world)) == ("off", [])


def test_a_change_names_the_mode_before_it() -> None:
    """Defender's 5007 names the old value: it applied since the first evidence."""
    world = world_of([connection(0, port=1), mode(5, BLOCK, AUDIT), connection(9, port=2)])

    assert history(world) == [("audit", None, 5.0), ("block", 5.0, None)]
    assert (mode_of(world, 1), mode_of(world, 2)) == ("audit", "block")


def test_order_of_the_changes_does_not_matter() -> None:
    """The history and each connection's mode are the same in any order of arrival."""
    changes: list[Event] = [mode(4, AUDIT, OFF), mode(8, BLOCK, AUDIT), mode(12, OFF, BLOCK), mode(16, BLOCK, OFF)]
    opened: list[Event] = [connection(at, port=at) for at in (2, 6, 10, 14, 18)]
    for order in permutations(changes):
        world = world_of([*opened, *order])

        assert history(world) == [
            ("off", None, 4.0), ("audit", 4.0, 8.0), ("block", 8.0, 12.0), ("off", 12.0, 16.0), ("block", 16.0, None),
        ]  # fmt: skip
        assert [mode_of(world, at) for at in (2, 6, 10, 14, 18)] == ["off", "audit", "block", "off", "block"]


def test_settings_apply_until_a_sensor_reports_a_mode() -> None:
    """Before the first report the mode is that of the settings."""
    world = (
        World(listing(modes=["dev-1=off"])).see(connection(0, port=1), mode(5, BLOCK), connection(9, port=2)).finish()
    )

    assert history(world) == [("off", None, 5.0), ("block", 5.0, None)]
    assert (mode_of(world, 1), mode_of(world, 2)) == ("off", "block")


def test_a_change_from_before_the_settings_were_read_comes_late() -> None:
    """Changes that are collected days late take their place in the history."""
    world = World(listing(modes=["dev-1=audit"])).see(connection(20, port=3), mode(10, BLOCK), mode(5, OFF)).finish()

    assert history(world) == [("audit", None, 5.0), ("off", 5.0, 10.0), ("block", 10.0, None)]
    assert mode_of(world, 3) == "block"


@pytest.mark.parametrize(
    ("action", "proved"), [(Action.BLOCKED, "block"), (Action.AUDITED, "audit"), (Action.WARNED, "block")]
)
def test_a_verdict_proves_the_mode(action: Action, proved: str) -> None:
    """A blocked request proves block, an audited one audit; an audited one does not disprove block."""
    world = world_of([verdict(3, action=action), connection(9, port=2)])

    assert history(world) == [(proved, 3.0, None)]
    assert mode_of(world, 2) == proved

    world = world_of([mode(1, BLOCK), verdict(3, action=action), connection(9, port=2)])
    assert history(world) == [("block", 1.0, None)]


def test_a_verdict_without_a_connection_proves_it_as_well() -> None:
    """Defender's 1126 proves block."""
    assert history(world_of([process_verdict(3)])) == [("block", 3.0, None)]


def test_verdicts_in_any_order_give_one_history() -> None:
    """The earliest audited request and the earliest blocked one start their modes."""
    verdicts: list[Event] = [
        verdict(2, action=Action.AUDITED, port=1, flow="1"),
        verdict(4, action=Action.AUDITED, port=2, flow="2"),
        verdict(6, port=3, flow="3"),
        verdict(8, action=Action.AUDITED, port=4, flow="4"),
    ]
    for order in permutations(verdicts):
        assert history(world_of(order)) == [("audit", 2.0, 6.0), ("block", 6.0, None)]


def test_a_late_change_moves_what_comes_after_it() -> None:
    """With a late off in between, a repeated report of block becomes a change."""
    world = world_of([mode(2, BLOCK), mode(9, BLOCK), mode(5, OFF)])

    assert history(world) == [("block", 2.0, 5.0), ("off", 5.0, 9.0), ("block", 9.0, None)]


def test_a_row_of_the_history_that_is_not_so_is_withdrawn() -> None:
    """An earlier start replaces a later one; the view shows one of them."""
    world = world_of([verdict(6, port=3, flow="3"), verdict(2, port=4, flow="4")])
    rows: list[Row] = latest(world.modes)

    assert {(row["Mode"], _second(row["FromTime"]), row["Status"]) for row in rows} == {
        ("block", 2.0, "known"),
        ("block", 6.0, "withdrawn"),
    }


def test_rows_that_left_are_corrected() -> None:
    """A late change gives earlier rows, verdicts and alerts a new version with the mode of their time."""
    world = World().see(connection(0), verdict(1, action=Action.AUDITED), mode(0.5, BLOCK)).finish()

    (row,), (alert,) = latest(world.verdicts), latest(world.alerts, "AlertId")
    assert (row["ProtectionMode"], alert["ProtectionMode"]) == ("block", "block")


def test_a_reported_mode_stays_when_an_earlier_block_comes_late() -> None:
    """An audited request does not disprove block, so it does not end the block before the next report."""
    reports: list[Event] = [
        verdict(18, port=1, flow="1"),
        verdict(32, port=2, flow="2", action=Action.AUDITED),
        mode(33, AUDIT),
    ]
    for order in permutations(reports):
        assert history(world_of(list(order))) == [("block", 18.0, 33.0), ("audit", 33.0, None)]


def test_each_status_holds_though_a_change_before_it_comes_late() -> None:
    """A late change between two equal reports ends at the later report."""
    status: list[Event] = [mode(at, AUDIT) for at in (5, 27, 30)]
    for order in permutations([*status, mode(7, OFF)]):
        assert history(world_of(list(order))) == [("audit", 5.0, 7.0), ("off", 7.0, 27.0), ("audit", 27.0, None)]


def test_remembered_reports_have_a_bound() -> None:
    """The latest status reports and the first one kept before them apply, however many verdicts there are."""
    world = World().see(*(mode(at, AUDIT) for at in range(1, REPORTS_MAX + 12)))
    world.see(*(verdict(40 + at / 100, tx=at, action=Action.AUDITED) for at in range(2 * REPORTS_MAX)))
    world.see(mode(REPORTS_MAX + 10.5, OFF), mode(2.5, OFF)).finish()

    assert [(kind, since) for kind, since, _ in history(world)] == [
        ("audit", 1.0), ("off", 2.5), ("audit", 12.0), ("off", REPORTS_MAX + 10.5), ("audit", REPORTS_MAX + 11.0),
    ]  # fmt: skip


def test_an_audited_request_proves_its_mode_for_the_whole_connection() -> None:
    """The connection began before the verdict, where the history contains no mode; later verdicts do not lower block."""
    world = world_of([connection(0, port=1), verdict(3, action=Action.AUDITED, port=1, flow="1")])
    assert (mode_of(world, 1), history(world)) == ("audit", [("audit", 3.0, None)])

    world = world_of([connection(0, port=1), verdict(3, port=1, flow="1")])
    assert (mode_of(world, 1), history(world)) == ("block", [("block", 3.0, None)])


def test_the_oldest_changes_are_evicted_at_the_bound() -> None:
    """The history begins with the oldest kept change; what is evicted counts as off, under a higher version."""
    world = World().see(connection(0.5, port=1)).see(*[mode(at, (BLOCK, AUDIT)[at % 2]) for at in range(ENTRIES_MAX)])
    first = world.wait(60).connections
    assert [row["ProtectionMode"] for row in first] == ["block"]

    world.see(mode(ENTRIES_MAX, BLOCK)).see(request(ENTRIES_MAX + 1, port=1)).finish()
    assert len(world.device.state.modes) == ENTRIES_MAX
    assert all(row["Status"] != ModeStatus.WITHDRAWN for row in world.modes)
    (row,) = [row for row in world.connections if row["LocalPort"] == 1]
    assert row["ProtectionMode"] == "off"


def test_a_mode_is_valid_from_its_own_time_on() -> None:
    """A connection that begins at the moment of the change has the new mode."""
    world = world_of([mode(1, OFF), mode(5, BLOCK), connection(5, port=1), connection(4.999, port=2)])
    assert (mode_of(world, 1), mode_of(world, 2)) == ("block", "off")


def test_a_verdict_that_proved_nothing_counts_after_a_late_off() -> None:
    """The device was known to block; a late report shows that it was off in between."""
    world = world_of([mode(2, BLOCK), verdict(9), mode(5, OFF)])
    assert history(world) == [("block", 2.0, 5.0), ("off", 5.0, 9.0), ("block", 9.0, None)]


def test_repeated_proofs_do_not_fill_the_history() -> None:
    """Only the first verdict is an entry; the later ones prove what is known."""
    world = world_of([verdict(at, port=at, flow=str(at)) for at in range(1, ENTRIES_MAX + 10)])
    assert (len(world.device.state.modes), history(world)) == (1, [("block", 1.0, None)])


def test_proofs_do_not_evict_the_kept_reports() -> None:
    """A report that changed nothing takes effect after a late change, though many verdicts followed it."""
    proofs = [verdict(4 + at, port=at, flow=str(at)) for at in range(1, REPORTS_MAX + 2)]
    world = world_of([mode(2, BLOCK), mode(4, BLOCK), *proofs, mode(3, OFF)])
    assert history(world) == [("block", 2.0, 3.0), ("off", 3.0, 4.0), ("block", 4.0, None)]


def test_a_change_emits_only_the_rows_that_changed() -> None:
    """Each change ends the row before it and begins one; earlier rows are not repeated."""
    world = World()
    for at, (valid, count) in enumerate(((BLOCK, 1), (OFF, 3), (AUDIT, 5), (AUDIT, 5), (BLOCK, 7))):
        world.see(mode(at, valid))
        assert len(world.modes) == count
