"""A cursor over the words of a query, with the errors that all parsers raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hunting.kql.errors import KqlError, Span
from hunting.kql.lexer import Kind, Token

DEPTH_MAX = 40
"""How deep parentheses, functions and queries may be nested. Each level takes up to 17 of the 1,000 frames of the stack."""
_OPERATORS = (Kind.SIGN, Kind.NAME)


class Stream:
    """The words from the current one on."""

    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._at = 0
        self._depth = 0

    @property
    def current(self) -> Token:
        """The next word."""
        return self._words[self._at]

    def at_end(self) -> bool:
        """Return whether no word is left."""
        return self.current.kind is Kind.END

    def ahead(self, distance: int = 1) -> Token:
        """Return the word behind the next one; the last word where there is none."""
        return self._words[min(self._at + distance, len(self._words) - 1)]

    def advance(self) -> Token:
        """Take the next word."""
        word = self.current
        if word.kind is not Kind.END:
            self._at += 1
        return word

    def back_to(self, place: int) -> None:
        """Return to a place that `place` gave."""
        self._at = place

    @property
    def place(self) -> int:
        """The index of the next word."""
        return self._at

    @property
    def last_span(self) -> Span:
        """The place of the word that was taken last."""
        return self._words[max(0, self._at - 1)].span

    def is_sign(self, *signs: str) -> bool:
        """Return whether the next word is one of these signs."""
        word = self._words[self._at]
        return word.value in signs and word.kind is Kind.SIGN

    def is_word(self, *words: str) -> bool:
        """Return whether the next word is one of these names, unquoted."""
        word = self._words[self._at]
        return word.value in words and word.kind is Kind.NAME

    def accept(self, *values: str) -> Token | None:
        """Take the next word if it is one of these signs or names."""
        word = self._words[self._at]
        if word.value in values and word.kind in _OPERATORS:
            return self.advance()
        return None

    def expect(self, *values: str, what: str = "") -> Token:
        """Take the next word, which must be one of these. Raises KqlError."""
        return self.accept(*values) or self.fail(what or " or ".join(f"`{value}`" for value in values))

    def fail(self, expected: str) -> Token:
        """Raise KqlError: this was expected."""
        raise KqlError(f"found {described(self.current)}, expected {expected}", self.current.span)

    def name(self, what: str = "a name") -> Token:
        """Take a name, in brackets and quotes or not. Raises KqlError."""
        word = self.current
        if word.kind is Kind.NAME:
            return self.advance()
        if self.is_sign("[") and self.ahead().kind is Kind.TEXT and self.ahead(2).value == "]":
            self.advance()
            text = self.advance()
            end = self.advance()
            return Token(Kind.QUOTED_NAME, text.value, word.span.to(end.span))
        return self.fail(what)

    def is_name(self) -> bool:
        """Return whether a name is next, in brackets or not."""
        return self.current.kind is Kind.NAME or (
            self.is_sign("[") and self.ahead().kind is Kind.TEXT and self.ahead(2).value == "]"
        )

    def dashed(self) -> Token:
        """Take a name that may have dashes inside, such as `project-away`. Raises KqlError."""
        word = self.name("an operator")
        while self.is_sign("-") and self.current.span.start == word.span.end and self.ahead().kind is Kind.NAME:
            self.advance()
            rest = self.advance()
            word = Token(Kind.NAME, f"{word.value}-{rest.value}", word.span.to(rest.span))
        return word

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Go one level deeper. Raises KqlError where that is too deep."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise KqlError(f"nested deeper than {DEPTH_MAX} levels", self.current.span)
        yield
        self._depth -= 1


def described(word: Token) -> str:
    """Return a word as an error message shows it."""
    if word.kind is Kind.END:
        return "the end of the query"
    if word.kind is Kind.TEXT:
        return f"the text {word.value[:40]!r}"
    return f"`{word.value[:40]}`"
