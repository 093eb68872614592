"""Reads a query: statements, sources and pipes. `parse` is the entry point.

Operators behind a pipe are in `operators.py`. Source: learn.microsoft.com/kusto/query/statements.
"""

from __future__ import annotations

from collections.abc import Callable

from hunting.kql.errors import KqlError
from hunting.kql.expressions import Expressions
from hunting.kql.lexer import Kind, Token, tokens
from hunting.kql.operators import Operators
from hunting.kql.stream import Stream
from hunting.kql.syntax import (
    Argument,
    ColumnType,
    Datatable,
    Expression,
    ExternalData,
    Find,
    Let,
    Materialize,
    Parameter,
    Print,
    Query,
    Range,
    Script,
    Source,
    SubQuery,
    Table,
)
from hunting.kql.types import named


def parse(text: str) -> Script:
    """Return the parts of a query. Raises KqlError with the place of the first mistake."""
    return Parser(tokens(text)).script()


class Parser:
    """Reads statements and sources."""

    def __init__(self, words: list[Token]) -> None:
        self._stream = Stream(words)
        self._scalar = Expressions(self._stream, self.query)
        self._operators = Operators(self._stream, self._scalar, self.query, self.column_types)

    def script(self) -> Script:
        """Read all statements: the last one is the query."""
        stream = self._stream
        lets: list[Let] = []
        parameters: tuple[Parameter, ...] = ()
        query: Query | None = None
        start = stream.current.span
        while not stream.at_end():
            if stream.accept(";"):
                continue
            if query is not None:
                raise KqlError("a second query; one query at a time, with `let` for named parts", stream.current.span)
            if stream.is_word("let"):
                lets.append(self._let())
            elif stream.is_word("declare"):
                parameters = self._declare()
            elif stream.is_word("set") and stream.ahead().kind is Kind.NAME:
                self._skip_setting()
            else:
                query = self.query()
            if not stream.is_sign(";") and not stream.at_end():
                stream.fail("`|`, `;` or the end of the query")
        if query is None:
            stream.fail("a query such as `DeviceNetworkEvents | take 10`")
            raise AssertionError
        return Script(tuple(lets), query, parameters, span=start.to(stream.current.span))

    def _skip_setting(self) -> None:
        """Request settings of Kusto have no meaning here; those of ClickHouse are the caller's."""
        while not self._stream.is_sign(";") and not self._stream.at_end():
            self._stream.advance()

    def _declare(self) -> tuple[Parameter, ...]:
        self._stream.advance()
        self._stream.expect("query_parameters")
        self._stream.expect("(")
        return self._parameters()

    def _let(self) -> Let:
        stream = self._stream
        start = stream.advance()
        name = stream.name("the name of a variable")
        stream.expect("=")
        with stream.nested():
            if self._is_function():
                return self._function(name.value)
            value = self._scalar.table_or_expression()
        if isinstance(value, SubQuery):
            return Let(name.value, value.query, span=start.span.to(value.span))
        return Let(name.value, value, span=start.span.to(value.span))

    def _is_function(self) -> bool:
        """A function has `(parameters) {`: look for the brace behind the closing parenthesis. A view is one as well."""
        stream = self._stream
        if stream.is_word("view") and stream.ahead().value == "(":
            stream.advance()
        if not stream.is_sign("("):
            return False
        depth, distance = 0, 0
        while stream.ahead(distance).kind is not Kind.END:
            value, is_sign = stream.ahead(distance).value, stream.ahead(distance).kind is Kind.SIGN
            depth += (is_sign and value == "(") - (is_sign and value == ")")
            distance += 1
            if depth == 0:
                return stream.ahead(distance).value == "{" and stream.ahead(distance).kind is Kind.SIGN
            if is_sign and value in ("|", ";", "{"):
                return False
        return False

    def _function(self, name: str) -> Let:
        stream = self._stream
        stream.advance()
        parameters = self._parameters()
        opening = stream.expect("{")
        lets: list[Let] = []
        while stream.is_word("let"):
            lets.append(self._let())
            stream.expect(";")
        value = self._scalar.table_or_expression()
        stream.accept(";")
        end = stream.expect("}", what="`|`, `;` or `}`")
        body = value.query if isinstance(value, SubQuery) else value
        return Let(name, body, parameters, tuple(lets), span=opening.span.to(end.span))

    def _parameters(self) -> tuple[Parameter, ...]:
        stream = self._stream
        found: list[Parameter] = []
        while not stream.accept(")"):
            name = stream.name("a parameter")
            stream.expect(":")
            if stream.accept("("):
                self._table_type()
                found.append(Parameter(name.value, None))
            else:
                word = stream.name("a type")
                type_ = named(word.value)
                if type_ is None:
                    raise KqlError(f"`{word.value}` is no type", word.span)
                default = self._scalar.expression() if stream.accept("=") else None
                found.append(Parameter(name.value, type_, default))
            if not stream.accept(","):
                stream.expect(")", what="`,` or `)`")
                break
        return tuple(found)

    def _table_type(self) -> None:
        """Read `(*)` or `(name: type, ...)`: the binder looks at the table that is given."""
        if self._stream.accept("*"):
            self._stream.expect(")")
        else:
            self.column_types()

    def column_types(self) -> tuple[ColumnType, ...]:
        """Read `name: type, ...)`, the opening parenthesis has been read."""
        stream = self._stream
        found: list[ColumnType] = []
        while not stream.accept(")"):
            name = stream.name("a column")
            stream.expect(":")
            word = stream.name("a type")
            type_ = named(word.value)
            if type_ is None:
                raise KqlError(f"`{word.value}` is no type", word.span)
            found.append(ColumnType(name.value, type_))
            if not stream.accept(","):
                stream.expect(")", what="`,` or `)`")
                break
        return tuple(found)

    def query(self) -> Query:
        """Read a source and the operators behind it."""
        with self._stream.nested():
            start = self._stream.current.span
            source = self._source()
            operators = self._operators.piped()
        return Query(source, operators, span=start.to(self._stream.last_span))

    def _source(self) -> Source | Query:
        stream = self._stream
        if stream.accept("("):
            inner = self.query()
            stream.expect(")", what="`|` or `)`")
            return inner
        readers: dict[str, Callable[[], Source]] = {
            "print": self._print,
            "range": self._range,
            "union": lambda: self._operators.union(self._union_start()),
            "search": lambda: self._operators.search(self._union_start()),
            "find": self._find,
            "datatable": self._datatable,
            "externaldata": self._externaldata,
            "materialize": self._materialize,
        }
        word = stream.current
        if word.kind is Kind.NAME and word.value in readers and stream.ahead().value not in ("|", ";", ","):
            return readers[word.value]()
        return self._table()

    def _union_start(self) -> int:
        return self._stream.advance().span.start

    def _table(self) -> Table:
        stream = self._stream
        word = stream.name("a table")
        span, name = word.span, word.value
        if not stream.is_sign("("):
            return Table(name, span=span)
        arguments = self._arguments()
        if name in ("database", "cluster", "workspace", "app") and stream.is_sign("."):
            raise KqlError(f"`{name}(...)`: there is one database here; write the name of the table alone", span)
        if name == "table" and len(arguments) == 1:
            value = arguments[0].value
            return Table(str(getattr(value, "value", "")), span=span)
        return Table(name, arguments, span=span.to(stream.last_span))

    def _arguments(self) -> tuple[Argument, ...]:
        stream = self._stream
        stream.expect("(")
        found: list[Argument] = []
        while not stream.accept(")"):
            name = ""
            if stream.current.kind is Kind.NAME and stream.ahead().value == "=":
                name = stream.advance().value
                stream.advance()
            found.append(Argument(self._scalar.table_or_expression(), name))
            if not stream.accept(","):
                stream.expect(")", what="`,` or `)`")
                break
        return tuple(found)

    def _print(self) -> Print:
        start = self._stream.advance()
        values = self._scalar.several()
        return Print(values, span=start.span.to(self._stream.last_span))

    def _range(self) -> Range:
        stream = self._stream
        start = stream.advance()
        column = stream.name("a column")
        stream.expect("from")
        first = self._scalar.expression()
        stream.expect("to")
        last = self._scalar.expression()
        stream.expect("step")
        step = self._scalar.expression()
        return Range(column.value, first, last, step, span=start.span.to(step.span))

    def _datatable(self) -> Datatable:
        stream = self._stream
        start = stream.advance()
        stream.expect("(")
        columns = self.column_types()
        stream.expect("[")
        values: list[Expression] = []
        while not stream.is_sign("]"):
            values.append(self._scalar.expression())
            if not stream.accept(","):
                break
        end = stream.expect("]", what="`,` or `]`")
        return Datatable(columns, tuple(values), span=start.span.to(end.span))

    def _externaldata(self) -> ExternalData:
        stream = self._stream
        start = stream.advance()
        stream.expect("(")
        columns = self.column_types()
        stream.expect("[")
        addresses: list[str] = []
        while not stream.is_sign("]"):
            word = stream.advance()
            if word.kind is not Kind.TEXT:
                raise KqlError(f"found `{word.value[:40]}`, expected an address in quotes", word.span)
            addresses.append(word.value)
            stream.accept(",")
        stream.expect("]")
        properties = self._operators.properties()
        return ExternalData(columns, tuple(addresses), properties, span=start.span.to(stream.last_span))

    def _materialize(self) -> Materialize:
        start = self._stream.advance()
        self._stream.expect("(")
        query = self.query()
        end = self._stream.expect(")", what="`|` or `)`")
        return Materialize(query, span=start.span.to(end.span))

    def _find(self) -> Find:
        stream = self._stream
        start = stream.advance()
        options = dict(self._operators.options())
        tables: tuple[str, ...] = ()
        if stream.accept("in"):
            tables = self._operators.table_names()
        stream.accept("where")
        predicate = self._scalar.searched()
        projected: tuple[str, ...] = ()
        if stream.accept("project"):
            projected = tuple(name for name, _, _ in self._operators.patterns())
        source = str(options.get("withsource") or "source_")
        return Find(tables, predicate, source, projected, span=start.span.to(stream.last_span))
