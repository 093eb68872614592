"""Comparisons and what null does in them. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "between-operator": [
        ("5 between (1 .. 5)", True),
        ("5 !between (1 .. 5)", False),
        ("datetime(2024-01-02) between (datetime(2024-01-01) .. 1d)", True),
        ("datetime(2024-01-02 00:00:00.1) between (datetime(2024-01-01) .. 1d)", False),
    ],
    "datatypes-string-operators": [
        ('"a" =~ "A"', True),
        ('"a" !~ "A"', False),
        ('"É" =~ "é"', True),
    ],
    "isempty-function": [
        ('isempty("")', True),
        ('isempty(parse_json("{}"))', False),
        ('isempty(parse_json("[]"))', False),
    ],
    "isnotempty-function": [
        ("isnotempty(1)", True),
    ],
    "logical-operators": [
        ("true and false", False),
    ],
    "numerical-operators": [
        ('"b" in ("a","b")', True),
        ('"B" in ("a","b")', False),
        ("3 in (1,2,3)", True),
        ('"a" in (dynamic(["a","b"]))', True),
        ('1 == "1"', True),
        ('"a" == "A"', False),
        ('"a" < "b"', True),
        ("1.5 > 1", True),
    ],
    "scalar-data-types/null-values": [
        ("long(null) == long(null)", None),
        ("long(null) == 1", False),
        ("long(null) != 1", True),
        ("long(null) < 1", None),
        ("isnull(long(null) < 1)", True),
        ('isnull("")', False),
        ("isempty(long(null))", True),
        ("isnull(dynamic(null))", True),
        ("isnotnull(1)", True),
        ("isempty(dynamic(null))", True),
        ("long(null) + 1", None),
        ("int(null) == 0", False),
        ("true or bool(null)", True),
        ("false and bool(null)", False),
        ("isnull(true and bool(null))", True),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "numerical-operators": [
        ('let l = datatable(y:string)["A"]; datatable(x:string)["a","A"] | where x in (l)', [["A"]]),
        ('datatable(p:int)[443,80] | where p == "443"', [[443]]),
        ('datatable(p:int)[443,80] | where p in ("443")', [[443]]),
        ("datatable(p:int)[443,80] | where p in (443.0)", [[443]]),
        ('datatable(t:datetime)[datetime(2024-01-01)] | where t > "2023-12-31" | count', [[1]]),
    ],
    "scalar-data-types/null-values": [
        ("datatable(x:long)[1,long(null)] | where x != 1", [[None]]),
        ("datatable(x:long)[1,long(null)] | where x == 1", [[1]]),
        ("datatable(x:long)[1,long(null)] | where not(x == 1)", [[None]]),
        ("datatable(x:long)[1,long(null),3] | where x < 2", [[1]]),
        ("datatable(x:long)[1,long(null),3] | where not(x < 2)", [[3]]),
        ("datatable(x:long)[1,long(null),3] | where x in (1)", [[1]]),
        ("datatable(x:long)[1,long(null),3] | where x !in (1)", [[None], [3]]),
        ("datatable(x:long)[1,long(null),3] | where x !between (2 .. 4)", [[1]]),
        (
            "datatable(x:long)[1,long(null)] | extend y = x == 1, z = x != 1, w = x > 0 | project y,z,w",
            [[True, False, True], [False, True, None]],
        ),
        ('datatable(x:long)[1,long(null)] | extend y = iff(x > 0, "p", "n") | project y', [["p"], ["n"]]),
        ('datatable(x:long)[1,long(null)] | extend y = iff(x != 1, "p", "n") | project y', [["n"], ["p"]]),
        ("datatable(x:bool)[true,bool(null)] | where x", [[True]]),
        ("datatable(x:bool)[true,false,bool(null)] | where x == false", [[False]]),
        ("datatable(x:bool)[true,false,bool(null)] | where x != true", [[False], [None]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
