"""The identity table: which names and addresses are one device, rule by rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.identity.table import ALWAYS, Entry, Found, How, IdentityTable
from schemas.clock import MICROS, parse_micros

GUID = "3f9a1c6e-2b8d-4f70-a5e1-c9b3d7f2a6e4"
ADDRESS = "10.0.3.17"


def hour(number: float) -> int:
    """A time on the day of these tests."""
    return parse_micros("2026-11-24T00:00:00Z") + round(number * 3_600 * MICROS)


def find(table: IdentityTable, named: str, at: float | None = 12) -> tuple[str, str]:
    """Device and how; at None the line does not state when it was written."""
    device, how = table.find(named, lambda: 0 if at is None else hour(at))
    return device, str(how)


def lease(device: str, since: float, until: float | None = None, address: str = ADDRESS) -> Entry:
    return Entry(device, address, hour(since), ALWAYS if until is None else hour(until))


def test_names_are_compared_as_machines_do() -> None:
    """Case and a trailing dot are no difference (RFC 4343); an address has one spelling; no table is needed for that."""
    empty = IdentityTable()

    assert {find(empty, named) for named in ("WS-042", " ws-042", "ws-042.")} == {("ws-042", "named")}
    assert {find(empty, named) for named in ("10.0.3.17", "::ffff:10.0.3.17")} == {(ADDRESS, "address")}
    assert find(empty, "2001:DB8::0:1") == ("2001:db8::1", "address")


def test_an_empty_name_has_no_device() -> None:
    """Nothing, and what is too long for a device, is no name."""
    wrong = ("", " . ", "x" * 256, "ws\x1b[31m", "ws\u202e1", "ws\n1")
    assert {find(IdentityTable(), named) for named in wrong} == {("", "untold")}


def test_known_domains_are_cut_off() -> None:
    """Only those, as whole labels, the longest first; a name in another domain may be another machine."""
    table = IdentityTable(domains=["corp.example", ".lab.corp.example."])

    assert find(table, "WS-042.corp.example") == ("ws-042", "named")
    assert find(table, "ws-042.lab.corp.example") == ("ws-042", "named")
    assert find(table, "ws-042.other.example") == ("ws-042.other.example", "named")
    assert find(table, "ws-042.mycorp.example") == ("ws-042.mycorp.example", "named")
    assert find(table, "corp.example") == ("corp.example", "named")


def test_names_of_a_device_are_the_device() -> None:
    """Whatever a sensor calls it; also with its domain, where that is cut off."""
    table = IdentityTable([Entry("WS-042", GUID.upper()), Entry("ws-042", "old-name.corp.example")], ["corp.example"])

    assert find(table, GUID) == ("ws-042", "table")
    assert find(table, "OLD-NAME") == ("ws-042", "table")
    assert find(table, "ws-042.corp.example") == ("ws-042", "named")


def test_a_name_of_a_name_is_followed() -> None:
    """A lease may show a name that is itself one of several."""
    table = IdentityTable([lease("Laptop-7.corp.example", 8, 16), Entry("ws-042", "laptop-7")], ["corp.example"])

    assert find(table, ADDRESS) == ("ws-042", "table")


def test_circular_names_have_no_device() -> None:
    """Two devices that are each other's name cannot both be right; a device listed under its own name is no such circle."""
    table = IdentityTable([Entry("a", "b"), Entry("b", "a"), Entry("c", "c"), Entry("c", "d")])

    assert find(table, "a") == ("a", "ambiguous")
    assert find(table, "d") == ("c", "table")
    assert find(table, "c") == ("c", "named")


def test_a_whole_name_counts_before_what_is_left_without_its_domain() -> None:
    """Two machines with one short name in two known domains have their whole names; the short name belongs to no device."""
    entries = [Entry("one", "ws.a.example"), Entry("two", "ws.b.example")]
    table = IdentityTable(entries, ["a.example", "b.example"])

    assert find(table, "ws.a.example") == ("one", "table")
    assert find(table, "ws.b.example") == ("two", "table")
    assert find(table, "ws") == ("ws", "ambiguous")


