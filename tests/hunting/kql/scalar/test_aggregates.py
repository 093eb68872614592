"""Aggregates of summarize: nulls, no rows, names. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

COLUMNS = "k:string, n:long, r:real, s:string, t:datetime, p:timespan, d:dynamic, b:bool"
NULLS = 'long(null), real(null), "", datetime(null), timespan(null), dynamic(null), bool(null)'
ROWS = (
    f'let T = datatable({COLUMNS})["a", 1, 1.5, "x", datetime(2024-01-01), 1h, dynamic({{"u":1}}), true, "a", {NULLS},'
    f' "b", 4, 2.5, "y", datetime(2024-01-03), 2h, dynamic({{"v":2}}), false, "c", {NULLS}]; T | '
)
NO_ROWS = f"let T = datatable({COLUMNS})[]; T | "

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "arg-max-aggregation-function": [
        (ROWS + "summarize arg_max(n, s)", [[4, "y"]]),
        (ROWS + "summarize arg_max(t, k)", [["2024-01-03T00:00:00.000000Z", "b"]]),
        (ROWS + 'where k=="c" | summarize arg_max(n, s)', [[None, ""]]),
        (ROWS + 'where k=="c" | summarize arg_max(n, k) by s', [["", None, "c"]]),
        (
            ROWS + "summarize arg_max(n, *) by k | project k, n, s | order by k asc",
            [["a", 1, "x"], ["b", 4, "y"], ["c", None, ""]],
        ),
    ],
    "arg-min-aggregation-function": [
        (ROWS + "summarize arg_min(n, s)", [[1, "x"]]),
    ],
    "avg-aggregation-function": [
        (ROWS + "summarize avg(t)", [["2024-01-02T00:00:00.000000Z"]]),
    ],
    "binary-all-and-aggregation-function": [
        ("datatable(x:long)[12,10] | summarize binary_all_and(x), binary_all_or(x), binary_all_xor(x)", [[8, 14, 6]]),
    ],
    "count-aggregation-function": [
        (ROWS + "summarize count()", [[4]]),
        (ROWS + "summarize count() by b | order by count_ desc, b asc", [[None, 2], [False, 1], [True, 1]]),
        (ROWS + "summarize count() by bin(t, 1d) | count", [[3]]),
        ("datatable(x:datetime)[datetime(2024-01-01)] | summarize count() by x", [["2024-01-01T00:00:00.000000Z", 1]]),
    ],
    "count-distinct-aggregation-function": [
        (ROWS + "summarize count_distinct(n), count_distinct(s)", [[2, 3]]),
    ],
    "countif-aggregation-function": [
        (ROWS + "summarize countif(n > 1), countif(n != 1), countif(isnull(n))", [[1, 3, 2]]),
        (ROWS + "summarize countif(b), countif(not(b))", [[1, 1]]),
    ],
    "dcount-aggregation-function": [
        (ROWS + "summarize dcount(n), dcount(s), dcount(r), dcount(b)", [[2, 3, 2, 2]]),
        ('datatable(x:string)["a","A","a"] | summarize dcount(x)', [[2]]),
    ],
    "dcountif-aggregation-function": [
        (ROWS + 'summarize dcountif(s, k == "a")', [[2]]),
    ],
    "make-bag-aggregation-function": [
        (ROWS + "summarize make_bag(d)", [[{"u": 1, "v": 2}]]),
        ('datatable(x:string, y:string)["k","v","k","w"] | summarize make_bag(pack(x,y))', [[{"k": "v"}]]),
        (
            'datatable(x:string, y:string)["k","v","j","w"] | summarize make_bag(bag_pack(x,y))',
            [[{"k": "v", "j": "w"}]],
        ),
    ],
    "make-list-aggregation-function": [
        (ROWS + "summarize make_list(s)", [[["x", "", "y", ""]]]),
        (ROWS + "summarize make_list(n)", [[[1, 4]]]),
        ("datatable(x:dynamic)[dynamic([1,2]),dynamic([2,3])] | summarize make_list(x)", [[[[1, 2], [2, 3]]]]),
        ("range x from 1 to 5 step 1 | sort by x desc | summarize make_list(x)", [[[5, 4, 3, 2, 1]]]),
        ("datatable(x:real)[1.5,2.5] | summarize make_list(x), make_set(x)", [[[1.5, 2.5], [1.5, 2.5]]]),
    ],
    "make-list-with-nulls-aggregation-function": [
        (ROWS + "summarize make_list_with_nulls(n)", [[[1, None, 4, None]]]),
    ],
    "make-set-aggregation-function": [
        (ROWS + "summarize make_set(s)", [[["", "x", "y"]]]),
        (ROWS + "summarize make_set(n)", [[[1, 4]]]),
        (ROWS + "summarize make_set(d)", [[[{"u": 1}, {"v": 2}]]]),
        (ROWS + "summarize make_set(t)", [[["2024-01-01T00:00:00.0000000Z", "2024-01-03T00:00:00.0000000Z"]]]),
        (ROWS + "summarize make_set(b)", [[[False, True]]]),
        ("datatable(x:dynamic)[dynamic([1,2]),dynamic([2,3])] | summarize make_set(x)", [[[1, 2, 3]]]),
        ('datatable(x:string)["a","b","a"] | summarize make_set(x), dcount(x)', [[["a", "b"], 2]]),
    ],
    "make-set-if-aggregation-function": [
        (ROWS + "summarize make_set_if(s, n > 1), make_list_if(s, n > 0)", [[["y"], ["x", "y"]]]),
    ],
    "max-aggregation-function": [
        (ROWS + "summarize max(s), min(s)", [["y", ""]]),
        (ROWS + "summarize max(p), min(p), sum(p), avg(p)", [["02:00:00", "01:00:00", "03:00:00", "01:30:00"]]),
    ],
    "min-aggregation-function": [
        (ROWS + "summarize min(b), max(b)", [[False, True]]),
    ],
    "percentiles-aggregation-function": [
        (ROWS + "summarize percentile(n, 50)", [[1]]),
        (
            "range x from 1 to 100 step 1 | summarize percentile(x, 50), percentile(x, 95), percentile(x, 100), percentile(x, 0)",
            [[50, 95, 100, 1]],
        ),
        ("range x from 1 to 10 step 1 | summarize percentiles(x, 5, 50, 95)", [[1, 5, 10]]),
        ("range x from 1 to 10 step 1 | summarize percentiles_array(x, 5, 50, 95)", [[[1, 5, 10]]]),
        ("range x from 1 to 10 step 1 | summarize percentiles_array(x, dynamic([5, 50, 95]))", [[[1, 5, 10]]]),
        ("datatable(x:long, w:long)[1,1,2,9] | summarize percentilew(x, w, 50)", [[2]]),
    ],
    "stdev-aggregation-function": [
        (
            "range x from 1 to 5 step 1 | summarize stdev(x), variance(x), stdevp(x)",
            [[1.5811388300841898, 2.5, 1.4142135623730951]],
        ),
        ("datatable(x:long)[5] | summarize stdev(x), variance(x), stdevp(x)", [[0.0, 0.0, 0.0]]),
    ],
    "sum-aggregation-function": [
        (ROWS + "summarize sum(n), avg(n), min(n), max(n)", [[5, 2.5, 1, 4]]),
        (ROWS + "summarize sum(r), avg(r), min(r), max(r)", [[4.0, 2.0, 1.5, 2.5]]),
        (ROWS + 'where k == "c" | summarize sum(n), avg(n), min(n), max(n)', [[0, None, None, None]]),
        (ROWS + 'where k == "c" | summarize sum(n), avg(n), min(n), max(n) by k', [["c", 0, None, None, None]]),
        (ROWS + "summarize sum(n) + 1, count() * 2", [[6, 8]]),
        ("datatable(x:int)[2147483647,2147483647] | summarize sum(x)", [[4294967294]]),
        ("datatable(x:dynamic)[dynamic(1),dynamic(2)] | summarize sum(tolong(x)), max(tolong(x))", [[3, 2]]),
    ],
    "sumif-aggregation-function": [
        (
            ROWS + 'summarize sumif(n, k == "b"), avgif(r, k == "a"), maxif(t, k=="b")',
            [[4, 1.5, "2024-01-03T00:00:00.000000Z"]],
        ),
    ],
    "summarize-operator": [
        (
            NO_ROWS + "summarize count(), sum(n), avg(n), min(n), max(n), dcount(n), countif(n>1)",
            [[0, 0, None, None, None, 0, 0]],
        ),
        (NO_ROWS + "summarize min(s), max(s), make_set(s), make_list(n), make_bag(d)", [["", "", [], [], []]]),
        (
            NO_ROWS + "summarize percentile(n,50), stdev(n), variance(n), take_any(n), take_any(s), arg_max(n, s)",
            [[None, 0.0, 0.0, None, "", None, ""]],
        ),
        (NO_ROWS + "summarize min(t), max(t), avg(t), sum(p), avg(p)", [[None, None, None, "00:00:00", None]]),
        (NO_ROWS + "summarize count() by k", []),
        (NO_ROWS + "summarize sum(n) by k", []),
        ("range x from 1 to 5 step 1 | summarize array_length(make_set(x, 2))", [[2]]),
        ("range x from 1 to 5 step 1 | summarize array_length(make_list(x, 3))", [[3]]),
        (ROWS + 'summarize x = iff(count() > 3, "many", "few")', [["many"]]),
        (ROWS + "summarize by b | count", [[3]]),
        ('datatable(x:string)["a","b"] | summarize strcat_array(make_set(x), ",")', [["a,b"]]),
        ("datatable(x:long)[1,5] | summarize max_of(max(x), 3)", [[5]]),
    ],
    "take-any-aggregation-function": [
        (ROWS + 'summarize take_any(n) by k | where k == "b"', [["b", 4]]),
        (ROWS + 'where k=="a" | summarize take_any(n)', [[1]]),
        (ROWS + "summarize take_any(s)", [["x"]]),
    ],
}


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
