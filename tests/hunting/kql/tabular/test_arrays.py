"""`mv-expand` and `mv-apply`: elements as rows, and operators on the elements of each row."""

from __future__ import annotations

import pytest

from tests.hunting.kql.answers import rows
from tests.hunting.kql.tabular.known import Known, fact

EXPAND, APPLY = "mv-expand-operator", "mv-apply-operator"
BAGS = 'datatable(a:int, b:dynamic)[1, dynamic({"p":"a1", "q":"b1"})]'
ARRAYS = "datatable(i:int, A:dynamic)[0, dynamic([5, 1, 3]), 1, dynamic([4, 10, 8, 7])]"

ANSWERS = [
    Known("one row for each element", EXPAND, 'datatable(a:int, b:dynamic)[1, dynamic([10, 20]), 2, dynamic(["a"])] | mv-expand b', "a, b", [[1, 10], [1, 20], [2, "a"]]),
    Known("null gives one row, an empty array none", EXPAND, "datatable(a:int, b:dynamic)[1, dynamic(null), 2, dynamic([]), 3, dynamic({})] | mv-expand b", "a, b", [[1, None]]),
    Known("a bag gives bags", EXPAND, f"{BAGS} | mv-expand b", "a, b", [[1, {"p": "a1"}], [1, {"q": "b1"}]]),
    Known("kind=array gives pairs", EXPAND, f"{BAGS} | mv-expand kind=array b | extend key = b[0], val = b[1]", "a, b, key, val", [[1, ["p", "a1"], "p", "a1"], [1, ["q", "b1"], "q", "b1"]]),
    Known("bagexpansion=array gives pairs", EXPAND, f"{BAGS} | mv-expand bagexpansion=array b | project b[0]", "b_0", [["p"], ["q"]]),
    Known("arrays are zipped, the shorter one filled with null", EXPAND, 'datatable(b:dynamic, c:dynamic)[dynamic({"p":"a", "q":"b"}), dynamic([5, 4, 3])] | mv-expand b, c', "b, c", [[{"p": "a"}, 5], [{"q": "b"}, 4], [None, 3]]),
    Known("typeof casts and does not parse", EXPAND, 'print b = dynamic(["1", 2, true, null]) | mv-expand b to typeof(long)', "b", [[None], [2], [None], [None]]),
    Known("typeof(string)", EXPAND, 'print b = dynamic(["x", "y"]) | mv-expand b to typeof(string) | where b == "y"', "b", [["y"]]),
    Known("places count from 0", EXPAND, 'print b = dynamic(["x", "y"]) | mv-expand with_itemindex=i b', "b, i", [["x", 0], ["y", 1]]),
    Known("limit is for each row", EXPAND, "datatable(a:int, b:dynamic)[1, dynamic([1, 2, 3]), 2, dynamic([4])] | mv-expand b limit 2", "a, b", [[1, 1], [1, 2], [2, 4]]),
    Known("mvexpand stops at 128 rows", EXPAND, "print b = range(1, 200) | mvexpand b | count", "Count", [[128]]),
    Known("mv-expand has no limit", EXPAND, "print b = range(1, 200) | mv-expand b | count", "Count", [[200]]),
    Known("a new name keeps the array", EXPAND, "print b = dynamic([1, 2]) | mv-expand e = b", "b, e", [[[1, 2], 1], [[1, 2], 2]]),
    Known("an expression can be expanded", EXPAND, 'print s = "a,b" | mv-expand e = split(s, ",") to typeof(string)', "s, e", [["a,b", "a"], ["a,b", "b"]]),
    # mv-apply
    Known("the largest element of each row", APPLY, f"{ARRAYS} | mv-apply e = A to typeof(long) on (top 1 by e)", "i, A, e", [[0, [5, 1, 3], 5], [1, [4, 10, 8, 7], 10]]),
    Known("the two largest as a list", APPLY, f"{ARRAYS} | mv-apply e = A to typeof(long) on (top 2 by e | summarize T = make_list(e))", "i, A, T", [[0, [5, 1, 3], [5, 3]], [1, [4, 10, 8, 7], [10, 8]]]),
    Known("with_itemindex", APPLY, f"{ARRAYS} | mv-apply with_itemindex=n e = A to typeof(long) on (where n >= 2) | project i, n, e", "i, n, e", [[0, 2, 3], [1, 2, 8], [1, 3, 7]]),
    Known("several arrays side by side", APPLY, 'datatable(v:int, X:dynamic, Y:dynamic)[1, dynamic(["A1", "A2"]), dynamic(["B1", "B2", "B3"]), 5, dynamic(["C1", "C2"]), dynamic(["D1"])] | mv-apply a = X, b = Y on (extend Out = strcat(a, "_", b) | summarize Out = make_list(Out)) | project v, Out', "v, Out", [[1, ["A1_B1", "A2_B2", "_B3"]], [5, ["C1_D1", "C2_"]]]),
    Known("the row's columns can be used", APPLY, f"{ARRAYS} | mv-apply A to typeof(long) on (extend B = A + i | where B > 5) | project i, A, B", "i, A, B", [[1, 10, 11], [1, 8, 9], [1, 7, 8]]),
    Known("groups are those of one row", APPLY, f"{ARRAYS} | mv-apply A to typeof(long) on (summarize m = max(A) by o = A % 2)", "i, o, m", [[0, 1, 5], [1, 0, 10], [1, 1, 7]]),
    Known("count counts the elements of each row", APPLY, f"{ARRAYS} | mv-apply A on (count)", "i, Count", [[0, 3], [1, 4]]),
    Known("an empty array gives no row, null gives one", APPLY, "datatable(i:int, A:dynamic)[0, dynamic([]), 1, dynamic(null)] | mv-apply A to typeof(long) on (summarize c = count())", "i, c", [[1, 1]]),
    Known("a bag by mv-expand inside", APPLY, 'datatable(s:string, n:long)["555-1", 46] | extend Pack = pack_all() | mv-apply Gone = Pack on (mv-expand kind=array Pack | where Pack[1] !startswith "555" | summarize Gone = make_set(Pack[0])) | project s, Gone', "s, Gone", [["555-1", ["n"]]]),
    Known("mv-apply inside mv-apply", APPLY, "print a = dynamic([[1, 2], [3, 4]]) | mv-apply e = a on (mv-apply f = e to typeof(long) on (top 1 by f) | summarize m = sum(f)) | project m", "m", [[6]]),
    Known("equal rows stay apart", APPLY, "datatable(A:dynamic)[dynamic([1, 2]), dynamic([1, 2])] | mv-apply A to typeof(long) on (summarize s = sum(A))", "s", [[3], [3]]),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_order_survives_mv_expand() -> None:
    """The rows of a sorted table keep their order; so do the elements of each."""
    found = rows("datatable(a:long)[2, 1] | sort by a asc | mv-expand e = range(1, 2) | project a, e")

    assert found == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_mv_apply_works_on_many_rows() -> None:
    """Each row has its own elements, whatever the threads and blocks of the engine."""
    found = rows(
        "range i from 1 to 20000 step 1 | mv-apply e = pack_array(i, i + 1) to typeof(long) on (top 1 by e)"
        " | summarize countif(e == i + 1), count()"
    )

    assert found == [[20000, 20000]]
