"""Unions: columns by name and type."""

from __future__ import annotations

import pytest

from tests.hunting.kql.tabular.known import Known, fact

TABLES = (
    'let A = datatable(x:long, y:string)[1, "a"]; let B = datatable(x:long, z:bool)[2, true];'
    ' let C = datatable(x:string)["q"]; '
)
PAGE = "union-operator"

ANSWERS = [
    Known("missing columns are null or empty", PAGE, f"{TABLES} union A, B", "x, y, z", [[1, "a", None], [2, "", True]]),
    Known("kind=inner keeps common columns", PAGE, f"{TABLES} union kind=inner A, B", "x", [[1], [2]]),
    Known("kind=outer is the default", PAGE, f"{TABLES} union kind=outer A, B | count", "Count", [[2]]),
    Known(
        "columns of one name and two types get the type as suffix", PAGE,
        f"{TABLES} union A, C", "x_long, x_string, y", [[1, "", "a"], [None, "q", ""]],
    ),
    Known(
        "withsource names the table", PAGE,
        f"{TABLES} union withsource=T A, (B | where x > 0)", "T, x, y, z", [["A", 1, "a", None], ["union_arg1", 2, "", True]],
    ),
    Known("union behind a pipe has the input first", PAGE, f"{TABLES} A | union (A | extend x = 5)", "x, y", [[1, "a"], [5, "a"]]),
    Known("duplicates stay", PAGE, f"{TABLES} union A, A", "x, y", [[1, "a"], [1, "a"]]),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()
