"""Quoted and escaped values, as proxies, syslog and SIEM formats write them: a backslash stands before what would end them."""

from __future__ import annotations

INSIDE = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
"""A pattern for what stands between two quotes. It reads runs of plain characters at once and never goes back."""
QUOTED = f'"{INSIDE}"'
"""A pattern for a quoted value, quotes included."""


def unescaped(text: str, escaped: str) -> str:
    """Return `text` without the backslash before each backslash and each of the characters `escaped`.

    A backslash before anything else stays. One pass for each character: a substitution by a pattern costs twenty times as
    much for a text of nothing but escapes.
    """
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    for char in escaped:
        pair = "\\" + char
        if pair in text:
            parts = [part.replace(pair, char) for part in parts]
    return "\\".join(parts)
