"""Times: read from any spelling, written in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.clock import LATEST, MICROS, iso_micros, parse_micros

NOON = 1_767_268_800 * MICROS  # 2026-01-01T12:00:00Z


@pytest.mark.parametrize(
    ("text", "after_noon"),
    [
        ("2026-01-01T12:00:00.123456Z", 123_456),
        ("2026-01-01T12:00:00.123456+0000", 123_456),
        ("2026-01-01T12:00:00.123456+00:00", 123_456),
        ("2026-01-01T14:00:00.123456+0200", 123_456),
        ("2026-01-01T12:00:00.123456789Z", 123_456),
        ("2026-01-01T12:00:00.1234569Z", 123_456),
        ("2026-01-01 12:00:00.007", 7_000),
        ("2026-01-01T12:00:00.5Z", 500_000),
        ("2026-01-01T12:00:00.007Z", 7_000),
        ("2026-01-01T12:00:00Z", 0),
        ("2026-01-01 12:00:00", 0),
    ],
)
def test_every_spelling_is_read(text: str, after_noon: int) -> None:
    """With or without fraction and zone; without a zone it is UTC."""
    assert parse_micros(text) == NOON + after_noon


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1969-12-31T23:59:59.999999Z",
        "2200-01-01T00:00:01.000000Z",
        "9999-12-31T23:59:59.999999Z",
        "10000-01-01T00:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "2026-02-30T00:00:00.000000Z",
        "2026-01-01T25:00:00.000000Z",
        "2026-01-01T12:00:00.12345²Z",
        "2026-01-01T12:00:00.12²Z",
        "2026-01-01T12:00:00." + "0" * 100_000 + "Z",
    ],
)
def test_broken_times_are_refused(text: str) -> None:
    """What is no time, or lies outside 1970 to 2200, is a ValueError and nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        parse_micros(text)


@given(st.integers(0, LATEST))
def test_written_and_read_again(micros: int) -> None:
    """No microsecond is lost on the way out and in."""
    assert parse_micros(iso_micros(micros)) == micros


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2199, 1, 1)),  # noqa: DTZ001 (zone added below)
    st.integers(-14 * 60, 14 * 60),
)
def test_zones_name_the_same_moment(when: datetime, minutes: int) -> None:
    """A time in any zone is the same number."""
    local = when.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))

    assert iso_micros(parse_micros(local.isoformat())) == iso_micros(parse_micros(when.isoformat()))


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    """A sensor can write anything; only one kind of error comes of it."""
    try:
        assert 0 <= parse_micros(text) <= LATEST
    except ValueError:
        return
