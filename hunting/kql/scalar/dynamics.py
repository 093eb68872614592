"""Functions of dynamic values: arrays and property bags, stored as JSON; "" is null.

Source: learn.microsoft.com/kusto/query/scalar-functions, "Dynamic/array functions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.literals import as_json
from hunting.kql.scalar.signatures import Signature
from hunting.kql.types import TEXTS, Type
from hunting.kql.values import Value, converted, place, text_literal, to_dynamic, to_text

RANGE_MAX = 1_048_576
"""Elements that `range` makes at most; KQL's own limit."""
DYNAMIC, LONG, BOOL, STRING, REAL = Type.DYNAMIC, Type.LONG, Type.BOOL, Type.STRING, Type.REAL


def elements(value: Value) -> str:
    """Return the JSON of each element of an array: an Array(String) in SQL, empty for anything else."""
    if isinstance(value.constant, list):
        parts = [text_literal(as_json(element) or "null") for element in value.constant]
        return f"[{', '.join(parts)}]" if parts else "CAST([], 'Array(String)')"
    return f"JSONExtractArrayRaw({value.sql})"


def element_texts(value: Value) -> str:
    """Return the text of each element of an array: an Array(String) in SQL."""
    if isinstance(value.constant, list):
        parts = [text_literal(item if isinstance(item, str) else as_json(item)) for item in value.constant]
        return f"[{', '.join(parts)}]" if parts else "CAST([], 'Array(String)')"
    return f"arrayMap(e -> JSONExtract(e, 'String'), JSONExtractArrayRaw({value.sql}))"


def array(elements_sql: str) -> str:
    """Return the JSON array of an Array(String) of JSON values; empty ones become null."""
    return f"concat('[', arrayStringConcat(arrayMap(e -> if(e = '', 'null', e), {elements_sql}), ','), ']')"


def parsed(value: Value) -> Value:
    """Return `parse_json`: the value of a JSON text; a text that is no JSON stays a text."""
    if value.type is DYNAMIC:
        return value
    if value.type not in TEXTS:
        return to_dynamic(value)
    sql = f"arrayElement(arrayMap(j -> multiIf(j IN ('', 'null'), '', isValidJSON(j), j, toJSONString(j)), [{value.sql}]), 1)"
    return Value(sql, DYNAMIC, False, name=value.name, path=(value.sql, ()))


def member(base: Value, step: str | int, span: Span) -> Value:
    """Return a property or an element of a dynamic value. Raises KqlError for other types."""
    if base.type is not DYNAMIC:
        raise KqlError(f"a {base.type} has no properties; read it with parse_json( ) first", span)
    root, path = base.path or (base.sql, ())
    path = (*path, step)
    places = ", ".join(place(part) for part in path)
    name = f"{base.name}_{step}" if base.name else ""
    if base.parts and isinstance(step, str) and step in base.parts:
        text = base.parts[step]
        return Value(f"toJSONString({text})", DYNAMIC, False, name=name, text=text)
    return Value(
        f"ifNull(nullIf(JSONExtractRaw({root}, {places}), 'null'), '')", DYNAMIC, False, name=name, path=(root, path)
    )


def computed_member(base: Value, index: Value, span: Span) -> Value:
    """Return `base[index]` for an index that the query computes."""
    if base.type is not DYNAMIC:
        raise KqlError(f"a {base.type} has no elements; read it with parse_json( ) first", span)
    if index.type in TEXTS or index.type is DYNAMIC:
        sql = f"JSONExtractRaw({base.sql}, {to_text(index).sql})"
    else:
        sql = f"JSONExtractRaw({base.sql}, toInt64(if({index.sql} >= 0, {index.sql} + 1, {index.sql})))"
    return Value(f"ifNull(nullIf({sql}, 'null'), '')", DYNAMIC, False)


