"""Every bound of the correlator that can change a row is in the table of docs/design.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = ("CANDIDATES_MAX", "SET_MAX", "LOGGED_LATE_MAX", "DEPARTED_MAX", "DEPARTED_TOTAL_MAX")
"""Bounds that the table names by their constant."""


def test_bounds_that_change_rows_are_documented() -> None:
    """Each has a row, and each constant that a row names exists."""
    design = (ROOT / "docs" / "design.md").read_text()
    table = design.partition("## Bounds")[2].partition("\n## ")[0]
    code = "\n".join(path.read_text() for path in (ROOT / "streams").glob("*.py"))

    assert [name for name in NAMED if f"`{name}`" not in table] == []
    assert [name for name in re.findall(r"`([A-Z_]+_MAX)`", table) if not re.search(rf"^{name}\b", code, re.M)] == []
