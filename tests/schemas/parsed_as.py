"""What a parsed line must be, for tests that go on with it."""

from __future__ import annotations

from schemas.events import ConnectionOpened, HttpExchange, Ignored, Parsed, ProcessStarted, ProcessVerdict, Reject


def opened(parsed: Parsed) -> ConnectionOpened:
    """It must be a connection."""
    assert isinstance(parsed, ConnectionOpened), parsed
    return parsed


def request(parsed: Parsed) -> HttpExchange:
    """It must be a request."""
    assert isinstance(parsed, HttpExchange), parsed
    return parsed


def told(parsed: Parsed) -> ProcessStarted:
    """It must be a process's start or end."""
    assert isinstance(parsed, ProcessStarted), parsed
    return parsed


def verdict(parsed: Parsed) -> ProcessVerdict:
    """It must be a verdict."""
    assert isinstance(parsed, ProcessVerdict), parsed
    return parsed


def kind(parsed: Parsed) -> str:
    """It must be ignored: as what."""
    assert isinstance(parsed, Ignored), parsed
    return parsed.kind


def reject(parsed: Parsed) -> Reject:
    """It must be rejected."""
    assert isinstance(parsed, Reject), parsed
    return parsed
