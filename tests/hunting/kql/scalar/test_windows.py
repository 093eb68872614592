"""Functions of neighbouring rows. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.answers import refused
from tests.hunting.kql.scalar.known import check, listed

FLIGHTS = 'datatable(Airport:string, Airline:string, Departures:long)["TLV", "LH", 1, "TLV", "LY", 100, "SEA", "LH", 1, "SEA", "BA", 2, "SEA", "LY", 0]'

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "prev-function": [
        ("datatable(x:long)[3,1,2] | sort by x asc | extend p = prev(x, 2, 99)", [[1, 99], [2, 99], [3, 1]]),
        ('datatable(a:string)["b","a"] | sort by a asc | extend p = prev(a)', [["a", ""], ["b", "a"]]),
    ],
    "row-cumsum-function": [
        (
            'datatable(name:string, month:int, salary:long)["Alice",1,1000,"Bob",1,1000,"Alice",2,2000,"Bob",2,1950,"Alice",3,1400,'
            '"Bob",3,1450] | order by name asc, month asc | extend total = row_cumsum(salary, name != prev(name)) | project total',
            [[1000], [3000], [4400], [1000], [2950], [4400]],
        ),
        ("range x from 1 to 5 step 1 | serialize c = row_cumsum(iff(prev(x) == 3, 1, 0))", [[1, 0], [2, 0], [3, 0], [4, 1], [5, 1]]),
        ("datatable(x:long)[1,long(null),3] | serialize c = row_cumsum(x)", [[1, 1], [None, 1], [3, 4]]),
    ],
    "row-number-function": [
        (
            "datatable(x:long)[3,1,2] | sort by x asc | extend p = prev(x), n = next(x), r = row_number(), c = row_cumsum(x)",
            [[1, None, 2, 1, 1], [2, 1, 3, 2, 3], [3, 2, None, 3, 6]],
        ),
        ("datatable(x:long)[7,8] | serialize r = row_number()", [[7, 1], [8, 2]]),
        (
            'datatable(a:string, b:long)["LH",1,"LY",100,"LH",2,"LY",0] | sort by a asc, b asc | extend r = row_number(1, prev(a) != a)'
            " | project a, b, r",
            [["LH", 1, 1], ["LH", 2, 2], ["LY", 0, 1], ["LY", 100, 2]],
        ),
        ("range x from 1 to 4 step 1 | sort by x desc | where row_number(1, prev(x) == 3) == 1 | project x", [[4], [2]]),
        ("datatable(x:long)[7,8] | serialize | extend r = row_number(10)", [[7, 10], [8, 11]]),
        (
            'datatable(k:string, v:long)["a",1,"a",2,"b",3,"b",4] | partition by k (sort by v asc | extend n = row_number(1, prev(v) == 3))'
            " | sort by v asc | project v, n",
            [[1, 1], [2, 2], [3, 1], [4, 1]],
        ),
    ],
    "row-rank-dense-function": [
        (
            f"{FLIGHTS} | sort by Airport asc, Departures desc | extend Rank = row_rank_dense(Departures, prev(Airport) != Airport)"
            " | project Departures, Rank",
            [[2, 1], [1, 2], [0, 3], [100, 1], [1, 2]],
        ),
        ("datatable(x:long)[5,5,long(null),long(null),7] | serialize r = row_rank_dense(x)", [[5, 1], [5, 1], [None, 2], [None, 2], [7, 3]]),
    ],
    "row-rank-min-function": [
        (
            f"{FLIGHTS} | sort by Airport asc, Departures asc | extend Rank = row_rank_min(Departures, prev(Airport) != Airport)"
            " | project Departures, Rank",
            [[0, 1], [1, 2], [2, 3], [1, 1], [100, 2]],
        ),
        ("datatable(x:long)[5,5,6,6,7] | serialize r = row_rank_min(x)", [[5, 1], [5, 1], [6, 3], [6, 3], [7, 5]]),
    ],
    "row-window-session-function": [
        (
            'datatable(ID:string, T:datetime)["1", datetime(2024-04-11 10:00), "2", datetime(2024-04-11 10:18), "1", datetime(2024-04-11 11:00),'
            ' "3", datetime(2024-04-11 11:30), "2", datetime(2024-04-11 13:30), "2", datetime(2024-04-11 10:16)] | sort by ID asc, T asc'
            " | extend S = row_window_session(T, 1h, 5m, ID != prev(ID)) | project ID, format_datetime(T, 'HH:mm'), format_datetime(S, 'HH:mm')",
            [["1", "10:00", "10:00"], ["1", "11:00", "11:00"], ["2", "10:16", "10:16"], ["2", "10:18", "10:16"],
             ["2", "13:30", "13:30"], ["3", "11:30", "11:30"]],
        ),
        # A session lasts less than an hour. A null ends it.
        (
            "datatable(t:datetime)[datetime(2020-01-01), datetime(2020-01-01 00:40), datetime(2020-01-01 01:00), datetime(2020-01-01 01:40),"
            " datetime(null), datetime(2020-01-01 01:50)] | serialize s = row_window_session(t, 1h, 50m)"
            " | project format_datetime(s, 'HH:mm')",
            [["00:00"], ["00:00"], ["01:00"], ["01:00"], [""], ["01:50"]],
        ),
    ],
}  # fmt: skip


def test_start_again_is_refused_where_rows_stay_no_rows() -> None:
    message, marked = refused("range x from 1 to 3 step 1 | serialize | summarize make_list(row_rank_dense(x))")

    assert "supported in extend, project, where and serialize only" in message
    assert marked == "row_rank_dense(x)"


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
