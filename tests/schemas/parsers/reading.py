"""What a dialect makes of a line, for tests that know which of the three it is."""

from __future__ import annotations

from schemas.events import Ignored, Parsed, Reason, Reject
from schemas.parsers import dialects


def read(dialect: str, line: str) -> Parsed:
    """What becomes of a line."""
    return dialects()[dialect].parse(line.encode())


def kind(dialect: str, line: str) -> str:
    """What a line that holds nothing is counted as."""
    parsed = read(dialect, line)
    assert isinstance(parsed, Ignored), parsed
    return parsed.kind


def reason(dialect: str, line: str) -> Reason:
    """Why a line is rejected."""
    parsed = read(dialect, line)
    assert isinstance(parsed, Reject), parsed
    return parsed.reason
