"""`summarize` and `top-nested`: groups, names of columns, and what no rows give."""

from __future__ import annotations

import pytest

from tests.hunting.kql.answers import refused
from tests.hunting.kql.tabular.known import Known, fact

ROWS = 'datatable(x:long, s:string, k:string)[1, "a", "p", 3, "b", "p", 2, "c", "q"]'
NONE = "datatable(x:long, s:string)[]"
PAGE = "summarize-operator"
KV = 'datatable(k:string, v:long)["a", 1, "a", 2, "b", 5, "c", 1]'

ANSWERS = [
    Known("no rows without by give one row of defaults", PAGE, f"{NONE} | summarize count(), sum(x), dcount(x), make_list(x), make_set(s), max(x), take_any(s)", "count_, sum_x, dcount_x, list_x, set_s, max_x, s", [[0, 0, 0, [], [], None, ""]]),
    Known("no rows with by give no row", PAGE, f"{NONE} | summarize count() by s", "s, count_", []),
    Known("arg_max of no rows is null", "arg-max-aggregation-function", f"{NONE} | summarize arg_max(x, *)", "x, s", [[None, ""]]),
    Known("arg_max of no rows is null for columns that are never null", "arg-max-aggregation-function", "range x from 1 to 0 step 1 | extend y = 5 | summarize arg_max(x, y)", "x, y", [[None, None]]),
    Known("columns are named after the function", PAGE, f"{ROWS} | summarize count(), sum(x), avg(x), dcount(s) by k | where k == 'p'", "k, count_, sum_x, avg_x, dcount_s", [["p", 2, 4, 2, 2]]),
    Known("a percentile is in the name", "percentiles-aggregation-function", "datatable(x:long)[1, 2] | summarize percentile(x, 50), percentile(x, 99.9), percentilew(x, x, 5)", "percentile_x_50, percentile_x_99_9, percentile_x_5", [[1, 2, 1]]),
    Known("strlen is in the name", PAGE, f"{ROWS} | summarize max(strlen(s)) by strlen(k)", "strlen_k, max_strlen_s", [[1, 1]]),
    Known("equal names get a number", PAGE, f"{ROWS} | summarize count(), count(), max(x), max(x)", "count_, count_1, max_x, max_x1", [[3, 3, 3, 3]]),
    Known("aggregates in an expression", PAGE, f"{ROWS} | summarize c = count() + 1, max(x) - min(x)", "c, Column1", [[4, 2]]),
    Known("bin keeps the column's name", PAGE, "datatable(x:long)[1, 12, 15, 27] | summarize count() by bin(x, 10)", "x, count_", [[0, 1], [10, 2], [20, 1]]),
    Known("bin of times", "bin-function", "datatable(t:datetime)[datetime(2024-01-01 10:20:30), datetime(2024-01-01 10:59)] | summarize count() by bin(t, 1h) | project h = hourofday(t), count_", "h, count_", [[10, 2]]),
    Known("several keys", PAGE, 'datatable(a:long, b:string)[1, "x", 1, "y", 1, "x"] | summarize count() by a, b', "a, b, count_", [[1, "x", 2], [1, "y", 1]]),
    Known("null is a key", PAGE, "datatable(a:long)[1, long(null), long(null)] | summarize count() by a", "a, count_", [[1, 1], [None, 2]]),
    Known("by alone gives distinct keys", PAGE, f"{ROWS} | summarize by k", "k", [["p"], ["q"]]),
    Known("a key may have a name", PAGE, f"{ROWS} | summarize n = count() by big = x > 1", "big, n", [[True, 2], [False, 1]]),
    Known("arg_max with a column", "arg-max-aggregation-function", f"{ROWS} | summarize arg_max(x, s) by k", "k, x, s", [["p", 3, "b"], ["q", 2, "c"]]),
    Known("arg_max with all columns", "arg-max-aggregation-function", f"{ROWS} | summarize arg_max(x, *) by k", "k, x, s", [["p", 3, "b"], ["q", 2, "c"]]),
    Known("arg_min with names", "arg-min-aggregation-function", f"{ROWS} | summarize (m, t) = arg_min(x, s), count() by k", "k, m, t, count_", [["p", 1, "a", 2], ["q", 2, "c", 1]]),
    Known("arg_max and arg_min do not share names", "arg-max-aggregation-function", f"{ROWS} | summarize arg_max(x, s), arg_min(x, s)", "x, s, x1, s1", [[3, "b", 1, "a"]]),
    Known("arg_max ignores nulls", "arg-max-aggregation-function", 'datatable(x:long, s:string)[1, "a", long(null), "b"] | summarize arg_max(x, s)', "x, s", [[1, "a"]]),
    Known("arg_min ignores nulls", "arg-min-aggregation-function", 'datatable(x:long, s:string)[1, "a", long(null), "b"] | summarize arg_min(x, s)', "x, s", [[1, "a"]]),
    Known("arg_max of nulls alone gives a row", "arg-max-aggregation-function", 'datatable(x:long, s:string)[long(null), "b"] | summarize arg_max(x, s)', "x, s", [[None, "b"]]),
    Known("make_list keeps the order of rows", "make-list-aggregation-function", f"{ROWS} | sort by x asc | summarize make_list(s), make_list(x)", "list_s, list_x", [[["a", "c", "b"], [1, 2, 3]]]),
    Known("the page's sum and average with nulls", PAGE, "range x from 1 to 4 step 1 | extend y = iff(x == 1, real(null), real(5)) | summarize sum(y), avg(y), count()", "sum_y, avg_y, count_", [[15, 5, 4]]),
    Known("hints are ignored", PAGE, f"{ROWS} | summarize hint.strategy=shuffle count() by k", "k, count_", [["p", 2], ["q", 1]]),
    # top-nested
    Known("top-nested of one level", "top-nested-operator", f"{KV} | top-nested 2 of k by sum(v)", "k, aggregated_k", [["b", 5], ["a", 3]]),
    Known("top-nested of two levels", "top-nested-operator", 'datatable(k:string, j:string, v:long)["a", "x", 1, "a", "y", 2, "b", "x", 5, "c", "x", 1] | top-nested 2 of k by s = sum(v), top-nested 1 of j by max(v)', "k, s, j, aggregated_j", [["b", 5, "x", 5], ["a", 3, "y", 2]]),
    Known("top-nested ascending", "top-nested-operator", f"{KV} | top-nested 1 of k by sum(v) asc", "k, aggregated_k", [["c", 1]]),
    Known("top-nested without a count gives all", "top-nested-operator", f"{KV} | top-nested of k by sum(v)", "k, aggregated_k", [["b", 5], ["a", 3], ["c", 1]]),
    Known("others of a level have a row", "top-nested-operator", f'{KV} | top-nested 1 of k with others = "rest" by sum(v)', "k, aggregated_k", [["b", 5], ["rest", 4]]),
    Known("the page's latest records of each identity", "top-nested-operator",
        'datatable(id:string, timestamp:datetime, other:string)["Barak", datetime(2015-01-01), "1", "Barak", datetime(2016-01-01), "2",'
        ' "Barak", datetime(2017-01-20), "3", "Donald", datetime(2017-01-20), "4", "Donald", datetime(2017-01-18), "5",'
        ' "Donald", datetime(2017-01-19), "6"] | top-nested of id by Ignore0=max(1), top-nested 2 of timestamp by Ignore1=max(timestamp),'
        " top-nested of other by Ignore2=max(1) | project-away Ignore*", "id, timestamp, other",
        [["Barak", "2016-01-01T00:00:00.000000Z", "2"], ["Donald", "2017-01-19T00:00:00.000000Z", "6"],
         ["Barak", "2017-01-20T00:00:00.000000Z", "3"], ["Donald", "2017-01-20T00:00:00.000000Z", "4"]]),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_column_that_is_no_aggregate_is_refused() -> None:
    message, marked = refused("print x=1 | summarize x")

    assert "expected an aggregate" in message
    assert marked == "x"
