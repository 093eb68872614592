"""Device addresses learnt from endpoint records: of one device it is its own; of several, or after a silence, of none."""

from __future__ import annotations

from itertools import permutations

import pytest

from producers.identity import sightings
from producers.identity.sightings import AROUND, SILENCE_MAX, Sightings, is_of_one_machine
from producers.identity.table import Entry, Found, How, IdentityTable
from schemas.clock import MICROS, parse_micros

NINE = parse_micros("2026-11-24T09:00:00Z")
ADDRESS = "10.0.3.17"


def seen(*times: tuple[str, int], address: str = ADDRESS) -> Sightings:
    """A device was seen with the address at each time."""
    made = Sightings()
    for device, at in times:
        made.saw(device, address, at)
    return made


def device_at(made: Sightings, at: int, table: IdentityTable | None = None, named: str = ADDRESS) -> Found:
    """Whose the address is at a time, by a table without anything else, if not given."""
    table = table or IdentityTable()
    table.learn(made.entries())
    return table.find(named, lambda: at)


def test_an_address_is_its_only_devices() -> None:
    """From an hour before it was first seen with it to an hour after the last time; beyond it is unknown."""
    made = seen(("ws-1", NINE), ("ws-1", NINE + 5 * AROUND))
    ours = Found("ws-1", How.LEARNT)
    unassigned = Found(ADDRESS, How.ADDRESS)

    assert (made.learnt, made.ambiguous) == (1, 0)
    assert [device_at(made, NINE + hours * AROUND) for hours in (-1, 0, 3, 5, 6)] == [ours] * 5
    assert [device_at(made, at) for at in (NINE - AROUND - 1, NINE + 6 * AROUND + 1)] == [unassigned] * 2
    assert device_at(made, NINE, named="::ffff:10.0.3.17") == ours
    assert device_at(made, NINE, named="10.0.3.18") == Found("10.0.3.18", How.ADDRESS)
    assert AROUND == 3_600 * MICROS


def test_an_address_of_several_has_no_device() -> None:
    """Also when they had it at times far apart, and when the first one has it again."""
    made = seen(("ws-1", NINE), ("ws-2", NINE + 1_000 * AROUND), ("ws-1", NINE))

    assert (made.learnt, made.ambiguous) == (0, 1)
    assert {device_at(made, NINE + hours * AROUND) for hours in (-9_999, 0, 1_000, 9_999)} == {
        Found(ADDRESS, How.AMBIGUOUS)
    }


def test_a_long_silence_has_no_device() -> None:
    """Within a working day the device had it in between, over a night another device may have."""
    made = seen(("ws-1", NINE), ("ws-1", NINE + SILENCE_MAX), ("ws-1", NINE + 2 * SILENCE_MAX + 1))

    assert list(made.entries()) == [
        Entry("ws-1", ADDRESS, NINE - AROUND, NINE + SILENCE_MAX + AROUND + 1),
        Entry("ws-1", ADDRESS, NINE + 2 * SILENCE_MAX + 1 - AROUND, NINE + 2 * SILENCE_MAX + 1 + AROUND + 1),
    ]
    assert device_at(made, NINE + 6 * AROUND).how is How.LEARNT
    assert device_at(made, NINE + SILENCE_MAX + 6 * AROUND).how is How.ADDRESS
    assert device_at(made, NINE + 2 * SILENCE_MAX).how is How.LEARNT


def test_order_does_not_matter() -> None:
    """Files of several devices come in any order: what is between two silences may come last and end them."""
    times = [("ws-1", NINE + hours * AROUND) for hours in (0, 11, 22, 40, 47)]

    assert {tuple(seen(*order).entries()) for order in permutations(times)} == {
        (
            Entry("ws-1", ADDRESS, NINE - AROUND, NINE + 23 * AROUND + 1),
            Entry("ws-1", ADDRESS, NINE + 39 * AROUND, NINE + 48 * AROUND + 1),
        )
    }


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.0.1", "::1", "169.254.7.7", "fe80::1", "0.0.0.0", "::", "224.0.0.251", "ff02::1", "240.0.0.1"],
)
def test_what_every_machine_has_teaches_nothing(address: str) -> None:
    """Loopback, link-local, unspecified, multicast and reserved addresses distinguish no machines."""
    made = seen(("ws-1", NINE), address=address)

    assert (made.learnt, made.ambiguous, list(made.entries())) == (0, 0, [])
    assert is_of_one_machine("100.64.0.1")
    assert is_of_one_machine("fd00::1")


def test_the_table_wins() -> None:
    """Of an address that settings or leases know, they alone count: also between leases, and where they give it to several."""
    made = seen(("ws-9", NINE), ("ws-9", NINE + AROUND))
    leased = [Entry("ws-1", ADDRESS, NINE - 5 * AROUND, NINE)]
    several = [Entry("ws-1", ADDRESS), Entry("ws-2", ADDRESS)]

    assert device_at(made, NINE - 1, IdentityTable(leased)) == Found("ws-1", How.TABLE)
    assert device_at(made, NINE, IdentityTable(leased)) == Found(ADDRESS, How.ADDRESS)
    assert device_at(made, NINE, IdentityTable(several)) == Found(ADDRESS, How.AMBIGUOUS)
    ambiguous = seen(("ws-8", NINE), ("ws-9", NINE))
    assert device_at(ambiguous, NINE - 1, IdentityTable(leased)) == Found("ws-1", How.TABLE)


def test_a_learnt_device_is_called_as_the_table_calls_it() -> None:
    """A name that the table comes to know later is followed; a learnt address never stands for a name."""
    made = seen(("3f9a1c6e", NINE))

    assert device_at(made, NINE, IdentityTable([Entry("ws-1", "3f9a1c6e")])) == Found("ws-1", How.LEARNT)
    assert device_at(made, NINE, IdentityTable([Entry(ADDRESS, "ws-7")]), named="ws-7") == Found(ADDRESS, How.TABLE)


def test_a_line_without_a_time_is_not_named_by_it() -> None:
    """It may be of any time."""
    assert device_at(seen(("ws-1", NINE)), 0) == Found(ADDRESS, How.AMBIGUOUS)


def test_answers_from_before_are_not_kept() -> None:
    """An address that belonged to no device before it was learnt is not so for ever."""
    table = IdentityTable()

    assert table.find(ADDRESS, lambda: NINE) == Found(ADDRESS, How.ADDRESS)
    assert device_at(seen(("ws-1", NINE)), NINE, table) == Found("ws-1", How.LEARNT)


def test_beyond_the_bounds_nothing_new_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses and spans have a bound; that another device has a learnt address is noticed beyond it as well."""
    monkeypatch.setattr(sightings, "ADDRESSES_MAX", 2)
    monkeypatch.setattr(sightings, "SPANS_MAX", 2)
    made = Sightings()
    for device, address in (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3"), ("d", "10.0.0.2")):
        made.saw(device, address, NINE)
    for days in (1, 2, 3):
        made.saw("a", "10.0.0.1", NINE + days * 2 * SILENCE_MAX)

    assert (made.learnt, made.ambiguous, made.left_out) == (1, 1, True)
    times = [entry.since + AROUND for entry in made.entries() if entry.known_as == "10.0.0.1"]
    assert times == [NINE, NINE + 2 * SILENCE_MAX]