def test_an_address_is_whose_it_was_when_the_line_was_written() -> None:
    """A lease that moves: the end belongs to no device, or to the next; before and in between the address stands for itself."""
    table = IdentityTable([lease("ws-042", 8, 10), lease("ws-043", 11, 12), lease("ws-044", 12)])
    found = {at: find(table, ADDRESS, at) for at in (7.9, 8, 9.9, 10, 11, 11.9, 12, 1_000)}

    assert found == {
        7.9: (ADDRESS, "address"),
        8: ("ws-042", "table"),
        9.9: ("ws-042", "table"),
        10: (ADDRESS, "address"),
        11: ("ws-043", "table"),
        11.9: ("ws-043", "table"),
        12: ("ws-044", "table"),
        1_000: ("ws-044", "table"),
    }


def test_several_devices_behind_one_address_are_not_guessed_at() -> None:
    """While two have it, it is neither's; before and after it is the one's."""
    table = IdentityTable([lease("ws-042", 8, 12), lease("ws-043", 10, 14)])
    both = IdentityTable([Entry("ws-042", ADDRESS), Entry("ws-043", ADDRESS)])

    assert [find(table, ADDRESS, at)[0] for at in (9, 11, 13)] == ["ws-042", ADDRESS, "ws-043"]
    assert find(table, ADDRESS, 11) == find(both, ADDRESS) == find(both, ADDRESS, None) == (ADDRESS, "ambiguous")


def test_a_repeated_lease_is_renewed_or_ended() -> None:
    """Of the same device, address and beginning the last entry holds; a renewal is no second device, and gives the end."""
    released = IdentityTable([lease("ws-042", 8, 16), lease("ws-042", 8, 10), lease("ws-043", 10, 16)])
    renewed = IdentityTable([lease("ws-042", 8, 16), lease("ws-042", 12, 20)])
    shortened = IdentityTable([lease("ws-042", 8, 16), lease("ws-042", 12, 13), lease("ws-043", 13, 16)])
    always = IdentityTable([Entry("ws-042", ADDRESS), lease("ws-042", 12, 13)])

    assert [find(released, ADDRESS, at)[0] for at in (9, 11)] == ["ws-042", "ws-043"]
    assert [find(renewed, ADDRESS, at)[0] for at in (9, 13, 19, 20)] == ["ws-042", "ws-042", "ws-042", ADDRESS]
    assert [find(shortened, ADDRESS, at)[0] for at in (9, 12.5, 14)] == ["ws-042", "ws-042", "ws-043"]
    assert {find(always, ADDRESS, at)[0] for at in (9, 12.5, 14)} == {"ws-042"}


def test_a_line_without_a_time_is_of_no_lease() -> None:
    """It may have been written at any time; what holds always holds for it, too."""
    table = IdentityTable([lease("ws-042", 8, 16), Entry("srv-1", "10.0.0.1")])

    assert find(table, ADDRESS, None) == (ADDRESS, "ambiguous")
    assert find(table, "10.0.0.1", None) == ("srv-1", "table")


def test_the_time_is_asked_only_where_it_matters() -> None:
    """Working out a line's time costs as much as reading it."""
    asked: list[int] = []

    def written_at() -> int:
        asked.append(1)
        return hour(9)

    table = IdentityTable([lease("ws-042", 8, 16), Entry("srv-1", "10.0.0.1")])
    for named in ("ws-042", "10.0.0.1", "10.9.9.9"):
        table.find(named, written_at)
    assert asked == []
    assert table.find(ADDRESS, written_at) == table.find(ADDRESS, written_at) == Found("ws-042", How.TABLE)

    assert len(asked) == 2


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 20), st.integers(1, 20)), max_size=6)


@given(spans, st.integers(1, 21))
def test_law_of_leases(given_spans: list[tuple[str, int, int]], at: int) -> None:
    """However leases lie, the address is a device's exactly where that one alone has it."""
    entries = [Entry(device, ADDRESS, min(pair), max(pair)) for device, *pair in given_spans]
    begun = [entry for entry in entries if entry.since <= at]
    newest = {entry.device: entry for entry in sorted(begun, key=lambda entry: entry.since)}
    holding = {device for device, entry in newest.items() if at < entry.until}
    device, how = IdentityTable(entries).find(ADDRESS, lambda: at)

    assert device == (holding.pop() if len(holding) == 1 else ADDRESS)
    assert (how is How.AMBIGUOUS) == (len(holding) > 1)
