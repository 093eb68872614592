"""Kusto queries for ClickHouse's own Kusto dialect, mended where that dialect means something else than Kusto.

Mended here, on the level of words, the query otherwise left as written:
- `column != value` and `column !in (…)` keep rows whose column is null, as in Kusto; SQL drops them.
- `between (BEGIN .. 1d)` ends a day after its beginning, as in Kusto; the dialect compares with the day itself, and fails.
- A semicolon after the last statement makes the dialect answer three times.

The rest is the dialect's own (docs of ClickHouse, "Kusto dialect"); a query it cannot read is refused, with its words.
"""

from __future__ import annotations

import re
from functools import cache

from schemas.columns import columns
from schemas.tables import TABLES

SETTINGS = {"allow_experimental_kusto_dialect": "1", "dialect": "kusto"}
"""What switches ClickHouse to it; in this order."""
UNITS = {
    "d", "day", "days", "h", "hr", "hrs", "hour", "hours", "m", "min", "minute", "minutes", "s", "sec", "second",
    "seconds", "ms", "milli", "millis", "millisecond", "milliseconds",
}  # fmt: skip
"""Of a timespan such as 1d."""

_WORDS = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<text>[hH]?@"(?:[^"]|"")*" | [hH]?@'(?:[^']|'')*' | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<space>\s+)
      | (?P<sign>!=|!in\b~?|<=|>=|==|=~|!~|.)""",
    re.VERBOSE | re.DOTALL,
)


@cache
def _nullable() -> frozenset[str]:
    return frozenset(
        column.name for row in TABLES.values() for column in columns(row) if column.clickhouse.startswith("Nullable(")
    )


def translate(query: str) -> str:
    """Translate a query for ClickHouse's dialect, so that it means what Kusto means."""
    words = [match.group() for match in _WORDS.finditer(query) if match.lastgroup != "comment"]
    while words and (words[-1].isspace() or words[-1] == ";"):
        words.pop()
    done: list[str] = []
    at = 0
    while at < len(words):
        end = _null_safe_end(words, at)
        if end:
            condition = "".join(words[at:end])
            done.append(f"({condition} or isnull({words[at]}))")
            at = end
        elif middle := _middle_of_span(words, at):
            begin = "".join(words[at:middle]).partition("(")[2].strip()
            done.append("".join(words[at : middle + 2]) + f" {begin} +")
            at = middle + 2
        else:
            done.append(words[at])
            at += 1
    return "".join(done)


def _null_safe_end(words: list[str], at: int) -> int:
    """Return the end of the condition that starts here if null must pass it; else 0."""
    if words[at] not in _nullable() or (at and words[at - 1] == "."):
        return 0
    sign = _next(words, at + 1)
    if sign >= len(words) or words[sign] not in ("!=", "!in"):
        return 0
    value = _next(words, sign + 1)
    if value >= len(words):
        return 0
    if words[value] == "(":
        return _after_bracket(words, value)
    if words[value] == "-":
        value = _next(words, value + 1)
    following = _next(words, value + 1)
    if following < len(words) and words[following] == "(":
        return _after_bracket(words, following)
    return value + 1 if value < len(words) else 0


def _middle_of_span(words: list[str], at: int) -> int:
    """Return the position of `..` in the `between (BEGIN .. 1d)` that starts here; else 0."""
    opening = _next(words, at + 1)
    if words[at] != "between" or opening >= len(words) or words[opening] != "(":
        return 0
    closing = _after_bracket(words, opening) - 1
    middle = next((i for i in range(opening, closing) if words[i : i + 2] == [".", "."]), 0)
    begin, end = (
        [word for word in part if not word.isspace()]
        for part in (words[opening + 1 : middle], words[middle + 2 : closing])
    )
    return middle if middle and _is_span(end) and not _is_span(begin) else 0


def _is_span(words: list[str]) -> bool:
    return len(words) == 2 and words[0][0].isdigit() and words[1] in UNITS


def _next(words: list[str], at: int) -> int:
    while at < len(words) and words[at].isspace():
        at += 1
    return at


def _after_bracket(words: list[str], at: int) -> int:
    depth = 0
    for place in range(at, len(words)):
        depth += (words[place] == "(") - (words[place] == ")")
        if depth == 0:
            return place + 1
    return 0


def hunting_queries(proxy_ip: str) -> tuple[str, str]:
    """Return the two hunting queries to begin with; the second omits the hops to the proxy."""
    everything = 'DeviceNetworkEvents | where ActionType == "ConnectionSuccess" | take 10'
    behind = f'DeviceNetworkEvents | where ActionType == "ConnectionSuccess" and RemoteIP != "{proxy_ip}" | take 10'
    return everything, behind