def _packed(values: Sequence[Value]) -> str:
    if len(values) % 2:
        raise KqlError("expected pairs of keys and values", Span(0, 1))
    parts = []
    for key, value in zip(values[::2], values[1::2], strict=True):
        parts.append(
            f"toJSONString({to_text(key).sql}), ':', if({to_dynamic(value).sql} = '', 'null', {to_dynamic(value).sql})"
        )
    return "concat('{', " + ", ',', ".join(parts) + ", '}')"


def _pack_array(values: Sequence[Value]) -> str:
    return array(f"[{', '.join(to_dynamic(value).sql for value in values)}]")


def _joined(values: Sequence[Value]) -> str:
    return f"arrayStringConcat({element_texts(values[0])}, {to_text(values[1]).sql})"


def _length(values: Sequence[Value]) -> str:
    value = values[0].sql
    return f"if(JSONType({value}) = 'Array', toInt64(JSONLength({value})), NULL)"


def _index_of(values: Sequence[Value]) -> str:
    """Return array_index_of(array, value, start, length, occurrence); -1 as length is any length."""
    items, wanted = elements(values[0]), to_dynamic(values[1]).sql
    if len(values) == 2:
        return f"(toInt64(indexOf({items}, {wanted})) - 1)"
    start = f"toInt64({values[2].sql})"
    first = f"if({start} < 0, greatest({start} + toInt64(length({items})), 0), {start})"
    length = values[3].sql if len(values) > 3 else "-1"
    occurrence = values[4].sql if len(values) > 4 else "1"
    within = f"i > {first} AND ({length} < 0 OR i <= {first} + {length})"
    places = (
        f"arrayFilter((i, e) -> e = {wanted} AND {within}, arrayMap(i -> toInt64(i), arrayEnumerate({items})), {items})"
    )
    return f"if(length({places}) >= {occurrence}, arrayElement({places}, {occurrence}) - 1, -1)"


def _slice(values: Sequence[Value]) -> str:
    items, first, last = elements(values[0]), values[1].sql, values[2].sql
    length = f"toInt64(length({items}))"
    start = f"if({first} < 0, greatest({first} + {length}, 0), {first})"
    end = f"if({last} < 0, {last} + {length}, {last})"
    return array(f"arraySlice({items}, {start} + 1, greatest({end} - {start} + 1, 0))")


def _sorted(*, descending: bool) -> Signature:
    """Return array_sort_asc or array_sort_desc of one array; nulls come last, or first where the last argument is false."""
    function = "arrayReverseSort" if descending else "arraySort"

    def sql(values: Sequence[Value]) -> str:
        if len(values) > 2 or (len(values) == 2 and not isinstance(values[1].constant, bool)):
            raise KqlError("sorting several arrays together is not supported", Span(0, 1))
        nulls_last = len(values) == 1 or values[1].constant is True
        items = elements(values[0])
        known = f"arrayFilter(e -> e != 'null', {items})"
        nulls = f"arrayFilter(e -> e = 'null', {items})"
        key = "(toFloat64OrZero(e), JSONExtract(e, 'String'))"
        parts = [f"{function}(e -> {key}, {known})", nulls]
        return array(f"arrayConcat({', '.join(parts if nulls_last else reversed(parts))})")

    return Signature(DYNAMIC, "y?a*", sql)


def _concat(values: Sequence[Value]) -> str:
    return array(f"arrayConcat({', '.join(elements(value) for value in values)})")


def _set(function: str, *, distinct: bool = True) -> Signature:
    def sql(values: Sequence[Value]) -> str:
        found = f"{function}({', '.join(elements(value) for value in values)})"
        return array(f"arrayDistinct({found})" if distinct else found)

    return Signature(DYNAMIC, "yy*", sql)


def _difference(values: Sequence[Value]) -> str:
    first, *others = values
    rest = f"arrayConcat({', '.join(elements(value) for value in others)})"
    return array(f"arrayDistinct(arrayFilter(e -> NOT has({rest}, e), {elements(first)}))")


