"""Operators that search in texts. Source: learn.microsoft.com/kusto/query/datatypes-string-operators.

A term is a run of letters and digits. `has` finds its operand where the text has no letter or digit right before and behind
it. A boundary counts only at an end of the operand that is a letter or digit itself.
"""

from __future__ import annotations

import re

from hunting.kql.types import Type
from hunting.kql.values import Value, text_literal

_TOKEN = re.compile(r"[A-Za-z0-9]+")
_BEFORE, _BEHIND = r"(?:^|[^\p{L}\p{N}])", r"(?:$|[^\p{L}\p{N}])"
_FOLDED = {"s": "\u017f", "k": "\u212a"}
"""Letters beyond ASCII that equal an ASCII letter without regard to case (Unicode's CaseFolding.txt)."""
_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")


def condition(operator: str, text: Value, needle: Value) -> str:
    """Return `text operator needle` for the positive operators; both are texts."""
    plain = operator.removesuffix("_cs")
    sensitive = operator.endswith("_cs")
    if plain in ("has", "hasprefix", "hassuffix"):
        return _term(plain, text, needle, sensitive=sensitive)
    if plain == "contains":
        return f"(position{'' if sensitive else 'CaseInsensitiveUTF8'}({text.sql}, {needle.sql}) > 0)"
    function = {"startswith": "startsWith", "endswith": "endsWith"}[plain]
    return f"{function}{'' if sensitive else 'CaseInsensitiveUTF8'}({text.sql}, {needle.sql})"


def _term(operator: str, text: Value, needle: Value, *, sensitive: bool) -> str:
    if not needle.is_constant:
        return _computed(operator, text, needle, sensitive=sensitive)
    written = str(needle.constant)
    if not written:
        return "true"
    flags = "" if sensitive else "(?i)"
    match = f"match({text.sql}, {text_literal(flags + pattern(written, operator))})"
    if operator != "has" or not _TOKEN.fullmatch(written):
        return _prefiltered(text, written, match, sensitive=sensitive)
    token = f"hasToken{'' if sensitive else 'CaseInsensitive'}({text.sql}, {text_literal(written)})"
    # ClickHouse takes every character beyond ASCII for a letter: it would not find `enc` behind a dash such as U+2013.
    return f"({token} OR (NOT isValidASCII({text.sql}) AND {match}))"


def _prefiltered(text: Value, written: str, match: str, *, sensitive: bool) -> str:
    """Return a match with a cheap necessary condition before it: that the text contains the term.

    A search for a constant is much faster than a regular expression. Without regard to case it is used for ASCII alone. RE2
    takes two further letters for ASCII ones, which ClickHouse's search does not: a text with one of them meets the condition.
    """
    literal = text_literal(written)
    if sensitive:
        return f"(position({text.sql}, {literal}) > 0 AND {match})"
    if not written.isascii():
        return match
    alike = [letter for plain, letter in _FOLDED.items() if plain in written.lower()]
    if not alike:
        return f"(positionCaseInsensitive({text.sql}, {literal}) > 0 AND {match})"
    searched = ", ".join([literal, *map(text_literal, alike)])
    return f"(multiSearchAnyCaseInsensitive({text.sql}, [{searched}]) AND {match})"


def pattern(written: str, operator: str = "has") -> str:
    """Return the regular expression (RE2) of a constant term."""
    before = _BEFORE if operator != "hassuffix" and written[0].isalnum() else ""
    behind = _BEHIND if operator != "hasprefix" and written[-1].isalnum() else ""
    return before + quoted(written) + behind


def quoted(written: str) -> str:
    """Return a text as a regular expression that matches it alone. RE2 knows escapes of ASCII punctuation only."""
    return _SPECIAL.sub(r"\\\1", written)


def _computed(operator: str, text: Value, needle: Value, *, sensitive: bool) -> str:
    before = (
        "''"
        if operator == "hassuffix"
        else f"if(match({needle.sql}, '^[\\\\p{{L}}\\\\p{{N}}]'), {text_literal(_BEFORE)}, '')"
    )
    behind = (
        "''"
        if operator == "hasprefix"
        else f"if(match({needle.sql}, '[\\\\p{{L}}\\\\p{{N}}]$'), {text_literal(_BEHIND)}, '')"
    )
    flags = "''" if sensitive else "'(?i)'"
    return f"match({text.sql}, concat({flags}, {before}, regexpQuoteMeta({needle.sql}), {behind}))"


def any_of(text: Value, needles: list[str]) -> str:
    """Return `text has_any (needles)` for constant needles."""
    if not needles:
        return "false"
    if "" in needles:
        return "true"
    alternatives = "|".join(dict.fromkeys(pattern(needle) for needle in needles))
    return f"match({text.sql}, {text_literal('(?i)' + alternatives)})"


def each_of(text: Value, needles: list[str]) -> str:
    """Return `text has_all (needles)` for constant needles."""
    terms = [condition("has", text, Value("", Type.STRING, False, needle)) for needle in dict.fromkeys(needles)]
    return f"({' AND '.join(terms)})" if terms else "true"


def computed_list(operator: str, text: Value, array: str) -> str:
    """Return `text has_any (list)` or `has_all` for a list that the query computes: an Array(String) in SQL."""
    needle = Value("needle", Type.STRING, False)
    function = "arrayExists" if operator == "has_any" else "arrayAll"
    return f"{function}(needle -> {_computed('has', text, needle, sensitive=False)}, {array})"
