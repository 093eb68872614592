"""Aggregate functions of `summarize`. Source: learn.microsoft.com/kusto/query/aggregation-functions.

| | here | in Kusto |
|---|---|---|
| `dcount` | exact | an estimate |
| `percentile` | nearest rank, exact | nearest rank, an estimate for many values |
| `make_set`, `make_list` | nulls are left out; sets are sorted | sets have any order |

Without rows and without `by`, counts, sums, `stdev` and `variance` are 0, sets, lists and bags are empty arrays, everything
else is null (learn.microsoft.com/kusto/query/summarize-operator, "Default values of aggregations"). `stdev` and `variance` of
one value are 0: the documentation leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scalar.dynamics import array, elements
from hunting.kql.syntax import Call, Star
from hunting.kql.types import NEVER_NULL, NUMBERS, Type
from hunting.kql.values import Value, converted, to_dynamic

LIST_MAX = 1_048_576
"""Elements that make_set and make_list keep; KQL's own limit."""
ROW_NUMBER = "__row"
"""Hidden column with the place of a row in its order, for make_list."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate. `prefix` begins the name of its column; `conditional` is it with a predicate as last argument."""

    make: Callable[[Sequence[Value], Span, str], Value]
    prefix: str
    least: int = 1
    most: int = 1
    conditional: bool = False


class Aggregates:
    """Binds aggregates, as `Scalars` asks for them. `ordered` is whether rows have a number in the hidden column."""

    def __init__(self, *, ordered: bool = False) -> None:
        self._ordered = ordered
        self.found = 0

    def __call__(self, scalars: Scalars, node: Call) -> Value | None:
        """Return the value of an aggregate, None for another function. Raises KqlError."""
        aggregate = KNOWN.get(node.function)
        if aggregate is None:
            return None
        inner = Scalars(scalars.tables, scalars.scope)
        if any(isinstance(argument.value, Star) for argument in node.arguments):
            raise KqlError("`*` is no argument of this function here", node.span)
        arguments = [inner.bind(argument.value) for argument in node.arguments]
        least, most = aggregate.least + aggregate.conditional, aggregate.most + aggregate.conditional
        if not least <= len(arguments) <= most:
            raise KqlError(f"`{node.function}` takes {least} to {most} arguments, found {len(arguments)}", node.span)
        condition = ""
        if aggregate.conditional:
            place = aggregate.least
            predicate = inner.predicate(node.arguments[place].value)
            condition = predicate.sql if not predicate.nullable else f"ifNull({predicate.sql}, false)"
            arguments = [*arguments[:place], *arguments[place + 1 :]]
        self.found += 1
        if self._ordered and aggregate.make is _make_list:
            value = _ordered_list(arguments, condition)
        else:
            value = aggregate.make(arguments, node.span, condition)
        first = arguments[0].name if arguments else ""
        name = f"{aggregate.prefix}_{first}" if aggregate.prefix else first
        if aggregate.make in (_percentile, _weighted_percentile):
            name = percentile_name(first, arguments[-1].constant)
        return replace(value, aggregate=True, name=name, path=None)


def _call(function: str, arguments: str, condition: str, parameters: str = "") -> str:
    if condition:
        return f"{function}If{parameters}({arguments}{', ' if arguments else ''}{condition})"
    return f"{function}{parameters}({arguments})"


