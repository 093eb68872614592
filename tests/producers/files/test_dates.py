"""Years and zones for times that have neither."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.files.dates import CLOCKS, dated
from producers.sources.source import describe, parse_source
from schemas.clock import MICROS, iso_micros, parse_micros

CHANGED = parse_micros("2026-11-24T19:08:00Z")


@pytest.fixture(autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's zone, for one test."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", getattr(request, "param", "UTC"))
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "changed", "expected"),
    [
        ("Nov 24 19:07:24.258", "2026-11-24T19:08:00Z", "2026-11-24T19:07:24.258000Z"),
        ("Nov  4 19:07:24", "2026-11-24T19:08:00Z", "2026-11-04T19:07:24.000000Z"),
        ("Nov 24 19:08:01.5", "2026-11-24T19:08:00Z", "2026-11-24T19:08:01.500000Z"),
        ("Dec 31 23:59:59.999", "2027-01-01T00:00:05Z", "2026-12-31T23:59:59.999000Z"),
        ("Jan  1 00:00:00.000", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00.000000Z"),
        ("Dec 24 19:07:24", "2026-11-24T19:08:00Z", "2025-12-24T19:07:24.000000Z"),
        ("Feb 29 10:00:00", "2025-01-02T00:00:00Z", "2024-02-29T10:00:00.000000Z"),
    ],
)
def test_the_latest_year_that_can_be(text: str, changed: str, expected: str) -> None:
    """No line is younger than its file's last change, but for clocks that are read a moment apart."""
    assert iso_micros(dated(text, parse_micros(changed))) == expected


@pytest.mark.parametrize("text", ["Nov 24 19:08:02.1", "Nov 24 21:07:24", "Nov 25 20:00:00"])
def test_what_looks_younger_than_its_file_has_another_zone(text: str) -> None:
    """Then no time is certain."""
    assert dated(text, CHANGED) == 0
    assert dated("Nov 24 19:08:02.0", CHANGED) == CHANGED + CLOCKS


@pytest.mark.parametrize(
    "text",
    ["", "Nov 24", "nov 24 19:07:24", "Abc 24 19:07:24", "Nov 31 19:07:24", "Nov 24 25:00:00", "Feb 29 10:00:00"],
)
def test_what_is_no_time_is_none(text: str) -> None:
    """Nor is 29 February, where neither year has one."""
    assert dated(text, CHANGED) == 0
    assert dated("Nov 24 19:07:24", 0) == 0


@pytest.mark.parametrize("zone", ["Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"], indirect=True)
@pytest.mark.usefixtures("zone")
def test_this_machines_zone() -> None:
    """With its summer; the hour that comes twice and the one that is left out are no times."""
    changed = parse_micros("2026-11-24T19:08:00Z")

    assert iso_micros(dated("Nov 24 20:07:24", changed)) == "2026-11-24T19:07:24.000000Z"
    assert iso_micros(dated("Jul 24 20:07:24", changed)) == "2026-07-24T18:07:24.000000Z"
    assert [dated(f"Oct 25 0{hour}:30:00", changed) > 0 for hour in (1, 2, 3)] == [True, False, True]
    assert [dated(f"Mar 29 0{hour}:30:00", changed) > 0 for hour in (1, 2, 3)] == [True, False, True]


def test_a_files_change_is_asked_of_the_file(tmp_path: Path) -> None:
    """A pipe has none that shows anything."""
    path = tmp_path / "log"
    path.write_bytes(b"")
    os.utime(path, (CHANGED // MICROS, CHANGED // MICROS))
    reading, writing = os.pipe()
    source = parse_source("tinyproxy:-")
    with path.open("rb") as stream, os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"):
        assert dated("Nov 24 19:07:24", describe(source, str(path), stream).changed) == CHANGED - 36 * MICROS
        assert dated("Nov 24 19:07:24", describe(source, "-", pipe).changed) == 0
