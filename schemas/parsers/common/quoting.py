"""Quoted and escaped values of proxy logs, syslog and SIEM formats: a backslash escapes characters that would end the value."""

from __future__ import annotations

INSIDE = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
"""Pattern for the text between two quotes. It is possessive: it never backtracks."""
QUOTED = f'"{INSIDE}"'
"""Pattern for a quoted value, including its quotes."""


def unescaped(text: str, escaped: str) -> str:
    """Remove the backslash before each backslash and before each of the characters `escaped`.

    A backslash before any other character stays. There is one pass per character: `re.sub` would take twenty times as long for a
    text that consists of escapes.
    """
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    for char in escaped:
        pair = "\\" + char
        if pair in text:
            parts = [part.replace(pair, char) for part in parts]
    return "\\".join(parts)
