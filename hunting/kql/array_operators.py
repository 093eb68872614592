"""Reads the operators with a small language of their own: arrays, patterns, plugins, series and `scan`.

Source: learn.microsoft.com/kusto/query/tabular-operators.
"""

from __future__ import annotations

from collections.abc import Iterator

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.lexer import Kind
from hunting.kql.operator_parts import OperatorParts
from hunting.kql.types import Type, named

MVEXPAND_LIMIT = 128
"""Rows that `mvexpand` makes of one (learn.microsoft.com/kusto/query/mv-expand-operator); `mv-expand` has no limit."""


class ArrayOperators(OperatorParts):
    """Operators that make columns or rows of one value."""

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