def _shift(values: Sequence[Value], sign: int) -> str:
    items = elements(values[0])
    default = f"if(startsWith(arrayElement({items}, 1), '\"'), '\"\"', 'null')"
    if len(values) > 2:
        default = to_dynamic(values[2]).sql
    by = f"toInt64({values[1].sql}) * {sign}"
    return array(
        f"arrayMap(i -> if(i + {by} BETWEEN 1 AND toInt64(length({items})), arrayElement({items}, i + {by}), {default}),"
        f" arrayMap(i -> toInt64(i), arrayEnumerate({items})))"
    )


def _rotate(values: Sequence[Value], sign: int) -> str:
    items = elements(values[0])
    by = f"toInt64({values[1].sql}) * {sign}"
    return array(
        f"arrayMap(i -> arrayElement({items}, positiveModulo(toInt64(i) - 1 + {by}, toInt64(length({items}))) + 1),"
        f" arrayEnumerate({items}))"
    )


def _keys(values: Sequence[Value]) -> str:
    value = values[0].sql
    return f"if(JSONType({value}) = 'Object', toJSONString(JSONExtractKeys({value})), '')"


def _bag(pairs: str) -> str:
    """Return the JSON object of an array of tuples (key, JSON) in SQL."""
    return f"concat('{{', arrayStringConcat(arrayMap(p -> concat(toJSONString(p.1), ':', p.2), {pairs}), ','), '}}')"


def _merged(values: Sequence[Value]) -> str:
    """The first bag that has a key gives its value."""
    pairs = f"arrayConcat({', '.join(f'JSONExtractKeysAndValuesRaw({value.sql})' for value in values)})"
    return _bag(f"arrayFilter((p, n) -> n = 1, {pairs}, arrayEnumerateUniq(arrayMap(p -> p.1, {pairs})))")


def _without(values: Sequence[Value]) -> str:
    return _bag(
        f"arrayFilter(p -> NOT has({element_texts(values[1])}, p.1), JSONExtractKeysAndValuesRaw({values[0].sql}))"
    )


def _with_key(values: Sequence[Value]) -> str:
    key, value = to_text(values[1]).sql, to_dynamic(values[2]).sql
    kept = f"arrayFilter(p -> p.1 != {key}, JSONExtractKeysAndValuesRaw({values[0].sql}))"
    return _bag(f"arrayPushBack({kept}, ({key}, {value}))")


def _range(values: Sequence[Value]) -> str:
    first, last = values[0], values[1]
    if first.type in (Type.DATETIME, Type.TIMESPAN):
        return _range_of_times(first, last, values[2] if len(values) > 2 else None)
    numbers = (Type.INT, LONG, REAL, Type.DECIMAL)
    if not all(value.type in numbers for value in values):
        raise KqlError(f"a range from {first.type} to {last.type} is not supported", Span(0, 1))
    step = values[2].sql if len(values) > 2 else "1"
    count = f"toUInt64(least(greatest(floor(({last.sql} - {first.sql}) / {step}) + 1, 0), {RANGE_MAX}))"
    items = f"arrayMap(i -> {first.sql} + i * {step}, range({count}))"
    if any(value.type is REAL for value in values):
        return array(f"arrayMap(r -> {to_text(Value('r', REAL, False)).sql}, {items})")
    return f"toJSONString({items})"


def _range_of_times(first: Value, last: Value, step: Value | None) -> str:
    """Return a range of datetimes or timespans; the step is one hour by default."""
    if last.type is not first.type or (step is not None and step.type is not Type.TIMESPAN):
        raise KqlError(f"a range from {first.type} to {last.type} needs a timespan as its step", Span(0, 1))
    start, end = (converted(value, LONG, Span(0, 1)).sql for value in (first, last))
    size = "36000000000" if step is None else step.sql
    count = f"toUInt64(least(greatest(floor(({end} - {start}) / {size}) + 1, 0), {RANGE_MAX}))"
    tick = converted(Value(f"({start} + toInt64(i) * {size})", LONG, False), first.type, Span(0, 1))
    return f"toJSONString(arrayMap(i -> {to_text(tick).sql}, range({count})))"


