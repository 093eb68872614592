"""Reads scalar expressions. Precedence: learn.microsoft.com/kusto/query/scalar-operators."""

from __future__ import annotations

from collections.abc import Callable

from hunting.kql import literals
from hunting.kql.errors import KqlError
from hunting.kql.lexer import Kind
from hunting.kql.stream import Stream
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
from hunting.kql.types import Type, named

COMPARISONS = ("==", "!=", "<>", "<", ">", "<=", ">=", "=~", "!~")
TEXT_OPERATORS = (
    "has", "has_cs", "contains", "contains_cs", "startswith", "startswith_cs", "endswith", "endswith_cs", "hasprefix",
    "hasprefix_cs", "hassuffix", "hassuffix_cs",
)  # fmt: skip
LIST_OPERATORS = ("in", "has_any", "has_all")
CHAIN_MAX = 200
"""How many operators of one precedence may follow each other, `and` and `or` excepted."""
QUERY_WORDS = ("print", "range", "union", "search", "find", "datatable", "externaldata", "materialize")
_IN_PARENTHESES = {"bool", "boolean", "int", "long", "real", "double", "decimal"}


class Expressions:
    """Reads expressions from a stream. `queries` reads a query where one may stand in an expression."""

    def __init__(self, stream: Stream, queries: Callable[[], Query]) -> None:
        self._stream = stream
        self._queries = queries
        self._searching = False

    def expression(self) -> Expression:
        """Read one expression. Raises KqlError."""
        with self._stream.nested():
            return self._junction("or")

    def searched(self) -> Expression:
        """Read the predicate of `search` and `find`, where `Column:"term"` means `has`."""
        self._searching = True
        found = self.expression()
        self._searching = False
        return found

    def named(self) -> Named:
        """Read `name = expression`, `(a, b) = expression` or an expression alone."""
        stream = self._stream
        place = stream.place
        if stream.is_name():
            name = stream.name()
            if stream.is_sign("="):
                stream.advance()
                return Named(self.expression(), (name.value,))
            stream.back_to(place)
        elif names := self._names_in_parentheses():
            return Named(self.expression(), names)
        return Named(self.expression())

    def _names_in_parentheses(self) -> tuple[str, ...]:
        stream = self._stream
        place = stream.place
        names: list[str] = []
        if stream.accept("("):
            while stream.is_name():
                names.append(stream.name().value)
                if not stream.accept(","):
                    break
            if names and stream.accept(")") and stream.accept("="):
                return tuple(names)
        stream.back_to(place)
        return ()

    def several(self, *ends: str) -> tuple[Named, ...]:
        """Read named expressions separated by commas; none where one of `ends` comes first."""
        if self._stream.is_sign("|", ";", ")", "}", *ends) or self._stream.is_word(*ends):
            return ()
        found = [self.named()]
        while self._stream.accept(","):
            found.append(self.named())
        return tuple(found)

    def _junction(self, operator: str) -> Expression:
        read = self._comparison if operator == "and" else lambda: self._junction("and")
        terms = [read()]
        while self._stream.accept(operator):
            terms.append(read())
        if len(terms) == 1:
            return terms[0]
        return Junction(operator, tuple(terms), span=terms[0].span.to(terms[-1].span))

    def _comparison(self) -> Expression:
        left = self._sum()
        operator = self._operator()
        if not operator:
            return left
        plain = operator.removeprefix("!").removesuffix("~")
        if plain in LIST_OPERATORS and operator not in COMPARISONS:
            return self._membership(left, operator)
        if plain == "between":
            return self._between(left, negated=operator.startswith("!"))
        right = self._sum()
        return Operation(operator, left, right, span=left.span.to(right.span))

    def _operator(self) -> str:
        """Take a comparison's operator; "" where none follows."""
        stream = self._stream
        if stream.current.kind is Kind.SIGN:
            value = stream.current.value
            if value == ":" and self._searching:
                return stream.advance().value
            known = value in COMPARISONS or value.removeprefix("!").removesuffix("~") in (
                *TEXT_OPERATORS, *LIST_OPERATORS, "between",
            )  # fmt: skip
            if known:
                return stream.advance().value
            if value.startswith("!") and len(value) > 1:
                raise KqlError(f"found `{value}`, which is no operator", stream.current.span)
            return ""
        if stream.is_word(*TEXT_OPERATORS, "between", *LIST_OPERATORS):
            word = stream.advance()
            tilde = word.value == "in" and self._accept_tilde(word.span.end)
            return word.value + ("~" if tilde else "")
        if stream.is_word("matches"):
            stream.advance()
            stream.expect("regex")
            return "matches regex"
        return ""

    def _accept_tilde(self, end: int) -> bool:
        return self._stream.current.span.start == end and self._stream.accept("~") is not None

    def _membership(self, left: Expression, operator: str) -> Expression:
        stream = self._stream
        if not stream.is_sign("("):
            item = self._postfix()
            return Membership(operator, left, (item,), span=left.span.to(item.span))
        stream.advance()
        items: list[Expression] = []
        while not stream.is_sign(")"):
            items.append(self.table_or_expression())
            if not stream.accept(","):
                break
        end = stream.expect(")", what="`,` or `)`")
        return Membership(operator, left, tuple(items), span=left.span.to(end.span))

    def _between(self, left: Expression, *, negated: bool) -> Expression:
        self._stream.expect("(")
        low = self.expression()
        self._stream.expect("..")
        high = self.expression()
        end = self._stream.expect(")")
        return Between(left, low, high, negated, span=left.span.to(end.span))

    def _sum(self) -> Expression:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Expression:
        return self._chain(("*", "/", "%"), self._unary)

    def _chain(self, signs: tuple[str, ...], read: Callable[[], Expression]) -> Expression:
        left = read()
        for _ in range(CHAIN_MAX):
            if not self._stream.is_sign(*signs):
                return left
            operator = self._stream.advance()
            right = read()
            left = Operation(operator.value, left, right, span=left.span.to(right.span))
        raise KqlError(f"more than {CHAIN_MAX} operators in one chain", self._stream.current.span)

    def _unary(self) -> Expression:
        stream = self._stream
        if stream.is_sign("-", "+"):
            sign = stream.advance()
            with stream.nested():
                operand = self._unary()
            return Negation(sign.value, operand, span=sign.span.to(operand.span))
        return self._postfix()

    def _postfix(self) -> Expression:
        stream = self._stream
        base = self._primary()
        for _ in range(CHAIN_MAX):
            if stream.is_sign(".") and stream.ahead().kind is Kind.NAME:
                stream.advance()
                name = stream.advance()
                base = Member(base, name.value, span=base.span.to(name.span))
            elif stream.is_sign("[") and stream.current.span.start == stream.last_span.end:
                stream.advance()
                index = self.expression()
                end = stream.expect("]")
                base = Element(base, index, span=base.span.to(end.span))
            elif stream.is_sign(".") and stream.ahead().value == "[":
                stream.advance()
            else:
                return base
        raise KqlError(f"more than {CHAIN_MAX} properties in one path", stream.current.span)

    def _primary(self) -> Expression:
        stream = self._stream
        word = stream.current
        if word.kind is Kind.TEXT:
            return self._texts()
        if word.kind is Kind.NUMBER:
            return literals.number(stream.advance())
        if word.kind is Kind.TIMESPAN:
            stream.advance()
            return Literal(Type.TIMESPAN, int(word.value), span=word.span)
        if word.kind is Kind.TYPED:
            return literals.typed(stream.advance())
        if stream.is_sign("("):
            return self._parenthesised()
        if stream.is_sign("*"):
            stream.advance()
            return Star(span=word.span)
        if stream.is_name():
            return self._name_or_call()
        stream.fail("an expression")
        raise AssertionError

    def _texts(self) -> Expression:
        first = self._stream.advance()
        value, end = first.value, first.span
        while self._stream.current.kind is Kind.TEXT:
            more = self._stream.advance()
            value, end = value + more.value, more.span
        return Literal(Type.STRING, value, span=first.span.to(end))

    def _parenthesised(self) -> Expression:
        opening = self._stream.advance()
        inner = self.table_or_expression()
        closing = self._stream.expect(")")
        if isinstance(inner, SubQuery):
            return SubQuery(inner.query, span=opening.span.to(closing.span))
        return inner

    def table_or_expression(self) -> Expression:
        """Read an expression, or a query: one begins with a word of its own, or has a pipe behind its name."""
        stream = self._stream
        place = stream.place
        if stream.is_word(*QUERY_WORDS) and stream.ahead().value not in (",", ")", "==", "=") and not self._is_range():
            query = self._queries()
            return SubQuery(query, span=query.span)
        found = self.expression()
        if stream.is_sign("|"):
            stream.back_to(place)
            query = self._queries()
            return SubQuery(query, span=query.span)
        return found

    def _is_range(self) -> bool:
        """Return whether the function `range(first, last)` is next, and not the operator of this name."""
        return self._stream.is_word("range") and self._stream.ahead().value == "("

    def _name_or_call(self) -> Expression:
        stream = self._stream
        word = stream.name()
        if word.kind is Kind.NAME and stream.is_sign("("):
            return self._call(word.value)
        if word.kind is Kind.NAME and word.value in ("true", "false"):
            return Literal(Type.BOOL, word.value == "true", span=word.span)
        return Name(word.value, span=word.span)

    def _call(self, function: str) -> Expression:
        stream = self._stream
        start = stream.last_span
        stream.advance()
        if function == "dynamic":
            return literals.dynamic(stream, start)
        if function == "typeof":
            return self._typeof()
        if function in _IN_PARENTHESES and self._is_constant():
            type_ = named(function)
            assert type_ is not None
            return literals.in_parentheses(stream, type_, start)
        arguments: list[Argument] = []
        while not stream.is_sign(")"):
            arguments.append(self._argument())
            if not stream.accept(","):
                break
        end = stream.expect(")", what="`,` or `)`")
        return Call(function, tuple(arguments), start, span=start.to(end.span))

    def _is_constant(self) -> bool:
        distance = 1 if self._stream.is_sign("-", "+") else 0
        return self._stream.ahead(distance + 1).value == ")" and self._stream.ahead(distance).kind in (
            Kind.NUMBER, Kind.NAME, Kind.TEXT,
        )  # fmt: skip

    def _typeof(self) -> Expression:
        start = self._stream.last_span
        word = self._stream.name("a type")
        type_ = named(word.value)
        if type_ is None:
            raise KqlError(f"`{word.value}` is no type", word.span)
        end = self._stream.expect(")")
        return TypeOf(type_, span=start.to(end.span))

    def _argument(self) -> Argument:
        stream = self._stream
        if stream.current.kind is Kind.NAME and stream.ahead().value == "=":
            name = stream.advance()
            stream.advance()
            return Argument(self.table_or_expression(), name.value)
        return Argument(self.table_or_expression())
