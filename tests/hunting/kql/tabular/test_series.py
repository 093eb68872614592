"""`make-series`: where the axis begins and ends; and the order of the columns of `find`."""

from __future__ import annotations

import pytest

from hunting.kql.protocols import Table
from hunting.kql.translation import translate
from tests.hunting.kql.tabular.known import Known, fact

SERIES = "make-series-operator"
X = "datatable(x:long)[7, 12]"
TIMES = "datatable(t:datetime)[datetime(2024-01-01 01:30), datetime(2024-01-01 03:10)]"
HOURS = [f"2024-01-01T0{hour}:00:00.0000000Z" for hour in (1, 2, 3)]

ANSWERS = [
    Known("without from the series begins at the first bin", SERIES, f"{X} | make-series n=count() on x step 5", "n, x", [[[1, 1], [5, 10]]]),
    Known("bins of times are those of bin()", SERIES, f"{TIMES} | make-series n=count() on t step 1h", "n, t", [[[1, 0, 1], HOURS]]),
    Known("from is the first point, to is excluded", SERIES, f"{X} | make-series n=count() on x from 2 to 12 step 5", "n, x", [[[0, 1], [2, 7]]]),
    Known("bins of negative numbers are rounded down", SERIES, "datatable(x:long)[-7, 1] | make-series n=count() on x step 5", "n, x", [[[1, 0, 1], [-10, -5, 0]]]),
    Known("bins of real numbers", SERIES, "datatable(x:real)[0.5, 3.9, 3.1] | make-series n=count() on x step 1.0", "n, x", [[[1, 0, 0, 2], [0, 1, 2, 3]]]),
    Known("bins of timespans", SERIES, "datatable(x:timespan)[90m, 190m] | make-series n=count() on x step 1h", "n, x",
          [[[1, 0, 1], ["01:00:00", "02:00:00", "03:00:00"]]]),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_find_has_its_columns_in_the_order_of_project() -> None:
    """Source: learn.microsoft.com/kusto/query/find-operator."""
    tables = {"T": Table("T", {"a": "Int64", "b": "String"})}
    names = [column.name for column in translate("find in (T) where a == 1 project b, a", tables).columns]

    assert names == ["source_", "b", "a"]