def _repeated(values: Sequence[Value]) -> str:
    return array(f"arrayWithConstant(toUInt64(greatest({values[1].sql}, 0)), {to_dynamic(values[0]).sql})")


def _chosen(values: Sequence[Value]) -> str:
    """Return array_iff(conditions, when true, when false): a condition is a bool, or a number that is not 0."""
    conditions = elements(values[0])

    def item(value: Value) -> str:
        if value.type is not DYNAMIC:
            return to_dynamic(value).sql
        whole = f"JSONType({value.sql}) = 'Array'"
        return f"if({whole}, arrayElement({elements(value)}, i), {value.sql})"

    test = f"if(c = 'null', 'null', if(c = 'true' OR toFloat64OrZero(c) != 0, {item(values[1])}, {item(values[2])}))"
    return array(f"arrayMap((c, i) -> {test}, {conditions}, arrayEnumerate({conditions}))")


def _divided(values: Sequence[Value]) -> str:
    """Return array_split(array, indexes): the parts between the indexes; negative ones count from the end."""
    items = elements(values[0])
    at = values[1].sql
    cuts = f"JSONExtract({at}, 'Array(Int64)')" if values[1].type is DYNAMIC else f"[toInt64({at})]"
    size = f"toInt64(length({items}))"
    cuts = f"arrayMap(c -> least(if(c < 0, greatest(c + {size}, 0), c), {size}), {cuts})"
    starts, ends = f"arrayPushFront({cuts}, 0)", f"arrayPushBack({cuts}, {size})"
    part = array(f"arraySlice({items}, a + 1, greatest(b - a, 0))")
    return array(f"arrayMap((a, b) -> {part}, {starts}, {ends})")


def _zipped(values: Sequence[Value]) -> str:
    """Return zip: arrays of the elements at the same place, null where an array is shorter."""
    arrays = [elements(value) for value in values]
    count = f"greatest({', '.join(f'length({items})' for items in arrays)})"
    part = array(f"[{', '.join(f'arrayElement({items}, i + 1)' for items in arrays)}]")
    return array(f"arrayMap(i -> {part}, range({count}))")


def _bag_of_arrays(values: Sequence[Value]) -> str:
    """Return bag_zip(keys, values): a missing value is null, values without a key are left out."""
    keys, items = element_texts(values[0]), elements(values[1])
    pair = f"(k, if(arrayElement({items}, i) = '', 'null', arrayElement({items}, i)))"
    return _bag(f"arrayMap((k, i) -> {pair}, {keys}, arrayEnumerate({keys}))")


def _jaccard(values: Sequence[Value]) -> str:
    """Return the share of common elements in all elements of two sets: a dynamic number, null where both are empty."""
    both, all_ = (f"{name}({elements(values[0])}, {elements(values[1])})" for name in ("arrayIntersect", "arrayConcat"))
    share = f"(length(arrayDistinct({both})) / length(arrayDistinct({all_})))"
    return to_dynamic(Value(share, REAL, False)).sql


def _type_name(values: Sequence[Value]) -> str:
    value = values[0]
    if value.type is not DYNAMIC:
        return f"if(isNull({value.sql}), 'null', '{value.type}')" if value.nullable else f"'{value.type}'"
    json = "['Int64', 'UInt64', 'Double', 'String', 'Bool', 'Array', 'Object']"
    names = "['long', 'long', 'real', 'string', 'bool', 'array', 'dictionary']"
    return f"transform(toString(JSONType({value.sql})), {json}, {names}, 'null')"


def _canonical(values: Sequence[Value]) -> str:
    """Return dynamic_to_json: the JSON with sorted keys. Keys with a dot in them become nested ones."""
    json = values[0].sql
    return f"if(JSONType({json}) = 'Object', toString(CAST({json}, 'JSON')), {json})"


