"""Tinyproxy's log: what carries its lines, and lines of several machines in one file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.clock import iso_micros
from schemas.parsers.proxies.tinyproxy_lines import read_line
from tests.schemas.parsers.proxies.tinyproxy_log import DAY, REAL, A, B, Log, reported, requests, served


def carried_by(header: str, lines: Iterable[bytes], own: bool = False) -> list[bytes]:
    """The lines without tinyproxy's own beginning, behind that of a carrier."""
    return [header.encode() + (line if own else line.partition(b": ")[2]) for line in lines]


@pytest.mark.parametrize(
    ("header", "own", "proxy"),
    [
        ("<134>1 2026-11-24T11:00:00+01:00 gw-1 tinyproxy 7 - - ", False, "gw-1"),
        ("2026-11-24T10:00:00.000Z gw-1 tinyproxy[7]: ", False, "gw-1"),
        ("<134>Nov 24 10:00:00 gw-1 tinyproxy[7]: ", False, "gw-1"),
        ("2026-11-24T10:00:00.000000000Z stdout F ", True, ""),
        ("<134>1 2026-11-24T10:00:00Z gw-1 tinyproxy - - - ", False, None),
        ("2026-11-24T10:00:00.000Z gw-1 tinyproxy: ", False, None),
        ("", False, None),
    ],
)
def test_what_carries_the_lines(header: str, own: bool, proxy: str | None) -> None:
    """Syslog reports time and process in its own way; where it reports no process nothing is joined."""
    events = requests(carried_by(header, Log().whole(A, "a.example"), own))

    assert [(one.proxy, iso_micros(one.at)) for one in events] == (
        [] if proxy is None else [(proxy, f"{DAY}10:00:00.000000Z")]
    )


def test_machines_and_programs_are_kept_apart() -> None:
    """Two that have the same process number and descriptor, as containers do."""
    log = Log(1)
    one = carried_by("<134>1 2026-11-24T10:00:00Z gw-1 tinyproxy 1 - - ", log.whole(A, "a.example"))
    for other in ("gw-2 tinyproxy", "gw-1 tinyproxy2"):
        two = carried_by(f"<134>1 2026-11-24T10:00:00Z {other} 1 - - ", log.whole(B, "b.example"))
        mixed = [line for pair in zip(one, two, strict=True) for line in pair]

        assert served(mixed) == [(A, "a.example"), (B, "b.example")]


def test_a_shippers_time_is_not_the_lines() -> None:
    """It is when the shipper read it; tinyproxy's own counts."""
    lines = [
        json.dumps({"@timestamp": "2026-11-24T20:00:00Z", "message": line.decode(), "host": {"name": "gw-1"}}).encode()
        for line in Log().whole(A, "a.example")
    ]

    assert [iso_micros(one.at) for one in requests(lines)] == [f"{DAY}10:00:05.000000Z"]


def test_a_shipper_reports_no_process_but_tinyproxys_own() -> None:
    """Inside its JSON it is not looked for: a request might be taken for a header."""
    for pad in range(80):
        message = (
            f"Nov 24 10:00:00 gw-1 tinyproxy[7]: Request (file descriptor 6): GET {'x' * pad}[9]: http://b.example/"
        )
        raw = json.dumps({"message": message, "host": {"name": "gw-1"}, "more": "x" * 40}).encode()

        assert read_line(raw).pid == ""


def test_a_client_cannot_write_another_process_into_its_request() -> None:
    """What looks like a header inside the message, also behind bytes that are no UTF-8, is not one."""
    log = Log()
    victim = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[9]: ", [log.connect(6, A)])
    asked = log.request(6, "b.example:443")
    for hostile in (asked + b" \xff tinyproxy[9]: ", asked + b" \xff[9]: x", b"\xff" + asked):
        forged = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[7]: ", [hostile])
        end = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[9]: ", [log.established(7, "b.example")])

        assert served([*victim, *forged, *end]) == []


OTHER = [
    line.replace(b"198.51.100.", b"203.0.113.").replace(b"2001:db8:51:", b"2001:db8:52:").replace(b"?r=", b"?other=")
    for line in REAL
]
"""The same log of another machine, with the same process number and descriptors."""


@settings(max_examples=12)
@given(data=st.data())
def test_another_machines_lines_in_between_make_no_client_wrong(data: st.DataObject) -> None:
    """Nothing reports which machine a line is of: what could be of either is of none."""
    shift = data.draw(st.integers(-40, 40))
    runs = data.draw(st.lists(st.integers(1, 6), min_size=8, max_size=8))
    sources = [iter(REAL), iter(OTHER)]
    mixed = list(_take(sources[shift > 0], abs(shift)))
    for turn in range(len(REAL)):
        mixed += _take(sources[turn % 2], runs[turn % len(runs)])
    pairs = {(client, target) for client, target, _, _ in (*reported(REAL), *reported(OTHER))}
    asked = Counter((client, target) for client, target, _, _ in reported(mixed))

    assert set(asked) <= pairs


def _take(lines: Iterator[bytes], count: int) -> list[bytes]:
    return [line for _, line in zip(range(count), lines, strict=False)]
