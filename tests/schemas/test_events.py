"""Device names: what can be one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import DEVICE_CHARS_MAX, device_name_problem


@pytest.mark.parametrize(
    "name",
    [
        "host-1.corp.example",
        "192.0.2.7",
        "2001:db8::1",
        "Anna's MacBook Pro",
        "Bücherei",
        "東京-01",
        "x" * DEVICE_CHARS_MAX,
    ],
)
def test_printable_names_are_accepted(name: str) -> None:
    """Host names, addresses and names that people give, in any script."""
    assert device_name_problem(name) == ""


@pytest.mark.parametrize(
    "char",
    [
        *("\x00", "\t", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9b", "\x9f"),
        *("\u2028", "\u2029", "\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"),
        *("\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\ud800", "\udfff"),
    ],
)
def test_invisible_characters_are_refused(char: str) -> None:
    """Control characters, line separators, bidirectional controls, zero-width characters; the detail has the place."""
    problem = device_name_problem(f"host{char}1")

    assert f"U+{ord(char):04X} as character 5" in problem
    assert problem.isprintable()


@given(st.characters(categories=("Cc", "Cs", "Zl", "Zp", "Cf")), st.text(max_size=8), st.text(max_size=8))
def test_no_control_character_gets_by(char: str, before: str, after: str) -> None:
    """Wherever it stands in the name."""
    assert device_name_problem(before + char + after)


def test_long_names_are_refused() -> None:
    """A name longer than the bound is refused with both lengths."""
    problem = device_name_problem("x" * (DEVICE_CHARS_MAX + 1))

    assert (
        problem == f"the device's name has {DEVICE_CHARS_MAX + 1} characters; at most {DEVICE_CHARS_MAX} are accepted"
    )