def _json_path(values: Sequence[Value]) -> str:
    """Return the SQL of extract_json(path, text). The path is a constant, such as `$.a.b[0]` or `$['a']`."""
    written = str(values[0].constant)
    if not written.startswith("$"):
        raise KqlError("expected a path such as $.a.b[0]", Span(0, 1))
    steps: list[str | int] = []
    for name, quoted, number in re.findall(r"\.([A-Za-z_]\w*)|\[['\"]([^'\"]*)['\"]\]|\[(\d+)\]", written):
        steps.append(int(number) if number else (name or quoted))
    places = "".join(f"{place(step)}, " for step in steps)
    return f"JSONExtract({to_text(values[1]).sql}, {places}'String')"


FUNCTIONS = {
    "pack_array": Signature(DYNAMIC, "a*", _pack_array),
    "pack": Signature(DYNAMIC, "aa*", _packed),
    "bag_pack": Signature(DYNAMIC, "aa*", _packed),
    "pack_dictionary": Signature(DYNAMIC, "aa*", _packed),
    "dynamic_to_json": Signature(STRING, "y", _canonical),
    "array_length": Signature(LONG, "y", _length, nullable=True),
    "arraylength": Signature(LONG, "y", _length, nullable=True),
    "array_index_of": Signature(LONG, "ya?lll", _index_of),
    "array_iff": Signature(DYNAMIC, "yaa", _chosen),
    "array_iif": Signature(DYNAMIC, "yaa", _chosen),
    "array_split": Signature(DYNAMIC, "ya", _divided),
    "zip": Signature(DYNAMIC, "yy*", _zipped),
    "bag_zip": Signature(DYNAMIC, "yy", _bag_of_arrays),
    "jaccard_index": Signature(DYNAMIC, "yy", _jaccard),
    "array_concat": Signature(DYNAMIC, "y*", _concat),
    "array_slice": Signature(DYNAMIC, "yll", _slice),
    "array_reverse": Signature(DYNAMIC, "y", lambda v: array(f"arrayReverse({elements(v[0])})")),
    "array_sort_asc": _sorted(descending=False),
    "array_sort_desc": _sorted(descending=True),
    "array_sum": Signature(REAL, "y", lambda v: f"arraySum(arrayMap(e -> toFloat64OrZero(e), {elements(v[0])}))"),
    "array_strcat": Signature(STRING, "ya", _joined),
    "strcat_array": Signature(STRING, "ya", _joined),
    "array_shift_left": Signature(DYNAMIC, "yl?a", lambda v: _shift(v, 1)),
    "array_shift_right": Signature(DYNAMIC, "yl?a", lambda v: _shift(v, -1)),
    "array_rotate_left": Signature(DYNAMIC, "yl", lambda v: _rotate(v, 1)),
    "array_rotate_right": Signature(DYNAMIC, "yl", lambda v: _rotate(v, -1)),
    "set_union": _set("arrayConcat"),
    "set_intersect": _set("arrayIntersect"),
    "set_difference": Signature(DYNAMIC, "yy*", _difference),
    "set_has_element": Signature(BOOL, "ya", lambda v: f"has({elements(v[0])}, {to_dynamic(v[1]).sql})"),
    "bag_keys": Signature(DYNAMIC, "y", _keys),
    "bag_has_key": Signature(BOOL, "ys", "JSONHas({0}, {1})"),
    "bag_merge": Signature(DYNAMIC, "y*", _merged),
    "bag_remove_keys": Signature(DYNAMIC, "yy", _without),
    "bag_set_key": Signature(DYNAMIC, "ysa", _with_key),
    "range": Signature(DYNAMIC, "aa?a", _range),
    "repeat": Signature(DYNAMIC, "al", _repeated, prefix="repeat"),
    "gettype": Signature(STRING, "a", _type_name, prefix="type"),
    "extract_json": Signature(STRING, "Sa", _json_path),
    "extractjson": Signature(STRING, "Sa", _json_path),
}  # fmt: skip
