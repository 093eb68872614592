"""Errors of a query: each has a position in the query's text."""

from __future__ import annotations

from dataclasses import dataclass

LINE_CHARS_MAX = 120
"""Characters of a query's line that `shown` prints around the error."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the query's text: characters `start` to `end`, the end excluded."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """Return the part from this one's start to the other one's end."""
        return Span(self.start, other.end)


class KqlError(Exception):
    """A query that is refused; the message states what was found and what was expected."""

    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message)
        self.message = message
        self.span = span

    def place(self, text: str) -> tuple[int, int]:
        """Return line and column of the error in the query's text, both from 1."""
        before = text[: self.span.start]
        return before.count("\n") + 1, self.span.start - before.rfind("\n")

    def shown(self, text: str) -> str:
        """Return the message with its place and the line of the query, marked with carets."""
        line, column = self.place(text)
        begin = self.span.start - column + 1
        end = text.find("\n", self.span.start)
        written = text[begin : len(text) if end < 0 else end]
        skipped = max(0, column - LINE_CHARS_MAX // 2)
        part = written[skipped : skipped + LINE_CHARS_MAX].replace("\t", " ")
        marks = max(1, min(self.span.end - self.span.start, len(part) - (column - 1 - skipped)))
        caret = " " * (column - 1 - skipped) + "^" * marks
        return f"line {line}, column {column}: {self.message}\n  {part}\n  {caret}"
