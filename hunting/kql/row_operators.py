"""Reads the operators that choose rows and columns, sort and group.

Source: learn.microsoft.com/kusto/query/tabular-operators.
"""

from __future__ import annotations

from collections.abc import Callable

from hunting.kql import syntax as s
from hunting.kql.errors import Span
from hunting.kql.operator_parts import OperatorParts


class RowOperators(OperatorParts):
    """Operators of one table."""

    def _where(self, at: int) -> s.Operator:
        predicate = self._scalar.expression()
        return s.Where(predicate, span=self._since(at))

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
