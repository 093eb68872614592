"""Scalar expressions to SQL: looks up names, checks types, applies KQL's null rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from hunting.kql.errors import KqlError, Span
from hunting.kql.literals import as_json
from hunting.kql.protocols import Tables
from hunting.kql.scalar import comparisons, dynamics, functions, numbers, terms, texts
from hunting.kql.scope import Function, Relation, Scope, near
from hunting.kql.syntax import (
    Argument,
    Between,
    Call,
    Element,
    Expression,
    Junction,
    Literal,
    Member,
    Membership,
    Name,
    Named,
    Negation,
    Operation,
    Query,
    Star,
    SubQuery,
    TypeOf,
)
from hunting.kql.types import TEXTS, Type
from hunting.kql.values import (
    Value,
    constant,
    converted,
    identifier,
    to_text,
    widest,
)

FUNCTION_DEPTH_MAX = 20
"""How deep functions of the query may call each other."""


class AggregateBinder(Protocol):
    """Binds calls of aggregates; `found` counts them."""

    found: int

    def __call__(self, scalars: Scalars, node: Call) -> Value | None:
        """Return the value of an aggregate, None for another function."""


class Scalars:
    """Binds expressions in one scope."""

    def __init__(self, tables: Tables, scope: Scope, aggregates: AggregateBinder | None = None) -> None:
        self.tables = tables
        self.scope = scope
        self._aggregates = aggregates
        self._depth = 0

    def bind(self, node: Expression, *, filtering: bool = False) -> Value:
        """Return the value of an expression. `filtering`: null and false are the same. Raises KqlError."""
        if self._aggregates is None:
            return self._bound(node, filtering=filtering)
        before = self._aggregates.found
        value = self._bound(node, filtering=filtering)
        return replace(value, aggregate=True) if self._aggregates.found > before else value

    def _bound(self, node: Expression, *, filtering: bool) -> Value:
        match node:
            case Literal():
                return constant(node.type, node.value)
            case Name():
                return self._name(node)
            case Call():
                return self.call(node)
            case Operation():
                return self._operation(node, filtering=filtering)
            case Junction():
                return self._junction(node, filtering=filtering)
            case Negation():
                value = self.bind(node.operand)
                return numbers.negated(value, node.span) if node.sign == "-" else value
            case Membership():
                return self._membership(node, filtering=filtering)
            case Between():
                value, low, high = (self.bind(part) for part in (node.value, node.low, node.high))
                return comparisons.between(value, low, high, node.span, negated=node.negated, filtering=filtering)
            case _:
                return self._other(node)

    def _other(self, node: Expression) -> Value:
        match node:
            case Member():
                return self._member(node)
            case Element():
                return self._element(node)
            case SubQuery():
                return self._scalar_of(node)
            case TypeOf():
                return constant(Type.STRING, str(node.type))
            case Star():
                raise KqlError("`*` is no value here", node.span)
        raise AssertionError(node)

    def predicate(self, node: Expression, *, filtering: bool = True) -> Value:
        """Return a condition. Raises KqlError for a value of another type."""
        value = self.bind(node, filtering=filtering)
        if value.type is Type.DYNAMIC:
            value = converted(value, Type.BOOL, node.span)
        if value.type is not Type.BOOL:
            raise KqlError(f"expected a condition, found a {value.type}", node.span)
        return value

    # -- names

    def _name(self, node: Name) -> Value:
        found = self.scope.columns.get(node.text)
        if found is not None:
            return found
        variable = self.scope.variables.get(node.text)
        if isinstance(variable, Value):
            return variable.called("")
        if isinstance(variable, Relation):
            return self.first_value(variable, node.span)
        hint = near(node.text, [*self.scope.columns, *self.scope.variables])
        raise KqlError(f"there is no column or variable `{node.text}`{hint}", node.span)

    def _member(self, node: Member) -> Value:
        if isinstance(node.base, Name) and node.base.text in self.scope.sides:
            column = self.scope.sides[node.base.text].get(node.name)
            if column is None:
                hint = near(node.name, list(self.scope.sides[node.base.text]))
                raise KqlError(f"{node.base.text} has no column `{node.name}`{hint}", node.span)
            return column
        return dynamics.member(self.bind(node.base), node.name, node.span)

    def _element(self, node: Element) -> Value:
        base, index = self.bind(node.base), self.bind(node.index)
        if isinstance(index.constant, str) or (
            isinstance(index.constant, int) and not isinstance(index.constant, bool)
        ):
            return dynamics.member(base, index.constant, node.span)
        return dynamics.computed_member(base, index, node.span)

    # -- operators

    def _junction(self, node: Junction, *, filtering: bool) -> Value:
        values = [self.predicate(term, filtering=filtering) for term in node.terms]
        sql = f" {node.operator.upper()} ".join(value.sql for value in values)
        return Value(f"({sql})", Type.BOOL, any(value.nullable for value in values))

    def _operation(self, node: Operation, *, filtering: bool) -> Value:
        operator = node.operator
        if isinstance(node.left, Star):
            return self._in_any_column(node)
        left, right = self.bind(node.left), self.bind(node.right)
        if operator in ("+", "-", "*", "/", "%"):
            value = numbers.arithmetic(operator, left, right, node.span)
        elif operator in ("==", "!=", "<>", "<", ">", "<=", ">=", "=~", "!~"):
            value = comparisons.compare(operator, left, right, node.span, filtering=filtering)
        else:
            value = self._text_operation(operator, left, right, node)
        return value

    def _text_operation(self, operator: str, left: Value, right: Value, node: Operation) -> Value:
        text = _text(left, node.left.span)
        needle = _text(right, node.right.span)
        if operator == "matches regex":
            try:
                return Value(f"match({text.sql}, {texts.regex(needle)})", Type.BOOL, False)
            except KqlError as error:
                raise KqlError(error.message, node.right.span) from None
        sql = terms.condition(operator.removeprefix("!"), text, needle)
        return Value(f"(NOT {sql})" if operator.startswith("!") else sql, Type.BOOL, False)

    def _in_any_column(self, node: Operation) -> Value:
        """Return `* has "text"`: the condition on any column, each as a text."""
        right = self.bind(node.right)
        found = [
            self._text_operation(node.operator.removeprefix("!"), to_text(column), right, node).sql
            if node.operator not in ("==", "!=", "=~", "!~")
            else comparisons.compare("==", to_text(column), right, node.span, filtering=True).sql
            for column in self.scope.columns.values()
        ]
        sql = f"({' OR '.join(found) or 'false'})"
        return Value(f"(NOT {sql})" if node.operator.startswith("!") else sql, Type.BOOL, False)

    def _membership(self, node: Membership, *, filtering: bool) -> Value:
        negated = node.operator.startswith("!")
        operator = node.operator.removeprefix("!")
        left = self._left_of_list(node)
        if operator in ("has_any", "has_all"):
            value = self._terms(operator, left, node)
        else:
            value = self._in(left, node, sensitive=not operator.endswith("~"))
        if not negated:
            return value if filtering or not value.nullable else Value(f"ifNull({value.sql}, false)", Type.BOOL, False)
        sql = f"NOT ifNull({value.sql}, false)" if value.nullable else f"NOT {value.sql}"
        return Value(f"({sql})", Type.BOOL, False)

    def _left_of_list(self, node: Membership) -> Value:
        if isinstance(node.left, Star):
            columns = ", ".join(to_text(column).sql for column in self.scope.columns.values())
            return Value(f"concatWithSeparator('\\n', {columns})", Type.STRING, False)
        return self.bind(node.left)

    def _terms(self, operator: str, left: Value, node: Membership) -> Value:
        text = to_text(left) if left.type is not Type.STRING else left
        items = [self._list_item(item) for item in node.items]
        known = _constants(items)
        if known is not None:
            needles = [value if isinstance(value, str) else as_json(value) for value in known]
            sql = terms.any_of(text, needles) if operator == "has_any" else terms.each_of(text, needles)
        else:
            sql = terms.computed_list(operator, text, _text_array(items))
        return Value(sql, Type.BOOL, False)

    def _list_item(self, item: Expression) -> Value | Relation:
        relation = self.relation_of(item)
        return self.bind(item) if relation is None else relation

    def relation_of(self, node: Expression) -> Relation | None:
        """Return the table that an expression names, None for a scalar."""
        if isinstance(node, SubQuery):
            return self.tables.relation(node.query, self.scope.without_columns())
        if isinstance(node, Name) and node.text not in self.scope.columns:
            variable = self.scope.variables.get(node.text)
            if variable is None:
                return self.tables.table(node.text, self.scope)
            return variable if isinstance(variable, Relation) else None
        if isinstance(node, Call) and isinstance(self.scope.variables.get(node.function), Function):
            result = self.function(node)
            return result if isinstance(result, Relation) else None
        return None

    def _in(self, left: Value, node: Membership, *, sensitive: bool) -> Value:
        items = [self._list_item(item) for item in node.items]
        if len(items) == 1 and isinstance(items[0], Relation):
            return self._in_table(left, items[0], node.span, sensitive=sensitive)
        values: list[Value] = []
        for item in items:
            if isinstance(item, Relation):
                raise KqlError("a table must be the only element of a list", node.span)
            values += _spread(item)
        if not values:
            return Value("false", Type.BOOL, False)
        if any(value.type is Type.DYNAMIC for value in values):
            array = _text_array(values)
            text = to_text(left) if sensitive else comparisons.lower(to_text(left), node.span)
            known = array if sensitive else f"arrayMap(e -> lowerUTF8(e), {array})"
            return Value(f"has({known}, {text.sql})", Type.BOOL, False)
        return self._in_values(left, values, node.span, sensitive=sensitive)

    def _in_values(self, left: Value, values: list[Value], span: Span, *, sensitive: bool) -> Value:
        if not sensitive and left.type in (*TEXTS, Type.DYNAMIC):
            left = comparisons.lower(left, span)
            values = [comparisons.lower(to_text(value), span) for value in values]
        pairs = [comparisons.aligned(left, value, span) for value in values]
        compared = pairs[0][0]
        if compared.type is Type.DYNAMIC:
            return Value(f"({to_text(left).sql} IN ({', '.join(to_text(v).sql for v in values)}))", Type.BOOL, False)
        rights = list(dict.fromkeys(right.sql for _, right in pairs))
        if all(right.is_constant for _, right in pairs):
            return Value(f"({compared.sql} IN ({', '.join(rights)}))", Type.BOOL, compared.nullable)
        return Value(f"has([{', '.join(rights)}], {compared.sql})", Type.BOOL, False)

    def _in_table(self, left: Value, relation: Relation, span: Span, *, sensitive: bool) -> Value:
        column = relation.columns[0]
        right = column.value()
        if left.type is Type.DYNAMIC or not sensitive or right.type is Type.DYNAMIC:
            left, right = to_text(left), to_text(right)
        if not sensitive:
            left, right = comparisons.lower(left, span), comparisons.lower(right, span)
        if left.type is not right.type and not (left.type in TEXTS and right.type in TEXTS):
            type_ = widest((left.type, right.type)) if _both_numbers(left, right) else None
            if type_ is None:
                raise KqlError(f"a {left.type} cannot be compared with the {right.type} `{column.name}`", span)
        return Value(f"({left.sql} IN (SELECT {right.sql} FROM {relation.source} AS t))", Type.BOOL, left.nullable)

    # -- functions

    def call(self, node: Call) -> Value:
        """Return the value of a function. Raises KqlError for an unknown one."""
        if isinstance(self.scope.variables.get(node.function), Function):
            result = self.function(node)
            return self.first_value(result, node.span) if isinstance(result, Relation) else result
        if self._aggregates is not None:
            found = self._aggregates(self, node)
            if found is not None:
                return found
        special = functions.SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        arguments = [self.bind(argument.value) for argument in node.arguments]
        return functions.call(node, arguments, [argument.value.span for argument in node.arguments])

    def function(self, node: Call) -> Value | Relation:
        """Return what a function of the query gives. Raises KqlError for wrong arguments."""
        function = self.scope.variables[node.function]
        assert isinstance(function, Function)
        scope = self._with_arguments(function, node.arguments, node.span)
        if self._depth >= FUNCTION_DEPTH_MAX:
            raise KqlError(f"functions call each other deeper than {FUNCTION_DEPTH_MAX} levels", node.span)
        inner = Scalars(self.tables, scope)
        inner._depth = self._depth + 1
        for let in function.let.lets:
            inner.scope = inner.with_let(let.name, let.value if let.parameters is None else Function(let, inner.scope))
        body = function.let.value
        if isinstance(body, Query):
            return self.tables.relation(body, inner.scope)
        relation = inner.relation_of(body)
        return relation if relation is not None else inner.bind(body)

    def with_let(self, name: str, meaning: Expression | Query | Function) -> Scope:
        """Return the scope with a variable of a `let` statement."""
        if isinstance(meaning, Function):
            return self.scope.with_variable(name, meaning)
        if isinstance(meaning, Query):
            return self.scope.with_variable(name, self.tables.relation(meaning, self.scope))
        relation = self.relation_of(meaning)
        return self.scope.with_variable(name, self.bind(meaning) if relation is None else relation)

    def _with_arguments(self, function: Function, arguments: Sequence[Argument], span: Span) -> Scope:
        parameters = function.let.parameters or ()
        given = {argument.name: argument for argument in arguments if argument.name}
        ordered = [argument for argument in arguments if not argument.name]
        if len(ordered) > len(parameters):
            raise KqlError(f"`{function.let.name}` takes {len(parameters)} arguments, found {len(arguments)}", span)
        scope = function.scope
        for number, parameter in enumerate(parameters):
            argument = (
                ordered[number].value if number < len(ordered) else getattr(given.get(parameter.name), "value", None)
            )
            if argument is None and parameter.default is None:
                raise KqlError(f"`{function.let.name}` needs the argument `{parameter.name}`", span)
            expression = parameter.default if argument is None else argument
            assert expression is not None
            relation = self.relation_of(expression)
            if relation is not None:
                scope = scope.with_variable(parameter.name, relation)
                continue
            value = self.bind(expression)
            if parameter.type is not None and value.type is not parameter.type:
                value = converted(value, parameter.type, expression.span)
            scope = scope.with_variable(parameter.name, value)
        return scope

    # -- tables as values

    def _scalar_of(self, node: SubQuery) -> Value:
        return self.first_value(self.tables.relation(node.query, self.scope.without_columns()), node.span)

    def first_value(self, relation: Relation, span: Span) -> Value:
        """Return the first column of the first row, as `toscalar` does. Raises KqlError for a table without columns."""
        if not relation.columns:
            raise KqlError("the table has no column", span)
        column = relation.columns[0]
        order = f" ORDER BY {', '.join(key.sql for key in relation.order)}" if relation.order else ""
        sql = f"(SELECT t.{identifier(column.name)} FROM {relation.source} AS t{order} LIMIT 1)"
        if column.type in (Type.STRING, Type.GUID, Type.DYNAMIC):
            return Value(f"ifNull({sql}, '')", column.type, False)
        return Value(sql, column.type, True)

    def named(self, item: Named) -> tuple[str, Value]:
        """Return an item of a list with the name of its column; "" where KQL makes one up."""
        value = self.bind(item.value)
        return (item.names[0] if item.names else value.name), value


def _text(value: Value, span: Span) -> Value:
    if value.type is Type.STRING:
        return value
    if value.type in (Type.DYNAMIC, Type.GUID) or (value.is_constant and value.constant is None):
        return to_text(value)
    raise KqlError(f"expected a string, found a {value.type}; convert it with tostring( )", span)


def _both_numbers(left: Value, right: Value) -> bool:
    kinds = {Type.INT, Type.LONG, Type.REAL, Type.DECIMAL}
    return {left.type, right.type} <= kinds


def _spread(value: Value) -> list[Value]:
    """Return the elements of a constant array, anything else as it is."""
    if value.type is Type.DYNAMIC and isinstance(value.constant, list):
        return [_element_value(item) for item in value.constant]
    return [value]


def _element_value(item: object) -> Value:
    if isinstance(item, bool):
        return constant(Type.BOOL, item)
    if isinstance(item, int):
        return constant(Type.LONG, item)
    if isinstance(item, float):
        return constant(Type.REAL, item)
    if isinstance(item, str):
        return constant(Type.STRING, item)
    return constant(Type.DYNAMIC, item)


def _constants(items: Sequence[Value | Relation]) -> list[object] | None:
    """Return all constants of a list, arrays spread; None if one is known only when the query runs."""
    found: list[object] = []
    for item in items:
        if isinstance(item, Relation) or not item.is_constant:
            return None
        found += item.constant if isinstance(item.constant, list) else [item.constant]
    return found


def _text_array(items: Sequence[Value | Relation]) -> str:
    """Return the texts of all items as an Array(String) in SQL."""
    parts: list[str] = []
    for item in items:
        if isinstance(item, Relation):
            column = to_text(item.columns[0].value()).sql
            parts.append(f"(SELECT groupUniqArray({column}) FROM {item.source} AS t)")
        elif item.type is Type.DYNAMIC:
            parts.append(
                f"if(JSONType({item.sql}) = 'Array', {dynamics.element_texts(item)}, [{to_text(item).sql}])"
                if not item.is_constant
                else dynamics.element_texts(item)
            )
        else:
            parts.append(f"[{to_text(item).sql}]")
    return parts[0] if len(parts) == 1 else f"arrayConcat({', '.join(parts)})"
