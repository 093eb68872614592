"""KQL to ClickHouse SQL: `translate` is the entry point of this package.

Each operator of the query becomes one common table expression (CTE) that is called `q` and a number; the operator's text is
its comment. The last SELECT names the columns and sorts the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hunting.kql import syntax
from hunting.kql.errors import KqlError, Span
from hunting.kql.parser import parse
from hunting.kql.protocols import Table
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Function, Relation, Scope
from hunting.kql.syntax import ColumnType, Print, Query, Render, Script
from hunting.kql.tabular import candidates, operators, sources
from hunting.kql.types import Type
from hunting.kql.values import SQL_CHARS_MAX, Value, constant, converted, identifier, to_text

TABLES_MAX = 500
"""Tables that one query may read, each use counted: ClickHouse runs a CTE again for each use."""
SHOWN_CHARS_MAX = 200
"""Characters of an operator in the comment of its CTE."""


Ask = Callable[[str], Sequence[tuple[str, Sequence[str]]]]
"""Runs SQL that gives names of properties, each with the JSON types that occur."""


@dataclass(frozen=True, slots=True)
class Result:
    """A translated query: its SQL, its columns, and the chart that `render` asks for ("" for none)."""

    sql: str
    columns: tuple[Column, ...]
    chart: str = ""
    chart_properties: Mapping[str, object] | None = None


def translate(
    text: str,
    tables: Mapping[str, Table],
    *,
    now: int | None = None,
    parameters: Mapping[str, str] | None = None,
    external: Callable[[str], str] | None = None,
    ask: Ask | None = None,
) -> Result:
    """Return the SQL of a KQL query.

    `now` is the time of the query in microseconds since 1970, by default the clock's. `parameters` replace the values of
    `let` statements and of `declare query_parameters`, written as KQL. `external` returns the content of an address of
    `externaldata`; without it such queries are refused. `ask` runs SQL, for `bag_unpack` without declared columns. Raises
    KqlError.
    """
    script = parse(text)
    translation = Translation(text, tables, time.time_ns() // 1000 if now is None else now, external, ask)
    return translation.run(script, dict(parameters or {}))


class Translation:
    """One query on its way to SQL: the CTEs so far."""

    def __init__(
        self,
        text: str,
        tables: Mapping[str, Table],
        now: int,
        external: Callable[[str], str] | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.text = text
        self.now = now
        self.database = tables
        self.external = external
        self._ask = ask
        self._ctes: list[tuple[str, str, str]] = []
        self._chars = 0
        self.chart: Render | None = None

    def run(self, script: Script, parameters: dict[str, str]) -> Result:
        """Return the result of a whole query. Raises KqlError."""
        scope = self._with_lets(script, parameters)
        relation = self.relation(script.query, scope)
        sql = self._final(relation)
        properties = dict(self.chart.properties) if self.chart else None
        return Result(sql, relation.columns, self.chart.chart if self.chart else "", properties)

    def _with_lets(self, script: Script, parameters: dict[str, str]) -> Scope:
        scalars = Scalars(self, Scope())
        for parameter in script.parameters:
            written = parameters.pop(parameter.name, None)
            value = self._parameter(written, parameter.name) if written is not None else None
            if value is None and parameter.default is not None:
                value = scalars.bind(parameter.default)
            if value is None:
                raise KqlError(f"the parameter `{parameter.name}` has no value", script.span)
            if parameter.type is not None:
                value = converted(value, parameter.type, script.span)
            scalars.scope = scalars.scope.with_variable(parameter.name, value)
        for let in script.lets:
            if let.name in parameters:
                scalars.scope = scalars.scope.with_variable(
                    let.name, self._parameter(parameters.pop(let.name), let.name)
                )
            elif let.parameters is not None:
                scalars.scope = scalars.scope.with_variable(let.name, Function(let, scalars.scope))
            else:
                scalars.scope = scalars.with_let(let.name, let.value)
        if parameters:
            raise KqlError(f"the query has no variable `{next(iter(parameters))}`", Span(0, 1))
        return scalars.scope

    def _parameter(self, written: str, name: str) -> Value:
        """Return the value of a parameter: a KQL expression; what is none is taken as a text."""
        try:
            source = parse(f"print {written}").query.source
            if isinstance(source, Print) and len(source.values) == 1:
                return Scalars(self, Scope()).bind(source.values[0].value)
        except KqlError:
            pass
        return constant(Type.STRING, written).called(name)

    # -- what the binders call

    def relation(self, query: Query, scope: Scope) -> Relation:
        """Return the table of a query. Raises KqlError."""
        source = query.source
        if source is None:
            assert scope.relation is not None
            relation = scope.relation
        else:
            relation = self._source(query, source, scope)
        for operator in query.operators:
            if isinstance(operator, Render):
                self.chart = operator
                continue
            relation, scope = operators.bind(self, operator, relation, scope)
        return relation

    def _source(self, query: Query, source: syntax.Source | Query, scope: Scope) -> Relation:
        if isinstance(source, Query):
            return self.relation(source, scope)
        if isinstance(source, syntax.Table) and (fewer := candidates.source_of(self, query, scope)):
            return sources.of_database(self, source.name, replace(self.database[source.name], source=fewer))
        return sources.bind(self, source, scope)

    def table(self, name: str, scope: Scope) -> Relation | None:
        """Return a variable or a table of the database, None if there is none."""
        variable = scope.variables.get(name)
        if isinstance(variable, Relation):
            return variable
        found = self.database.get(name)
        return None if found is None else sources.of_database(self, name, found)

    def properties_of(self, relation: Relation, bag: Column) -> list[ColumnType]:
        """Return the properties that a bag has in the rows, with their types; empty where the rows cannot be asked."""
        if self._ask is None:
            return []
        key, kind = "tupleElement(p, 1)", "toString(JSONType(tupleElement(p, 2)))"
        pairs = f"arrayJoin(JSONExtractKeysAndValuesRaw({bag.value().sql})) AS p"
        rows = f"(SELECT {pairs} FROM {relation.source} AS t)"
        sql = f"{self._with()}SELECT {key}, groupUniqArray({kind}) FROM {rows} GROUP BY 1 ORDER BY 1"
        return [ColumnType(name, _type_of_json(kinds)) for name, kinds in self._ask(sql)]

    def cte(self, body: str, relation: Relation, span: Span | str, *, materialized: bool = False) -> Relation:
        """Add a SELECT and return the relation that reads from it; its columns are those of `relation`.

        `span` is the operator, or a comment of its own. `materialized`: ClickHouse runs it once. It runs others again for each
        use.
        """
        name = f"q{len(self._ctes) + 1}"
        self._chars += len(body)
        place = Span(0, 1) if isinstance(span, str) else span
        if self._chars > SQL_CHARS_MAX:
            raise KqlError(f"the query's SQL exceeds {SQL_CHARS_MAX:,} characters", place)
        if relation.weight > TABLES_MAX:
            raise KqlError(f"the query reads more than {TABLES_MAX} tables, each use of a variable counted", place)
        self._ctes.append((f"{name} AS MATERIALIZED" if materialized else f"{name} AS", self._comment(span), body))
        return Relation(
            name,
            relation.columns,
            relation.order,
            relation.hidden,
            relation.partition,
            relation.weight,
            relation.serialized,
            relation.name,
        )

    def _comment(self, span: Span | str) -> str:
        if isinstance(span, str):
            return span
        shown = " ".join(self.text[span.start : span.end].split())
        return shown[:SHOWN_CHARS_MAX] + ("..." if len(shown) > SHOWN_CHARS_MAX else "")

    def _final(self, relation: Relation) -> str:
        shown = []
        for column in relation.columns:
            value = column.value()
            if column.type is Type.TIMESPAN:
                text = to_text(value).sql
                sql = f"if(isNull({value.sql}), NULL, {text})" if value.nullable else text
                shown.append(f"{sql} AS {identifier(column.name)}")
            else:
                shown.append(value.sql)
        if not shown:
            raise KqlError("the result has no columns", Span(0, len(self.text)))
        order = f"\nORDER BY {', '.join(key.sql for key in relation.order)}" if relation.order else ""
        return f"{self._with()}SELECT {', '.join(shown)}\nFROM {relation.source} AS t{order}\n"

    def _with(self) -> str:
        parts = [f"-- {comment}\n{head} (\n  {body}\n)" for head, comment, body in self._ctes]
        return "WITH\n" + ",\n".join(parts) + "\n" if parts else ""


def _type_of_json(kinds: Sequence[str]) -> Type:
    """Return the type of a column that holds values of these JSON types."""
    known = {"Int64": Type.LONG, "UInt64": Type.LONG, "Double": Type.REAL, "String": Type.STRING, "Bool": Type.BOOL}
    types = {known.get(kind, Type.DYNAMIC) for kind in kinds if kind != "Null"}
    return types.pop() if len(types) == 1 else Type.DYNAMIC
