"""Known answers: a query with its own rows, and the answer that Microsoft's documentation gives or implies.

`page` is the page below learn.microsoft.com/kusto/query/ from which the answer was derived by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hunting.kql.translation import translate
from tests.hunting.kql.answers import NOW, rows


@dataclass(frozen=True, slots=True)
class Known:
    """One answer. `columns` are names in one text; `ordered` is whether the order of the rows is part of the answer."""

    fact: str
    page: str
    query: str
    columns: str
    rows: list[list[Any]]
    ordered: bool = False

    def check(self) -> None:
        """Compare columns and rows with those of the translated query. Raises AssertionError."""
        found = rows(self.query)
        names = ", ".join(column.name for column in translate(self.query, {}, now=NOW).columns)

        assert names == self.columns
        assert (found if self.ordered else _sorted(found)) == (self.rows if self.ordered else _sorted(self.rows))


def fact(known: Known) -> str:
    """Return the name of a test."""
    return known.fact.replace(" ", "-")


def _sorted(found: list[list[Any]]) -> list[list[Any]]:
    return sorted(found, key=json.dumps)