def _count(_arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    return Value(f"toInt64({_call('count', '', condition)})", Type.LONG, False)


def _number(value: Value, span: Span) -> Value:
    if value.type is Type.DYNAMIC:
        return converted(value, Type.REAL, span)
    if value.type is Type.BOOL:
        return converted(value, Type.LONG, span)
    if value.type not in (*NUMBERS, Type.TIMESPAN):
        raise KqlError(f"expected a number or timespan, found a {value.type}", span)
    return value


def _sum(arguments: Sequence[Value], span: Span, condition: str) -> Value:
    value = _number(arguments[0], span)
    sql = _call("sum", value.sql, condition)
    type_ = Type.LONG if value.type is Type.INT else value.type
    cast = f"toInt64({sql})" if value.type in (Type.INT, Type.LONG) else sql
    return Value(f"ifNull({cast}, 0)" if value.nullable else cast, type_, False)


def _average(arguments: Sequence[Value], span: Span, condition: str) -> Value:
    value = arguments[0]
    if value.type is Type.DATETIME:
        micros = _call("avg", f"toUnixTimestamp64Micro({value.sql})", condition).replace("avg", "avgOrNull", 1)
        return Value(f"fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')", Type.DATETIME, True)
    value = _number(value, span)
    sql = _or_null(_call("avg", value.sql, condition), "avg")
    if value.type is Type.TIMESPAN:
        return Value(f"toInt64({sql})", Type.TIMESPAN, True)
    return Value(sql, Type.DECIMAL if value.type is Type.DECIMAL else Type.REAL, True)


def _or_null(sql: str, function: str) -> str:
    """Return the aggregate so that no rows give null: ClickHouse's OrNull goes behind its If."""
    name = f"{function}If" if sql.startswith(f"{function}If(") else function
    return sql.replace(name, f"{name}OrNull" if name == function else f"{function}OrNullIf", 1)


def _extreme(function: str) -> Callable[[Sequence[Value], Span, str], Value]:
    def make(arguments: Sequence[Value], span: Span, condition: str) -> Value:
        value = arguments[0]
        if value.type is Type.DYNAMIC:
            raise KqlError("dynamic values have no order; convert them, as with tostring( ) or tolong( )", span)
        sql = _or_null(_call(function, value.sql, condition), function)
        if value.type in NEVER_NULL:
            return Value(f"ifNull({sql}, '')", value.type, False)
        return Value(sql, value.type, True)

    return make


def _distinct_count(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    value = arguments[0]
    sql = f"nullIf({value.sql}, '')" if value.type is Type.DYNAMIC else value.sql
    return Value(f"toInt64({_call('uniqExact', sql, condition)})", Type.LONG, False)


def _json_elements(value: Value, condition: str) -> tuple[str, str]:
    """Return the JSON of a value and the condition under which it is one."""
    json = to_dynamic(value).sql
    known = f"{json} != ''" if value.nullable or value.type is Type.DYNAMIC else ""
    return json, " AND ".join(part for part in (known, condition) if part)


def _limit(arguments: Sequence[Value]) -> int:
    limit = arguments[1].constant if len(arguments) > 1 else LIST_MAX
    return min(limit, LIST_MAX) if isinstance(limit, int) and limit > 0 else LIST_MAX


def _make_set(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    limit = f"({_limit(arguments)})"
    value = arguments[0]
    if value.type is Type.STRING:
        sql = f"toJSONString(arraySort({_call('groupUniqArray', value.sql, condition, limit)}))"
        return Value(sql, Type.DYNAMIC, False)
    if value.type is Type.DYNAMIC:
        # The elements of an array go into the set, not the array.
        each = f"arrayFilter(e -> e NOT IN ('', 'null'), if(JSONType({value.sql}) = 'Array', {elements(value)}, [{value.sql}]))"
        return Value(array(f"arraySort({_call('groupUniqArrayArray', each, condition, limit)})"), Type.DYNAMIC, False)
    json, known = _json_elements(value, condition)
    found = _call("groupUniqArray", json, known, limit)
    if value.type in NUMBERS:
        return Value(array(f"arraySort(e -> toFloat64OrZero(e), {found})"), Type.DYNAMIC, False)
    return Value(array(f"arraySort({found})"), Type.DYNAMIC, False)


def _make_list(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    json, known = _json_elements(arguments[0], condition)
    return Value(array(_call("groupArray", json, known, f"({_limit(arguments)})")), Type.DYNAMIC, False)


def _make_list_with_nulls(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    return Value(array(_call("groupArray", to_dynamic(arguments[0]).sql, condition)), Type.DYNAMIC, False)


def _ordered_list(arguments: Sequence[Value], condition: str) -> Value:
    """Return make_list in the order of sorted rows."""
    json, known = _json_elements(arguments[0], condition)
    pairs = _call("groupArray", f"(t.{ROW_NUMBER}, {json})", known)
    sql = array(f"arraySlice(arrayMap(p -> p.2, arraySort(p -> p.1, {pairs})), 1, {_limit(arguments)})")
    return Value(sql, Type.DYNAMIC, False)


def _make_bag(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    pairs = f"arrayFlatten({_call('groupArray', f'JSONExtractKeysAndValuesRaw({arguments[0].sql})', condition)})"
    unique = f"arrayFilter((p, n) -> n = 1, {pairs}, arrayEnumerateUniq(arrayMap(p -> p.1, {pairs})))"
    sql = f"concat('{{', arrayStringConcat(arrayMap(p -> concat(toJSONString(p.1), ':', p.2), {unique}), ','), '}}')"
    return Value(f"if(count() = 0, '[]', {sql})", Type.DYNAMIC, False)


def _any(arguments: Sequence[Value], _span: Span, condition: str) -> Value:
    value = arguments[0]
    sql = _or_null(_call("any", value.sql, condition), "any")
    if value.type in NEVER_NULL:
        return Value(f"ifNull({sql}, '')", value.type, False)
    return Value(sql, value.type, True)


def _deviation(function: str) -> Callable[[Sequence[Value], Span, str], Value]:
    def make(arguments: Sequence[Value], span: Span, condition: str) -> Value:
        sql = _call(function, _number(arguments[0], span).sql, condition)
        if function.endswith("Pop"):
            return Value(f"if(isNaN({sql}), NULL, {sql})", Type.REAL, True)
        return Value(f"ifNotFinite(ifNull({sql}, 0), 0)", Type.REAL, False)

    return make


def _covariance(function: str) -> Callable[[Sequence[Value], Span, str], Value]:
    def make(arguments: Sequence[Value], span: Span, condition: str) -> Value:
        numbers = ", ".join(_number(argument, span).sql for argument in arguments)
        return Value(f"ifNotFinite(ifNull({_call(function, numbers, condition)}, 0), 0)", Type.REAL, False)

    return make


def _percentile(arguments: Sequence[Value], span: Span, condition: str) -> Value:
    value, share = arguments
    assert isinstance(share.constant, int | float) or _rank(share.constant, span)
    return percentile_of(value, float(str(share.constant)), condition, span)


def percentile_name(value: str, share: object) -> str:
    """Return the name of the column of a percentile, such as `percentile_x_95`."""
    return f"percentile_{value}_{share:g}".replace(".", "_") if isinstance(share, int | float) else ""


def percentile_of(value: Value, share: float, condition: str, span: Span) -> Value:
    """Return the smallest value that at least `share` percent of the values do not exceed (nearest rank)."""
    values = _sorted_values(value, condition, span)
    sql = f"arrayElement(arrayMap(v -> if(empty(v), NULL, arrayElement(v, {_rank(share, span)})), [{values}]), 1)"
    return Value(sql, value.type, True)


def _sorted_values(value: Value, condition: str, span: Span) -> str:
    if value.type not in (*NUMBERS, Type.TIMESPAN, Type.DATETIME):
        raise KqlError(f"expected a number, timespan or datetime, found a {value.type}", span)
    known = " AND ".join(part for part in (f"isNotNull({value.sql})" if value.nullable else "", condition) if part)
    return f"arraySort({_call('groupArray', f'assumeNotNull({value.sql})' if value.nullable else value.sql, known)})"


def _rank(share: object, span: Span) -> str:
    """Return the place of a percentile in a sorted array `v`. Raises KqlError for anything else than 0 to 100."""
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 100:
        raise KqlError("expected a constant percentile from 0 to 100", span)
    return f"toUInt64(greatest(1, ceil(length(v) * {float(share)} / 100)))"


def _percentiles_array(arguments: Sequence[Value], span: Span, condition: str) -> Value:
    """Return percentiles_array: one array of the percentiles, which are arguments or one array."""
    value, *given = arguments
    shares = given[0].constant if isinstance(given[0].constant, list) else [share.constant for share in given]
    assert isinstance(shares, list)
    found = ", ".join(
        to_dynamic(Value(f"arrayElement(v, {_rank(share, span)})", value.type, False)).sql for share in shares
    )
    sql = f"arrayElement(arrayMap(v -> if(empty(v), '', {array(f'[{found}]')}), [{_sorted_values(value, condition, span)}]), 1)"
    return Value(sql, Type.DYNAMIC, False)


def _weighted_percentile(arguments: Sequence[Value], span: Span, condition: str) -> Value:
    """Return percentilew(value, weight, percentile): each value counts as often as its weight."""
    value, weight, share = arguments
    _sorted_values(value, condition, span)
    _rank(share.constant, span)
    if weight.type not in (Type.INT, Type.LONG):
        raise KqlError(f"expected a whole number as weight, found a {weight.type}", span)
    nullable = [f"isNotNull({part.sql})" for part in (value, weight) if part.nullable]
    known = " AND ".join([*nullable, *([condition] if condition else [])])
    pair = f"(assumeNotNull({value.sql}), assumeNotNull({weight.sql}))"
    sums = "arrayCumSum(arrayMap(p -> p.2, v))"
    place = f"arrayFirstIndex(s -> s >= arraySum(arrayMap(p -> p.2, v)) * {share.sql} / 100, {sums})"
    pairs = f"arrayFilter(p -> p.2 > 0, arraySort({_call('groupArray', pair, known)}))"
    sql = f"arrayElement(arrayMap(v -> if(empty(v), NULL, arrayElement(v, {place}).1), [{pairs}]), 1)"
    return Value(sql, value.type, True)


def _bits(function: str) -> Callable[[Sequence[Value], Span, str], Value]:
    def make(arguments: Sequence[Value], span: Span, condition: str) -> Value:
        value = _number(arguments[0], span)
        sql = _or_null(_call(function, f"reinterpretAsUInt64(toInt64({value.sql}))", condition), function)
        return Value(f"reinterpretAsInt64({sql})", Type.LONG, True)

    return make


KNOWN: dict[str, Aggregate] = {
    "count": Aggregate(_count, "count", 0, 0),
    "countif": Aggregate(_count, "countif", 0, 0, conditional=True),
    "sum": Aggregate(_sum, "sum"),
    "sumif": Aggregate(_sum, "sumif", conditional=True),
    "avg": Aggregate(_average, "avg"),
    "avgif": Aggregate(_average, "avgif", conditional=True),
    "min": Aggregate(_extreme("min"), "min"),
    "max": Aggregate(_extreme("max"), "max"),
    "minif": Aggregate(_extreme("min"), "minif", conditional=True),
    "maxif": Aggregate(_extreme("max"), "maxif", conditional=True),
    "dcount": Aggregate(_distinct_count, "dcount", 1, 2),
    "dcountif": Aggregate(_distinct_count, "dcountif", 1, 2, conditional=True),
    "count_distinct": Aggregate(_distinct_count, "count_distinct"),
    "count_distinctif": Aggregate(_distinct_count, "count_distinctif", conditional=True),
    "make_set": Aggregate(_make_set, "set", 1, 2),
    "makeset": Aggregate(_make_set, "set", 1, 2),
    "make_set_if": Aggregate(_make_set, "set", 1, 2, conditional=True),
    "make_list": Aggregate(_make_list, "list", 1, 2),
    "makelist": Aggregate(_make_list, "list", 1, 2),
    "make_list_if": Aggregate(_make_list, "list", 1, 2, conditional=True),
    "make_list_with_nulls": Aggregate(_make_list_with_nulls, "list"),
    "make_bag": Aggregate(_make_bag, "bag", 1, 2),
    "make_bag_if": Aggregate(_make_bag, "bag", 1, 2, conditional=True),
    "make_dictionary": Aggregate(_make_bag, "bag", 1, 2),
    "take_any": Aggregate(_any, ""),
    "any": Aggregate(_any, "any"),
    "take_anyif": Aggregate(_any, "", conditional=True),
    "anyif": Aggregate(_any, "anyif", conditional=True),
    "stdev": Aggregate(_deviation("stddevSamp"), "stdev"),
    "stdevif": Aggregate(_deviation("stddevSamp"), "stdevif", conditional=True),
    "stdevp": Aggregate(_deviation("stddevPop"), "stdevp"),
    "covariance": Aggregate(_covariance("covarSamp"), "covariance", 2, 2),
    "covariancep": Aggregate(_covariance("covarPop"), "covariancep", 2, 2),
    "covarianceif": Aggregate(_covariance("covarSamp"), "covarianceif", 2, 2, conditional=True),
    "covariancepif": Aggregate(_covariance("covarPop"), "covariancepif", 2, 2, conditional=True),
    "variance": Aggregate(_deviation("varSamp"), "variance"),
    "varianceif": Aggregate(_deviation("varSamp"), "varianceif", conditional=True),
    "variancep": Aggregate(_deviation("varPop"), "variancep"),
    "variancepif": Aggregate(_deviation("varPop"), "variancepif", conditional=True),
    "percentile": Aggregate(_percentile, "percentile", 2, 2),
    "percentiles_array": Aggregate(_percentiles_array, "percentiles", 2, 64),
    "percentilew": Aggregate(_weighted_percentile, "percentile", 3, 3),
    "binary_all_and": Aggregate(_bits("groupBitAnd"), ""),
    "binary_all_or": Aggregate(_bits("groupBitOr"), ""),
    "binary_all_xor": Aggregate(_bits("groupBitXor"), ""),
}


MULTIPLE = ("arg_max", "arg_min", "argmax", "argmin", "percentiles", "take_any", "any")
"""Aggregates that may give several columns."""
