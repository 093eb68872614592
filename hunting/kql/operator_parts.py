"""Reads what several operators behind a pipe share: the pipes, names of columns, options and properties."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.expressions import Expressions
from hunting.kql.lexer import Kind
from hunting.kql.stream import Stream

PIPES_MAX = 500
"""Operators behind one source."""


class OperatorParts:
    """Reads operators from a stream; a subclass adds their readers."""

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
        self._word = ""
        self._readers: dict[str, Callable[[int], s.Operator]] = {}
        """What reads each operator, by its name; it gets the offset of the name."""

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

    def _values(self) -> tuple[s.Named, ...]:
        found = self._scalar.several()
        if not found:
            self._stream.fail("an expression")
        return found

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

    def _subquery(self, opening: str) -> tuple[s.Operator, ...]:
        """Read operators in parentheses; the first one has no pipe before it."""
        self._stream.expect(opening)
        with self._stream.nested():
            self._stream.accept("|")
            found = [self._operator(), *self.piped()]
        self._stream.expect(")" if opening == "(" else "}", what="`|` or the closing parenthesis")
        return tuple(found)

    def table_names(self) -> tuple[str, ...]:
        """Read `(A, B*, C)`."""
        self._stream.expect("(")
        found = [self._pattern()[0]]
        while self._stream.accept(","):
            found.append(self._pattern()[0])
        self._stream.expect(")")
        return tuple(found)
