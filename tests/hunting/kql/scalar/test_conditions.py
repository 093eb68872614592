"""Values chosen by a condition. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "case-function": [
        ('case(1 > 2, "a", 2 > 1, "b", "c")', "b"),
        ("case(bool(null), 1, 2)", 2),
    ],
    "coalesce-function": [
        ("coalesce(long(null), 5)", 5),
        ('coalesce("", "x")', "x"),
        ('coalesce(tolong("no"), tolong("7"), 8)', 7),
        ('coalesce("a", "x")', "a"),
    ],
    "column-ifexists-function": [
        ('column_ifexists("nope", "d")', "d"),
    ],
    "iff-function": [
        ('iff(1 > 0, "a", "b")', "a"),
        ("iff(false, 1, 2.5)", 2.5),
        ("iff(bool(null), 1, 2)", 2),
        ("iff(true, dynamic([1]), dynamic(null))", [1]),
        ('iff(true, "a", dynamic([1]))', "a"),
    ],
    "not-function": [
        ("not(true)", False),
        ("isnull(not(bool(null)))", True),
    ],
    "toscalar-function": [
        ("toscalar(print 5)", 5),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "column-ifexists-function": [
        ('print a=1 | project column_ifexists("a", 0)', [[1]]),
        ('print a=1 | extend b = column_ifexists("zz", "no")', [[1, "no"]]),
    ],
    "toscalar-function": [
        ("let x = toscalar(datatable(a:long)[3,4] | summarize max(a)); print x + 1", [[5]]),
        ("print x = toscalar(datatable(a:long)[] | summarize max(a))", [[None]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
