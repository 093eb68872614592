"""Tables that hunts join: their declaration."""

from __future__ import annotations

import pytest

from hunting.kql.types import Type, of_clickhouse
from schemas.joined_tables import EXTRA, JOINED, TIMES, columns_of, extra_columns


@pytest.mark.parametrize("table", JOINED)
def test_types_are_kqls(table: str) -> None:
    """Each column is read back as the declared type of KQL; a dynamic one is stored as JSON text."""
    stored = columns_of(table)
    for name, kind in JOINED[table].items():
        expected = Type.STRING if kind == "dynamic" else Type(kind)

        assert of_clickhouse(stored[name])[0] is expected, name
    assert set(stored) == {*JOINED[table], *TIMES}


@pytest.mark.parametrize("view", EXTRA)
def test_strings_are_never_null(view: str) -> None:
    """An empty column of a view is null unless it is a string."""
    for name, kind in extra_columns(view).items():
        assert kind.startswith("Nullable") == (EXTRA[view][name] != "string"), name
