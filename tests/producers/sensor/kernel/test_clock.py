"""The trace's clock in UTC, and what happens when another device sets the wall clock."""

from __future__ import annotations

from producers.sensor.kernel.clock import Clock, Distance, measured


def test_the_narrowest_look_counts() -> None:
    """The wall clock was read somewhere between two readings of the boot clock; the closer they are, the better it is known."""
    boots = iter([0, 1_000, 2_000, 2_010, 3_000, 3_500, 4_000, 4_500, 5_000, 5_500])
    found = measured(wall=lambda: 1_000_000, boot=lambda: next(boots))

    assert found == Distance(1_000_000 - 2_005, 5)


def test_small_differences_are_the_measurements() -> None:
    """Less than 100 µs, or than the measurements' own width, changes nothing."""
    clock = Clock(Distance(0, 10))

    assert clock.look(Distance(99_000, 10)) == 0
    assert clock.look(Distance(150_000, 400_000)) == 0
    assert clock.distance == Distance(0, 10)


def test_a_jump_is_reported_and_followed() -> None:
    """Times are reported by the new distance from then on."""
    clock = Clock(Distance(0, 10))

    assert clock.look(Distance(500_000, 10)) == 0
    assert clock.distance.ns == 500_000
    assert clock.look(Distance(-3_600_000_000_000, 10)) == -3_600_000_500_000
    assert (clock.distance.ns, clock.jumps) == (-3_600_000_000_000, 1)
