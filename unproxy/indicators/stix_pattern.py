"""Parser of the part of the STIX 2.1 patterning language that compares single values: comparisons joined by OR.

    [domain-name:value = 'evil.example' OR ipv4-addr:value ISSUBSET '203.0.113.0/24'] OR [url:value IN ('http://a.example/x')]

An indicator cannot express combinations and sequences (AND, FOLLOWEDBY, WITHIN …) or NOT; such patterns are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from schemas.indicator_values import Unfit, Why

PATTERN_CHARS_MAX = 100_000
DEPTH_MAX = 20
EQUALS = ("=", "==", "IN")
SUBSET = "ISSUBSET"

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[\[\](),])
      | (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<path>[a-zA-Z][a-zA-Z0-9-]*:[A-Za-z_](?:[\w.*-]|\[\w+\]|\[\*\]|'(?:[^'\\]|\\.)*')*)
      | (?P<sign>==|!=|<=|>=|=|<|>)
      | (?P<word>[A-Za-z]+)
      | (?P<other>[thb]'[^']*'|-?[0-9.]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_TOGETHER = {"AND", "FOLLOWEDBY", "WITHIN", "REPEATS", "START", "STOP", "NOT"}


class Comparison(NamedTuple):
    """A comparison of an object's property with a value."""

    path: str
    """The property, such as domain-name:value."""
    how: str
    """The operator: one of EQUALS, or SUBSET."""
    value: str


def comparisons(pattern: str) -> list[Comparison]:
    """Return the comparisons of a pattern, each of which alone fulfils it. Raises Unfit if it is invalid or unsupported."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise Unfit(Why.UNREADABLE, f"a pattern of {len(pattern)} characters; at most {PATTERN_CHARS_MAX}")
    return _Pattern(list(_tokens(pattern))).whole()


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    at, text = 0, pattern.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise Unfit(Why.UNREADABLE, f"pattern, character {at + 1}")
        yield found.lastgroup, found.group(found.lastgroup)
        at = found.end()


class _Pattern:
    """A recursive descent parser of the tokens of a pattern."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._found: list[Comparison] = []

    def whole(self) -> list[Comparison]:
        """Parse the whole pattern and return its comparisons. Raises Unfit."""
        self._any_of(0, inside=False)
        if self._at < len(self._tokens):
            raise self._wrong()
        return self._found

    def _any_of(self, depth: int, *, inside: bool) -> None:
        """Parse operands joined by OR. They are comparisons `inside` the brackets of an observation, else observations."""
        if depth > DEPTH_MAX:
            raise Unfit(Why.UNREADABLE, f"a pattern nested more than {DEPTH_MAX} deep")
        self._operand(depth, inside=inside)
        while self._took("OR"):
            self._operand(depth, inside=inside)

    def _operand(self, depth: int, *, inside: bool) -> None:
        if self._took("("):
            self._any_of(depth + 1, inside=inside)
            self._expect(")")
        elif inside:
            self._comparison()
        else:
            self._expect("[")
            self._any_of(depth, inside=True)
            self._expect("]")

    def _comparison(self) -> None:
        path = self._take("path")
        how = self._take("sign", "word").upper()
        if how not in (*EQUALS, SUBSET):
            raise Unfit(Why.COMBINED if how == "NOT" else Why.UNSUPPORTED, f"{path} {how}")
        if how != "IN":
            self._found.append(Comparison(path, how, self._string()))
            return
        self._expect("(")
        self._found.append(Comparison(path, how, self._string()))
        while self._took(","):
            self._found.append(Comparison(path, how, self._string()))
        self._expect(")")

    def _string(self) -> str:
        return re.sub(r"\\(.)", r"\1", self._take("string")[1:-1], flags=re.DOTALL)

    def _took(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("word" if text.isalpha() else "mark", text):
            self._at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._took(mark):
            raise self._wrong()

    def _take(self, *kinds: str) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at][0] not in kinds:
            raise self._wrong()
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _wrong(self) -> Unfit:
        if self._at >= len(self._tokens):
            return Unfit(Why.UNREADABLE, "the pattern ends too early")
        kind, text = self._tokens[self._at]
        if kind == "word" and text in _TOGETHER:
            return Unfit(Why.COMBINED, f"{text} is more than an indicator can express")
        return Unfit(Why.UNREADABLE, f'pattern, at "{text[:40]}"')
