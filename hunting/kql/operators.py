"""Reads the operators behind a pipe. Source: learn.microsoft.com/kusto/query/tabular-operators."""

from __future__ import annotations

from collections.abc import Callable

from hunting.kql import syntax as s
from hunting.kql.array_operators import ArrayOperators
from hunting.kql.errors import KqlError
from hunting.kql.expressions import Expressions
from hunting.kql.lexer import Kind
from hunting.kql.row_operators import RowOperators
from hunting.kql.stream import Stream

JOIN_KINDS = (
    "innerunique", "inner", "leftouter", "rightouter", "fullouter", "leftanti", "leftsemi", "rightanti", "rightsemi", "anti",
    "leftantisemi", "rightantisemi",
)  # fmt: skip


class Operators(RowOperators, ArrayOperators):
    """Reads all operators; those of several tables are here."""

    def __init__(
        self,
        stream: Stream,
        scalar: Expressions,
        query: Callable[[], s.Query],
        column_types: Callable[[], tuple[s.ColumnType, ...]],
    ) -> None:
        super().__init__(stream, scalar, query, column_types)
        self._readers = {
            "where": self._where, "filter": self._where, "extend": self._extend, "project": self._project,
            "project-away": self._names("project-away"), "project-keep": self._names("project-keep"),
            "project-reorder": self._names("project-reorder"), "project-rename": self._rename,
            "summarize": self._summarize, "take": self._take, "limit": self._take, "top": self._top,
            "top-nested": self._top_nested, "sort": self._sort, "order": self._sort, "distinct": self._distinct,
            "count": self._count, "join": self._join, "lookup": self._join,
            "union": lambda at: s.UnionWith(self.union(at), span=self._since(at)),
            "mv-expand": self._mv_expand, "mvexpand": self._mv_expand, "mv-apply": self._mv_apply,
            "parse": self._parse, "parse-where": self._parse, "parse-kv": self._parse_kv, "evaluate": self._evaluate,
            "make-series": self._make_series, "render": self._render, "invoke": self._invoke,
            "search": lambda at: s.PipedSearch(self.search(at), span=self._since(at)),
            "serialize": self._serialize, "sample": self._sample, "sample-distinct": self._sample,
            "getschema": lambda at: s.GetSchema(span=self._since(at)), "as": self._as, "partition": self._partition,
            "scan": self._scan,
        }  # fmt: skip

    def _join(self, at: int) -> s.Operator:
        stream = self._stream
        lookup = self._word == "lookup"
        start = stream.current.span
        options = dict(self.options())
        kind = str(options.get("kind", "leftouter" if lookup else "innerunique"))
        if kind not in JOIN_KINDS or (lookup and kind not in ("leftouter", "inner")):
            raise KqlError(f"`{kind}` is no kind of join", start)
        right = self._table_operand()
        stream.expect("on")
        on = [self._scalar.expression()]
        while stream.accept(","):
            on.append(self._scalar.expression())
        return s.Join(kind, right, tuple(on), lookup, span=self._since(at))

    def _table_operand(self) -> s.Query:
        """Read a table: its name, a function, or a query in parentheses."""
        stream = self._stream
        if stream.accept("("):
            query = self._query()
            stream.expect(")", what="`|` or `)`")
            return query
        word = stream.current
        if not stream.is_name():
            stream.fail("a table")
        expression = self._scalar.expression() if stream.ahead().value == "(" else None
        if isinstance(expression, s.Call):
            table = s.Table(expression.function, expression.arguments, span=expression.span)
        else:
            table = s.Table(stream.name().value, span=word.span)
        return s.Query(table, span=table.span)

    def union(self, at: int) -> s.Union:
        """Read the options and tables of a union; the word itself has been read."""
        options = dict(self.options())
        tables = [self._union_table()]
        while self._stream.accept(","):
            tables.append(self._union_table())
        return s.Union(
            tuple(tables), options.get("kind") == "inner", str(options.get("withsource", "")), span=self._since(at)
        )

    def _union_table(self) -> s.Query:
        if self._stream.is_sign("*") or (self._stream.is_name() and self._stream.ahead().value == "*"):
            name, span = self._pattern()
            return s.Query(s.Table(name, span=span), span=span)
        return self._table_operand()

    def search(self, at: int) -> s.Search:
        """Read options, tables and predicate of a search; the word itself has been read."""
        options = dict(self.options())
        tables: tuple[str, ...] = ()
        if self._stream.accept("in"):
            tables = self.table_names()
        predicate = self._scalar.searched()
        return s.Search(tables, predicate, options.get("kind") == "case_sensitive", span=self._since(at))

    def _render(self, at: int) -> s.Operator:
        chart = self._stream.name("a chart").value
        return s.Render(chart, self._render_properties(), span=self._since(at))

    def _render_properties(self) -> tuple[tuple[str, object], ...]:
        stream = self._stream
        if not stream.accept("with"):
            return ()
        stream.expect("(")
        found: list[tuple[str, object]] = []
        while not stream.accept(")"):
            name = stream.name("a property")
            stream.expect("=")
            value = stream.advance().value
            while not stream.is_sign(",", ")") and stream.current.kind is not Kind.END:
                value += stream.advance().value
            if not stream.accept(","):
                if not stream.is_sign(")"):
                    stream.fail("`)`")
            elif stream.current.kind is Kind.NAME and stream.ahead().value in (",", ")"):
                value += "," + stream.advance().value
                stream.accept(",")
            found.append((name.value, value))
        return tuple(found)

    def _invoke(self, at: int) -> s.Operator:
        call = self._scalar.expression()
        if not isinstance(call, s.Call):
            raise KqlError("expected a function such as f()", call.span)
        return s.Invoke(call, span=self._since(at))

    def _as(self, at: int) -> s.Operator:
        dict(self.options())
        return s.As(self._stream.name().value, span=self._since(at))

    def _partition(self, at: int) -> s.Operator:
        dict(self.options())
        self._stream.expect("by")
        column = self._stream.name("a column").value
        opening = "{" if self._stream.is_sign("{") else "("
        return s.Partition(column, self._subquery(opening), span=self._since(at))
