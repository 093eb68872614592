"""The generated pages match the code."""

from __future__ import annotations

from tools.reference import pages, stale


def test_pages_are_fresh() -> None:
    """Every generated page is as the generator writes it today: run `make reference` when this fails."""
    assert stale() == []


def test_no_page_is_empty() -> None:
    """Each page has content besides its title."""
    assert [path for path, content in pages().items() if content.count("\n") < 5] == []
