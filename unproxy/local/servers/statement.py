"""Recognises the little of ClickHouse's SQL that the HTTP interface needs, such as where the data of an INSERT begins."""

from __future__ import annotations

import re
from typing import NamedTuple

# A comment or a quoted text is one token, so that its content is not taken for words.
_TOKEN = re.compile(
    rb"""\s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/
       | '(?:[^'\\]|\\.)*' | `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*"
       | \w+ | .""",
    re.DOTALL | re.VERBOSE,
)
_BLANK = re.compile(rb"\s|--|\#[! ]|/\*")
_ROWS_FOLLOW = (b"SELECT", b"WITH", b"VALUES", b"FROM")
_FORMAT_AT_END = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
SCANNED_BYTES_MAX = 64 * 1024


class Insert(NamedTuple):
    """An INSERT whose data follows the statement, in the given format."""

    sql: str
    """The statement without FORMAT."""
    format: str
    data_at: int
    """Offset in the scanned text at which the data begins."""


def find_insert(text: bytes) -> Insert | None:
    """Return the INSERT ... FORMAT at the start of this text; None if it is another statement.

    Only the first `SCANNED_BYTES_MAX` bytes are examined.
    """
    words = (token for token in _TOKEN.finditer(text[:SCANNED_BYTES_MAX]) if not _BLANK.match(token[0]))
    first = next(words, None)
    if first is None or first[0].upper() != b"INSERT":
        return None
    depth = 0
    for token in words:
        word = token[0].upper()
        depth += (word == b"(") - (word == b")")
        if depth == 0 and word in _ROWS_FOLLOW:
            return None
        if depth == 0 and word == b"FORMAT" and (name := next(words, None)):
            sql = text[: token.start()].decode("utf-8", errors="replace")
            return Insert(sql, name[0].decode("utf-8", errors="replace"), _data_start(text, name.end()))
    return None


def has_second_statement(text: bytes) -> bool:
    """Return whether another statement follows a semicolon. A ClickHouse server refuses it; the library would run it."""
    ended = False
    for token in _TOKEN.finditer(text):
        if _BLANK.match(token[0]) or token[0] == b";":
            ended = ended or token[0] == b";"
        elif ended:
            return True
    return False


def asked_format(text: bytes) -> str | None:
    """Return the output format that a statement names at its end; None if it names none."""
    found = _FORMAT_AT_END.search(text[-200:])
    return found[1].decode("ascii", errors="replace") if found else None


def _data_start(text: bytes, at: int) -> int:
    """Return the position after the blanks and the one line end that may separate a format's name from its data."""
    while text[at : at + 1] in (b" ", b"\t", b"\f"):
        at += 1
    if text[at : at + 1] == b"\r":
        at += 1
    return at + 1 if text[at : at + 1] == b"\n" else at
