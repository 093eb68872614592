"""Functions of the neighbouring rows: they need a serialized input, as behind `sort`.

Calls that ClickHouse cannot compute in one SELECT come from `tabular.windows`, which has computed what they need as columns.
Source: learn.microsoft.com/kusto/query/window-functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hunting.kql.errors import KqlError
from hunting.kql.types import NEVER_NULL, NUMBERS, Type
from hunting.kql.values import Value, identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hunting.kql.protocols import Binder
    from hunting.kql.scope import Relation
    from hunting.kql.syntax import Call

RANKS = ("row_rank_dense", "row_rank_min")
SESSION = "row_window_session"
RESTARTS = {"row_number": 1, "row_cumsum": 1, "row_rank_dense": 1, "row_rank_min": 1, SESSION: 3}
"""The place of the argument at which a function starts again."""
NAMES = ("prev", "next", *RESTARTS)
UP_TO_ROW = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def order_of(scalars: Binder, node: Call) -> str:
    """Return the window of all rows. Raises KqlError where the rows have no order."""
    relation = scalars.scope.relation
    if relation is None or not (relation.order or relation.serialized):
        raise KqlError(f"`{node.function}` needs rows in order; put `sort by` or `serialize` before it", node.span)
    return order_of_rows(relation)


def order_of_rows(relation: Relation, *partition: str) -> str:
    """Return a window of rows in their order, apart for each value of these columns and each partition."""
    by = ", ".join(f"t.{identifier(name)}" for name in (*relation.partition, *partition))
    order = f"ORDER BY {', '.join(key.sql for key in relation.order)}" if relation.order else ""
    return f"{f'PARTITION BY {by} ' if by else ''}{order}".strip()


def call(scalars: Binder, node: Call) -> Value:
    """Return a window function."""
    order_of(scalars, node)
    assert scalars.scope.relation is not None
    arguments = [scalars.bind(argument.value) for argument in node.arguments]
    if node.function in ("prev", "next"):
        return _neighbour(node, arguments, scalars.scope.relation)
    place = RESTARTS[node.function]
    group = [argument.name for argument in arguments[place:]]
    if node.function == SESSION or not all(name.startswith("__") for name in group):
        raise KqlError(f"`{node.function}` is supported in extend, project, where and serialize only", node.span)
    functions = {"row_number": _row_number, "row_cumsum": _cumulated, **dict.fromkeys(RANKS, _rank)}
    return functions[node.function](node, arguments[:place], scalars.scope.relation, group)


def neighbour(value: Value, relation: Relation, function: str = "lagInFrame", others: str = ", 1") -> str:
    """Return SQL of a value in another row, by default the row before."""
    inner = value.sql if value.type in NEVER_NULL or value.nullable else f"toNullable({value.sql})"
    order = order_of_rows(relation)
    return f"{function}({inner}{others}) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"


def _neighbour(node: Call, arguments: list[Value], relation: Relation) -> Value:
    if not 1 <= len(arguments) <= 3:
        raise KqlError(f"`{node.function}` takes a column, an offset and a default", node.span)
    value = arguments[0]
    others = ", ".join(["", arguments[1].sql if len(arguments) > 1 else "1", *(a.sql for a in arguments[2:])])
    function = "lagInFrame" if node.function == "prev" else "leadInFrame"
    return Value(neighbour(value, relation, function, others), value.type, value.type not in NEVER_NULL)


def _row_number(_node: Call, arguments: list[Value], relation: Relation, group: Sequence[str]) -> Value:
    start = arguments[0].sql if arguments else "1"
    return Value(f"(toInt64(row_number() OVER ({order_of_rows(relation, *group)})) + {start} - 1)", Type.LONG, False)


def _cumulated(node: Call, arguments: list[Value], relation: Relation, group: Sequence[str]) -> Value:
    value = arguments[0]
    if value.type not in (*NUMBERS, Type.TIMESPAN):
        raise KqlError(f"expected a number, found a {value.type}", node.span)
    sql = f"sum({value.sql}) OVER ({order_of_rows(relation, *group)} {UP_TO_ROW})"
    return Value(f"toInt64({sql})" if value.type in (Type.INT, Type.LONG) else sql, value.type, value.nullable)


def _rank(node: Call, arguments: list[Value], relation: Relation, group: Sequence[str]) -> Value:
    """Return a rank: the argument is the number of the run of equal values."""
    run = arguments[0]
    if not run.name.startswith("__"):
        raise KqlError(f"`{node.function}` is supported in extend, project, where and serialize only", node.span)
    keys = ", ".join(f"t.{identifier(name)}" for name in (*relation.partition, *group))
    whole = f"PARTITION BY {keys}" if keys else ""
    if node.function == "row_rank_dense":
        return Value(f"({run.sql} - min({run.sql}) OVER ({whole}) + 1)", Type.LONG, False)
    number = f"t.{identifier(relation.order[0].column)}"
    same = f"PARTITION BY {', '.join([*([keys] if keys else []), run.sql])}"
    return Value(f"(min({number}) OVER ({same}) - min({number}) OVER ({whole}) + 1)", Type.LONG, False)
