"""Known answers of scalar expressions and aggregates: tables of queries and answers by page of the documentation.

A page is one below learn.microsoft.com/kusto/query/. Its answers were derived by hand.
Where a page leaves a case open, the answer is what the docstring of the module states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.hunting.kql.answers import rows

REAL_DIFFERENCE_MAX = 1e-9
"""Real numbers this near to each other are equal."""


def listed(answers: Mapping[str, Sequence[tuple[str, Any]]]) -> list[Any]:
    """Return the parameters of a test, one for each answer; its name begins with the page."""
    return [
        pytest.param(query, answer, id=f"{page}-{number}")
        for page, known in answers.items()
        for number, (query, answer) in enumerate(known, 1)
    ]


def check(query: str, answer: list[list[Any]]) -> None:
    """Compare the rows of a query, types included: true is not 1. Raises AssertionError."""
    found = rows(query)

    assert _is_equal(found, answer), (found, answer)


def _is_equal(found: Any, answer: Any) -> bool:
    if isinstance(answer, list):
        same = isinstance(found, list) and len(found) == len(answer)
        return same and all(_is_equal(*pair) for pair in zip(found, answer, strict=True))
    if isinstance(answer, float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return is_number and abs(found - answer) <= REAL_DIFFERENCE_MAX
    return type(found) is type(answer) and bool(found == answer)
