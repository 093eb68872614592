"""Functions of the neighbouring rows: they need a serialized input, as behind `sort`.

Source: learn.microsoft.com/kusto/query/window-functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hunting.kql.errors import KqlError
from hunting.kql.types import NEVER_NULL, NUMBERS, Type
from hunting.kql.values import Value, identifier

if TYPE_CHECKING:
    from hunting.kql.protocols import Binder
    from hunting.kql.syntax import Call


def order_of(scalars: Binder, node: Call) -> str:
    """Return ORDER BY of the window. Raises KqlError where the rows have no order."""
    relation = scalars.scope.relation
    if relation is None or not (relation.order or relation.serialized):
        raise KqlError(f"`{node.function}` needs rows in order; put `sort by` or `serialize` before it", node.span)
    partition = (
        f"PARTITION BY {', '.join(f't.{identifier(name)}' for name in relation.partition)} "
        if relation.partition
        else ""
    )
    return (
        f"{partition}ORDER BY {', '.join(key.sql for key in relation.order)}" if relation.order else partition.strip()
    )


def call(scalars: Binder, node: Call) -> Value:
    """Return a window function."""
    order = order_of(scalars, node)
    arguments = [scalars.bind(argument.value) for argument in node.arguments]
    if node.function in ("prev", "next"):
        return _neighbour(node, arguments, order)
    if node.function == "row_number":
        return _row_number(node, arguments, order)
    if node.function == "row_cumsum":
        return _cumulated(node, arguments, order)
    raise KqlError(f"the function `{node.function}` is not supported", node.name_span)


def _neighbour(node: Call, arguments: list[Value], order: str) -> Value:
    if not 1 <= len(arguments) <= 3:
        raise KqlError(f"`{node.function}` takes a column, an offset and a default", node.span)
    value = arguments[0]
    offset = arguments[1].sql if len(arguments) > 1 else "1"
    default = f", {arguments[2].sql}" if len(arguments) > 2 else ""
    never = value.type in NEVER_NULL
    function = "lagInFrame" if node.function == "prev" else "leadInFrame"
    inner = value.sql if never or value.nullable else f"toNullable({value.sql})"
    sql = f"{function}({inner}, {offset}{default}) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    return Value(sql, value.type, not never)


def _row_number(node: Call, arguments: list[Value], order: str) -> Value:
    start = arguments[0].sql if arguments else "1"
    if len(arguments) < 2:
        return Value(f"(toInt64(row_number() OVER ({order})) + {start} - 1)", Type.LONG, False)
    raise KqlError("row_number with a restart is not supported", node.span)


def _cumulated(node: Call, arguments: list[Value], order: str) -> Value:
    value = arguments[0]
    if value.type not in (*NUMBERS, Type.TIMESPAN):
        raise KqlError(f"expected a number, found a {value.type}", node.span)
    if len(arguments) > 1:
        raise KqlError("row_cumsum with a restart is not supported", node.span)
    frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    sql = f"sum({value.sql}) OVER ({order} {frame})"
    return Value(f"toInt64({sql})" if value.type in (Type.INT, Type.LONG) else sql, value.type, value.nullable)
