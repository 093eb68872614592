"""What a parsed line must be, for tests that go on with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from schemas.events import ConnectionOpened, HttpExchange, Ignored, Parsed, ProcessStarted, ProcessVerdict, Reject

Outcome = TypeVar("Outcome")


def _must_be(wanted: type[Outcome]) -> Callable[[Parsed], Outcome]:
    def checked(parsed: Parsed) -> Outcome:
        assert isinstance(parsed, wanted), parsed
        return parsed

    return checked


opened = _must_be(ConnectionOpened)
request = _must_be(HttpExchange)
reported = _must_be(ProcessStarted)
"""A process's start or end."""
verdict = _must_be(ProcessVerdict)
reject = _must_be(Reject)
_ignored = _must_be(Ignored)


def kind(parsed: Parsed) -> str:
    """It must be ignored: as what."""
    return _ignored(parsed).kind
