"""Operators that keep, sort and count rows, and that choose columns."""

from __future__ import annotations

import pytest

from tests.hunting.kql.answers import refused, rows
from tests.hunting.kql.tabular.known import Known, fact

X = "datatable(x:long)[1, long(null), 3]"
XY = 'datatable(x:long, y:string)[1, "a", 3, "c", 2, "b"]'
NULLS = "scalar-data-types/null-values"

ANSWERS = [
    # where
    Known("unequal is true for null", NULLS, f"{X} | where x != 1", "x", [[None], [3]]),
    Known("greater is not true for null", NULLS, f"{X} | where x > 1", "x", [[3]]),
    Known("not of an unknown comparison is unknown", NULLS, f"{X} | where not(x > 1)", "x", [[1]]),
    Known("equal is false for null, so not() keeps it", NULLS, f"{X} | where not(x == 1)", "x", [[None], [3]]),
    Known("!in keeps null", "not-in-cs-operator", f"{X} | where x !in (1)", "x", [[None], [3]]),
    Known("or with isnull", NULLS, f"{X} | where x == 1 or isnull(x)", "x", [[1], [None]]),
    Known(
        "a null condition drops the row", "where-operator",
        "datatable(b:bool)[true, false, bool(null)] | where b", "b", [[True]],
    ),
    # extend, project
    Known(
        "extend replaces in place and reads the old values", "extend-operator",
        "print a=1, b=2 | extend a = a + 10, c = a", "a, b, c", [[11, 2, 1]],
    ),
    Known(
        "expressions without a name are Column1, Column2", "extend-operator",
        "print a=1 | extend a + 1, strcat('x', 'y')", "a, Column1, Column2", [[1, 2, "xy"]],
    ),
    Known(
        "a conversion keeps the column's name and replaces it", "extend-operator",
        "print a=1 | extend tostring(a)", "a", [["1"]],
    ),
    Known(
        "a path is named with underscores", "extend-operator",
        'print a=dynamic({"x":{"y":1}}) | extend tostring(a.x.y)', "a, a_x_y", [[{"x": {"y": 1}}, "1"]],
    ),
    Known(
        "project chooses, computes and sorts columns", "project-operator",
        "print a=1, b=2 | project b, a, sum=a+b, a*b", "b, a, sum, Column1", [[2, 1, 3, 2]],
    ),
    Known(
        "a second column of one derived name gets a number", "project-operator",
        "print a=1 | project tostring(a), a", "a, a1", [["1", 1]],
    ),
    Known(
        "project-away takes patterns", "project-away-operator",
        "print a_x=1, b_x=2, a_y=3 | project-away a*", "b_x", [[2]],
    ),
    Known(
        "only the asterisk of a pattern is special", "project-away-operator",
        "print ['a?b']=1, axb=2, ['[c]']=3, c=4 | project-away ['a?b'], ['[c]']", "axb, c", [[2, 4]],
    ),
    Known(
        "project-keep keeps the order of the table", "project-keep-operator",
        "print a_x=1, b_x=2, a_y=3 | project-keep a_y, *_x", "a_x, b_x, a_y", [[1, 2, 3]],
    ),
    Known(
        "project-reorder sorts the names of a pattern", "project-reorder-operator",
        "print b=1, a2=2, a10=3, c=4 | project-reorder a* desc, c", "a2, a10, c, b", [[2, 3, 4, 1]],
    ),
    Known(
        "granny-asc sorts numbers in names as numbers", "project-reorder-operator",
        "print a10=1, a2=2, a1=3 | project-reorder * granny-asc", "a1, a2, a10", [[3, 2, 1]],
    ),
    Known(
        "project-rename keeps the place", "project-rename-operator",
        "print a=1, b=2 | project-rename z = a", "z, b", [[1, 2]],
    ),
    Known(
        "distinct * compares all columns", "distinct-operator",
        'datatable(a:int, b:string)[1, "x", 1, "x", 2, "x"] | distinct *', "a, b", [[1, "x"], [2, "x"]],
    ),
    # sort, take, top
    Known("sort is descending, nulls last", "sort-operator", f"{X} | sort by x", "x", [[3], [1], [None]], ordered=True),
    Known("nulls are first in ascending order", "sort-operator", f"{X} | sort by x asc", "x", [[None], [1], [3]], ordered=True),
    Known(
        "nulls first can be asked for", "sort-operator",
        f"{X} | order by x desc nulls first", "x", [[None], [3], [1]], ordered=True,
    ),
    Known(
        "the order survives an overwritten key", "sort-operator",
        f"{XY} | sort by x asc | extend x = -x | where y != 'a'", "x, y", [[-2, "b"], [-3, "c"]], ordered=True,
    ),
    Known(
        "the order survives a dropped key", "sort-operator",
        f"{XY} | sort by x asc | project-away x", "y", [["a"], ["b"], ["c"]], ordered=True,
    ),
    Known(
        "take after sort takes the first rows", "take-operator",
        f"{XY} | sort by x asc | project x = y | take 2", "x", [["a"], ["b"]], ordered=True,
    ),
    Known(
        "rows can be sorted by an expression", "sort-operator",
        f"{XY} | sort by strlen(y) asc, -x asc", "x, y", [[3, "c"], [2, "b"], [1, "a"]], ordered=True,
    ),
    Known("top is descending, nulls last", "top-operator", f"{X} | top 2 by x", "x", [[3], [1]], ordered=True),
    Known("top ascending has nulls first", "top-operator", f"{X} | top 2 by x asc", "x", [[None], [1]], ordered=True),
    Known("count counts rows", "count-operator", f"{X} | count", "Count", [[3]]),
    Known("count of no rows is 0", "count-operator", "datatable(x:long)[] | count", "Count", [[0]]),
    Known("sample-distinct gives values once", "sample-distinct-operator", "datatable(x:long)[7, 7, 7] | sample-distinct 2 of x", "x", [[7]]),
    # order of rows
    Known(
        "row_number, prev, next and row_cumsum follow the order", "window-functions",
        f"{XY} | sort by x asc | extend p = prev(y), n = next(y, 1, 'none'), i = row_number(), c = row_cumsum(x)", "x, y, p, n, i, c",
        [[1, "a", "", "b", 1, 1], [2, "b", "a", "c", 2, 3], [3, "c", "b", "none", 3, 6]], ordered=True,
    ),
    Known(
        "where may look at the row before", "prev-function",
        f"{XY} | sort by x asc | where prev(x) == 1", "x, y", [[2, "b"]],
    ),
    Known("as names the rows", "as-operator", "range x from 1 to 3 step 1 | as T | where x == toscalar(T | summarize max(x))", "x", [[3]]),
    Known(
        "getschema shows names and types", "getschema-operator",
        "print a=1, s='x' | getschema", "ColumnName, ColumnOrdinal, DataType, ColumnType",
        [["a", 0, "System.Int64", "long"], ["s", 1, "System.String", "string"]], ordered=True,
    ),
    # partition
    Known(
        "partition takes the top of each value", "partition-operator",
        'datatable(k:string, v:long)["a", 1, "a", 2, "b", 5] | partition by k (top 1 by v)', "k, v", [["a", 2], ["b", 5]],
    ),
    Known(
        "partition summarizes each value", "partition-operator",
        'datatable(k:string, v:long)["a", 1, "a", 2, "b", 5] | partition hint.strategy=native by k (summarize s=sum(v), c=count())',
        "s, c", [[3, 2], [5, 1]],
    ),
    Known(
        "rows are numbered in each partition", "partition-operator",
        'datatable(k:string, v:long)["a", 3, "a", 2, "b", 5] | partition by k (sort by v asc | extend n = row_number())',
        "k, v, n", [["a", 2, 1], ["a", 3, 2], ["b", 5, 1]],
    ),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_take_takes_any_rows() -> None:
    assert len(rows("range x from 1 to 10 step 1 | take 3")) == 3
    assert len(rows("range x from 1 to 10 step 1 | limit 0")) == 0
    assert len(rows("range x from 1 to 10 step 1 | sample 4")) == 4


def test_same_name_twice_is_refused() -> None:
    for query in ("print a=1 | project a, a", "print a=1 | extend x=1, x=2", "print a=1, b=2 | project-rename b = a"):
        assert "there twice" in refused(query)[0]


def test_join_inside_a_partition_is_refused() -> None:
    """The rows of other tables have no partition."""
    message, marked = refused("print k=1, v=2 | partition by k (join (print k=1) on k)")

    assert "inside" in message
    assert marked == "join (print k=1) on k"


def test_unknown_column_has_its_place_and_a_hint() -> None:
    message, marked = refused("print RemoteIP='x' | where RemoteIp == 'x'")

    assert "did you mean `RemoteIP`?" in message
    assert marked == "RemoteIp"
