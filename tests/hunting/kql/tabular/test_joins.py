"""Joins of all kinds: rows, columns and keys."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.answers import refused, rows
from tests.hunting.kql.tabular.known import Known, fact

TABLES = (
    'let L = datatable(k:long, l:string)[1, "a", 1, "b", 2, "c", long(null), "n"];'
    ' let R = datatable(k:long, r:string)[1, "x", 1, "y", 3, "z", long(null), "m"]; '
)
BOTH = "k, l, k1, r"
PAIRS: list[list[Any]] = [[1, "a", 1, "x"], [1, "a", 1, "y"], [1, "b", 1, "x"], [1, "b", 1, "y"]]
LEFT_ONLY: list[list[Any]] = [[2, "c", None, ""], [None, "n", None, ""]]
RIGHT_ONLY: list[list[Any]] = [[None, "", 3, "z"], [None, "", None, "m"]]
PAGE = "join-operator"

ANSWERS = [
    Known("inner gives all pairs", PAGE, f"{TABLES} L | join kind=inner R on k", BOTH, PAIRS),
    Known("leftouter keeps left rows", PAGE, f"{TABLES} L | join kind=leftouter R on k", BOTH, PAIRS + LEFT_ONLY),
    Known("rightouter keeps right rows", PAGE, f"{TABLES} L | join kind=rightouter R on k", BOTH, PAIRS + RIGHT_ONLY),
    Known("fullouter keeps both", PAGE, f"{TABLES} L | join kind=fullouter R on k", BOTH, PAIRS + LEFT_ONLY + RIGHT_ONLY),
    Known("leftsemi gives left columns", PAGE, f"{TABLES} L | join kind=leftsemi R on k", "k, l", [[1, "a"], [1, "b"]]),
    Known("leftanti gives unmatched left rows", PAGE, f"{TABLES} L | join kind=leftanti R on k", "k, l", [[2, "c"], [None, "n"]]),
    Known("anti is leftanti", PAGE, f"{TABLES} L | join kind=anti R on k", "k, l", [[2, "c"], [None, "n"]]),
    Known("rightsemi gives right columns", PAGE, f"{TABLES} L | join kind=rightsemi R on k", "k, r", [[1, "x"], [1, "y"]]),
    Known("rightanti gives unmatched right rows", PAGE, f"{TABLES} L | join kind=rightanti R on k", "k, r", [[3, "z"], [None, "m"]]),
    Known(
        "both key columns stay, equal names get a number", PAGE,
        'print k=1, s="a" | join kind=inner (print k=1, s="b") on k', "k, s, k1, s1", [[1, "a", 1, "b"]],
    ),
    Known(
        "several keys and keys of other names", PAGE,
        'print a=1, s="x" | join kind=inner (datatable(b:long, s:string)[1, "x", 1, "y"]) on $left.a == $right.b, s',
        "a, s, b, s1", [[1, "x", 1, "x"]],
    ),
    Known(
        "sides may be swapped", PAGE,
        "print a=1 | join kind=inner (print b=1) on $right.b == $left.a", "a, b", [[1, 1]],
    ),
    Known(
        "hints are ignored", PAGE,
        "print a=1 | join hint.strategy=broadcast kind=inner (print a=1) on a", "a, a1", [[1, 1]],
    ),
    Known(
        "a join with itself", PAGE,
        "let T = range k from 1 to 2 step 1; T | join kind=inner T on k", "k, k1", [[1, 1], [2, 2]],
    ),
    Known(
        "lookup keeps left rows and drops the right key", "lookup-operator",
        f"{TABLES} L | lookup R on k", "k, l, r", [[1, "a", "x"], [1, "a", "y"], [1, "b", "x"], [1, "b", "y"], [2, "c", ""], [None, "n", ""]],
    ),
    Known(
        "lookup of kind inner drops unmatched rows", "lookup-operator",
        f"{TABLES} L | lookup kind=inner R on k | summarize count() by k", "k, count_", [[1, 4]],
    ),
    Known(
        "numbers that are missing are null, texts are empty", PAGE,
        "print k=1 | join kind=leftouter (print k=2, n=7, s='x', b=true, d=dynamic(1)) on k | project k1, n, s, b, d",
        "k1, n, s, b, d", [[None, None, "", None, None]],
    ),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_default_join_takes_one_left_row_for_each_key() -> None:
    """`innerunique` takes any one of the left rows with a key, and all right rows with it."""
    found = rows(f"{TABLES} L | join R on k")

    assert [row[3] for row in sorted(found, key=str)] == ["x", "y"]
    assert len({row[1] for row in found}) == 1
    assert found[0][1] in {"a", "b"}


def test_keys_of_other_types_are_refused() -> None:
    message, marked = refused('print k="1" | join (print k=1) on k')

    assert "cannot be compared" in message
    assert marked == "k"
