"""Reads the operators behind a pipe. Source: learn.microsoft.com/kusto/query/tabular-operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.expressions import Expressions
from hunting.kql.lexer import Kind
from hunting.kql.stream import Stream
from hunting.kql.types import Type, named

JOIN_KINDS = (
    "innerunique", "inner", "leftouter", "rightouter", "fullouter", "leftanti", "leftsemi", "rightanti", "rightsemi", "anti",
    "leftantisemi", "rightantisemi",
)  # fmt: skip
MVEXPAND_LIMIT = 128
"""Rows that `mvexpand` makes of one (learn.microsoft.com/kusto/query/mv-expand-operator); `mv-expand` has no limit."""
PIPES_MAX = 500
"""Operators behind one source."""


class Operators:
    """Reads operators from a stream."""

    def __init__(
        self,
        stream: Stream,
        scalar: Expressions,
        query: Callable[[], s.Query],
        column_types: Callable[[], tuple[s.ColumnType, ...]],
    ) -> None:
        self._stream = stream
        self._scalar = scalar
        self._query = query
        self._column_types = column_types
        self._readers: dict[str, Callable[[int], s.Operator]] = {
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

    def piped(self) -> tuple[s.Operator, ...]:
        """Read all operators, each with the pipe before it."""
        found: list[s.Operator] = []
        while self._stream.accept("|"):
            found.append(self._operator())
            if len(found) > PIPES_MAX:
                raise KqlError(f"more than {PIPES_MAX} operators", self._stream.current.span)
        return tuple(found)

    def _operator(self) -> s.Operator:
        stream = self._stream
        word = stream.dashed()
        self._word = word.value
        reader = self._readers.get(word.value)
        if reader is None:
            raise KqlError(
                f"found `{word.value[:40]}`, expected an operator such as where, extend or summarize", word.span
            )
        return reader(word.span.start)

    def _since(self, start: int) -> Span:
        return Span(start, self._stream.last_span.end)

    # -- rows and columns

    def _where(self, at: int) -> s.Operator:
        predicate = self._scalar.expression()
        return s.Where(predicate, span=self._since(at))

    def _values(self) -> tuple[s.Named, ...]:
        found = self._scalar.several()
        if not found:
            self._stream.fail("an expression")
        return found

    def _extend(self, at: int) -> s.Operator:
        return s.Extend(self._values(), span=self._since(at))

    def _project(self, at: int) -> s.Operator:
        return s.Project(self._scalar.several(), span=self._since(at))

    def _distinct(self, at: int) -> s.Operator:
        return s.Distinct(self._values(), span=self._since(at))

    def _serialize(self, at: int) -> s.Operator:
        return s.Serialize(self._scalar.several(), span=self._since(at))

    def _names(self, operator: str) -> Callable[[int], s.Operator]:
        return lambda at: s.ProjectNames(operator, self.patterns(), span=self._since(at))

    def patterns(self) -> tuple[tuple[str, str, Span], ...]:
        """Read names of columns, with `*` in them or not, and with an order (`asc`, `desc`, ...) or not."""
        found: list[tuple[str, str, Span]] = []
        while True:
            name, span = self._pattern()
            found.append((name, self._order_of_names(), span))
            if not self._stream.accept(","):
                return tuple(found)

    def _order_of_names(self) -> str:
        """Take `asc`, `desc`, `granny-asc` or `granny-desc`; "" where none follows."""
        stream = self._stream
        if not stream.is_word("asc", "desc", "granny"):
            return ""
        word = stream.dashed()
        if word.value not in ("asc", "desc", "granny-asc", "granny-desc"):
            raise KqlError(
                f"found `{word.value[:40]}`, expected `asc`, `desc`, `granny-asc` or `granny-desc`", word.span
            )
        return word.value

    def _pattern(self) -> tuple[str, Span]:
        stream = self._stream
        first = stream.current
        if not (stream.is_name() or stream.is_sign("*")):
            stream.fail("a column")
        parts, end = "", first.span.start
        while stream.current.span.start == end and (stream.is_name() or stream.is_sign("*")):
            word = stream.name() if stream.is_name() else stream.advance()
            parts += word.value
            end = word.span.end
        return parts, Span(first.span.start, end)

    def _rename(self, at: int) -> s.Operator:
        stream = self._stream
        pairs: list[tuple[str, str, Span]] = []
        while True:
            new = stream.name("the new name of a column")
            stream.expect("=")
            old = stream.name("a column")
            pairs.append((new.value, old.value, old.span))
            if not stream.accept(","):
                return s.Rename(tuple(pairs), span=self._since(at))

    # -- groups and order

    def _summarize(self, at: int) -> s.Operator:
        dict(self.options())
        aggregates = self._scalar.several("by")
        by = self._values() if self._stream.accept("by") else ()
        if not aggregates and not by:
            self._stream.fail("an aggregate such as count(), or `by`")
        return s.Summarize(aggregates, by, span=self._since(at))

    def _sort(self, at: int) -> s.Operator:
        dict(self.options())
        self._stream.expect("by")
        return s.Sort(self._keys(), span=self._since(at))

    def _keys(self) -> tuple[s.SortKey, ...]:
        found = [self._key()]
        while self._stream.accept(","):
            found.append(self._key())
        return tuple(found)

    def _key(self) -> s.SortKey:
        value = self._scalar.expression()
        order = self._stream.accept("asc", "desc")
        nulls_first: bool | None = None
        if self._stream.accept("nulls"):
            nulls_first = self._stream.expect("first", "last").value == "first"
        return s.SortKey(value, order is None or order.value == "desc", nulls_first)

    def _take(self, at: int) -> s.Operator:
        return s.Take(self._scalar.expression(), span=self._since(at))

    def _top(self, at: int) -> s.Operator:
        count = self._scalar.expression()
        self._stream.expect("by")
        return s.Take(count, self._keys(), span=self._since(at))

    def _top_nested(self, at: int) -> s.Operator:
        levels = [self._level()]
        while self._stream.accept(","):
            if self._stream.is_word("top") and self._stream.ahead().value == "-":
                self._stream.dashed()
            levels.append(self._level())
        return s.TopNested(tuple(levels), span=self._since(at))

    def _level(self) -> s.TopLevel:
        stream = self._stream
        count = None if stream.is_word("of") else self._scalar.expression()
        stream.expect("of")
        by = self._scalar.named()
        others: s.Expression | None = None
        if stream.accept("with"):
            stream.expect("others")
            stream.expect("=")
            others = self._scalar.expression()
        stream.expect("by")
        measure = self._scalar.named()
        order = stream.accept("asc", "desc")
        key = s.SortKey(measure.value, order is None or order.value == "desc")
        return s.TopLevel(count, by, others, key, measure.names[0] if measure.names else "")

    def _count(self, at: int) -> s.Operator:
        name = self._stream.name().value if self._stream.accept("as") else "Count"
        return s.Count(name, span=self._since(at))

    def _sample(self, at: int) -> s.Operator:
        distinct = self._word == "sample-distinct"
        count = self._scalar.expression()
        if not distinct:
            return s.Sample(count, span=self._since(at))
        self._stream.expect("of")
        return s.Sample(count, self._scalar.expression(), span=self._since(at))

    # -- several tables

    def options(self) -> Iterator[tuple[str, object]]:
        """Read `name=value` options; hints have a dot in their name."""
        stream = self._stream
        while stream.current.kind is Kind.NAME and self._option_length():
            name = stream.advance().value
            while stream.accept("."):
                name += "." + stream.name().value
            stream.expect("=")
            word = stream.advance()
            if word.kind is Kind.END:
                stream.fail("a value")
            yield name, word.value

    def _option_length(self) -> int:
        stream, distance = self._stream, 1
        known = (
            "kind",
            "withsource",
            "isfuzzy",
            "hint",
            "flags",
            "bagexpansion",
            "with_itemindex",
            "with_match_id",
            "datascope",
        )
        if stream.current.value not in known:
            return 0
        while stream.ahead(distance).value == "." and stream.ahead(distance + 1).kind is Kind.NAME:
            distance += 2
        return distance if stream.ahead(distance).value == "=" else 0

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

    def table_names(self) -> tuple[str, ...]:
        """Read `(A, B*, C)`."""
        self._stream.expect("(")
        found = [self._pattern()[0]]
        while self._stream.accept(","):
            found.append(self._pattern()[0])
        self._stream.expect(")")
        return tuple(found)

    def search(self, at: int) -> s.Search:
        """Read options, tables and predicate of a search; the word itself has been read."""
        options = dict(self.options())
        tables: tuple[str, ...] = ()
        if self._stream.accept("in"):
            tables = self.table_names()
        predicate = self._scalar.searched()
        return s.Search(tables, predicate, options.get("kind") == "case_sensitive", span=self._since(at))

    # -- arrays and texts

    def _mv_expand(self, at: int) -> s.Operator:
        # The old spelling has a limit of its own.
        old: s.Expression | None = None
        if self._word == "mvexpand":
            old = s.Literal(Type.LONG, MVEXPAND_LIMIT, span=self._since(at))
        options = dict(self.options())
        values = self._expanded()
        limit = self._scalar.expression() if self._stream.accept("limit") else old
        as_array = options.get("bagexpansion", options.get("kind")) == "array"
        return s.MvExpand(values, str(options.get("with_itemindex", "")), limit, as_array, span=self._since(at))

    def _expanded(self) -> tuple[s.Expanded, ...]:
        found: list[s.Expanded] = []
        while True:
            value = self._scalar.named()
            type_ = None
            if self._stream.accept("to"):
                word = self._stream.expect("typeof")
                self._stream.expect("(")
                type_ = named(self._stream.name("a type").value)
                if type_ is None:
                    raise KqlError("found no type in typeof( )", word.span)
                self._stream.expect(")")
            found.append(s.Expanded(value, type_))
            if not self._stream.accept(","):
                return tuple(found)

    def _mv_apply(self, at: int) -> s.Operator:
        options = dict(self.options())
        values = self._expanded()
        limit = self._scalar.expression() if self._stream.accept("limit") else None
        self._stream.expect("on")
        return s.MvApply(
            values, str(options.get("with_itemindex", "")), limit, self._subquery("("), span=self._since(at)
        )

    def _subquery(self, opening: str) -> tuple[s.Operator, ...]:
        """Read operators in parentheses; the first one has no pipe before it."""
        self._stream.expect(opening)
        with self._stream.nested():
            self._stream.accept("|")
            found = [self._operator(), *self.piped()]
        self._stream.expect(")" if opening == "(" else "}", what="`|` or the closing parenthesis")
        return tuple(found)

    def _parse(self, at: int) -> s.Operator:
        stream = self._stream
        filters = self._word == "parse-where"
        options = dict(self.options())
        source = self._scalar.expression()
        stream.expect("with")
        parts: list[str | s.ColumnType | None] = []
        while not (stream.is_sign("|", ";", ")", "}") or stream.current.kind is Kind.END):
            parts.append(self._part())
        kind = str(options.get("kind", "simple"))
        return s.Parse(source, tuple(parts), kind, str(options.get("flags", "")), filters, span=self._since(at))

    def _part(self) -> str | s.ColumnType | None:
        stream = self._stream
        if stream.accept("*"):
            return None
        if stream.current.kind is Kind.TEXT:
            return stream.advance().value
        name = stream.name("a text, a column or `*`")
        type_ = named("string")
        if stream.accept(":"):
            word = stream.name("a type")
            type_ = named(word.value)
            if type_ is None:
                raise KqlError(f"`{word.value}` is no type", word.span)
        assert type_ is not None
        return s.ColumnType(name.value, type_)

    def _parse_kv(self, at: int) -> s.Operator:
        source = self._scalar.expression()
        self._stream.expect("as")
        self._stream.expect("(")
        columns = self._column_types()
        return s.ParseKv(source, columns, self.properties(), span=self._since(at))

    def properties(self) -> tuple[tuple[str, object], ...]:
        """Read `with (name=value, ...)`, which may be missing."""
        stream = self._stream
        if not stream.accept("with"):
            return ()
        stream.expect("(")
        found: list[tuple[str, object]] = []
        while not stream.accept(")"):
            name = stream.name("a property")
            stream.expect("=")
            found.append((name.value, stream.advance().value))
            if not stream.accept(","):
                stream.expect(")", what="`,` or `)`")
                break
        return tuple(found)

    # -- everything else

    def _evaluate(self, at: int) -> s.Operator:
        dict(self.options())
        call = self._scalar.expression()
        if not isinstance(call, s.Call):
            raise KqlError("expected a plugin such as bag_unpack(Column)", call.span)
        columns: tuple[s.ColumnType, ...] = ()
        star = False
        if self._stream.accept(":"):
            self._stream.expect("(")
            star = self._stream.accept("*") is not None
            if star and not self._stream.is_sign(")"):
                self._stream.expect(",")
            columns = self._column_types()
        return s.Evaluate(call, columns, star, span=self._since(at))

    def _make_series(self, at: int) -> s.Operator:
        stream, scalar = self._stream, self._scalar
        nonempty = dict(self.options()).get("kind") == "nonempty"
        aggregates: list[tuple[s.Named, s.Expression | None]] = []
        while True:
            named_ = scalar.named()
            default = None
            if stream.accept("default"):
                stream.expect("=")
                default = scalar.expression()
            aggregates.append((named_, default))
            if not stream.accept(","):
                break
        stream.expect("on")
        axis = scalar.named()
        first = scalar.expression() if stream.accept("from") else None
        last = scalar.expression() if stream.accept("to") else None
        stream.expect("step")
        step = scalar.expression()
        by = self._values() if stream.accept("by") else ()
        return s.MakeSeries(tuple(aggregates), axis, first, last, step, by, nonempty, span=self._since(at))

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

    def _scan(self, at: int) -> s.Operator:
        stream = self._stream
        match_id = str(dict(self.options()).get("with_match_id", ""))
        declared: list[tuple[s.ColumnType, s.Expression | None]] = []
        if stream.accept("declare"):
            stream.expect("(")
            declared = list(self._declared())
        stream.expect("with")
        stream.expect("(")
        steps: list[s.Step] = []
        while not stream.accept(")"):
            steps.append(self._step())
        return s.Scan(tuple(declared), tuple(steps), match_id, span=self._since(at))

    def _declared(self) -> Iterator[tuple[s.ColumnType, s.Expression | None]]:
        stream = self._stream
        while not stream.accept(")"):
            name = stream.name("a column")
            stream.expect(":")
            word = stream.name("a type")
            type_ = named(word.value)
            if type_ is None:
                raise KqlError(f"`{word.value}` is no type", word.span)
            yield s.ColumnType(name.value, type_), self._scalar.expression() if stream.accept("=") else None
            stream.accept(",")

    def _step(self) -> s.Step:
        stream = self._stream
        start = stream.expect("step")
        name = stream.name("the name of a step").value
        if stream.accept("output"):
            stream.expect("=")
            stream.name()
        stream.expect(":")
        condition = self._scalar.expression()
        assignments: tuple[s.Named, ...] = ()
        if stream.accept("=>"):
            assignments = self._scalar.several()
        stream.expect(";")
        return s.Step(name, condition, assignments, self._since(start.span.start))
