"""Functions of neighbouring rows. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "prev-function": [
        ("datatable(x:long)[3,1,2] | sort by x asc | extend p = prev(x, 2, 99)", [[1, 99], [2, 99], [3, 1]]),
        ('datatable(a:string)["b","a"] | sort by a asc | extend p = prev(a)', [["a", ""], ["b", "a"]]),
    ],
    "row-cumsum-function": [
        ("datatable(x:long)[1,long(null),3] | serialize c = row_cumsum(x)", [[1, 1], [None, 1], [3, 4]]),
    ],
    "row-number-function": [
        (
            "datatable(x:long)[3,1,2] | sort by x asc | extend p = prev(x), n = next(x), r = row_number(), c = row_cumsum(x)",
            [[1, None, 2, 1, 1], [2, 1, 3, 2, 3], [3, 2, None, 3, 6]],
        ),
        ("datatable(x:long)[7,8] | serialize r = row_number()", [[7, 1], [8, 2]]),
        ("datatable(x:long)[7,8] | serialize | extend r = row_number(10)", [[7, 10], [8, 11]]),
    ],
}


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
