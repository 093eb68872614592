"""A connection's process record is replaced when a better one arrives."""

from __future__ import annotations

import pytest

from tests.factories import World, connection, program, program_end, request


def test_a_late_record_of_a_later_process_replaces_the_first_one() -> None:
    """Both have the PID; the later one started last before the connection. Emitted rows get a higher version."""
    world = World().see(program(0, "first"), connection(10), request(10.1)).wait(60)
    assert {row["InitiatingProcessCommandLine"] for row in world.rows} == {"first"}

    world.see(program(5, "second")).finish()
    assert {row["InitiatingProcessCommandLine"] for row in world.rows} == {"second"}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_process_that_turns_out_to_have_ended_is_removed(restarted: bool) -> None:
    """Its end arrives late; without any other record of the PID the columns are empty again."""
    world = World().see(program(0, "first", guid="g1"), connection(10), request(10.1)).wait(60)
    world = world.restart() if restarted else world
    world.see(program_end(5, guid="g1")).finish()

    assert {row["InitiatingProcessCommandLine"] for row in world.rows} == {""}
