"""Lines that cannot be read: what reading raises, and the reject or the default that the caller gets in its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import msgspec

from schemas.events import Reason, Reject

Value = TypeVar("Value")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors of decoding JSON."""
FAULTS = (*UNREADABLE, ValueError, OverflowError)
"""Errors of reading a line."""


class Unread(ValueError):
    """A line that cannot be read, with the reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Missing(Unread):
    """A line lacks a field that every event needs."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.INCOMPLETE, detail)


def reject_of(error: Exception, raw: bytes) -> Reject:
    """Return the reject for an error that reading a line raised."""
    detail = str(error) or type(error).__name__
    if isinstance(error, Unread):
        reason = error.reason
    elif isinstance(error, msgspec.ValidationError):
        reason = Reason.INCOMPLETE if detail.startswith("Object missing required") else Reason.BAD_VALUE
    else:
        reason = Reason.MALFORMED if isinstance(error, UNREADABLE) else Reason.BAD_VALUE
    return Reject(reason, detail, raw)


def otherwise(default: Value) -> Callable[[Callable[[bytes], Value]], Callable[[bytes], Value]]:
    """Return a decorator: the function returns `default` for a line that cannot be read."""

    def decorate(read: Callable[[bytes], Value]) -> Callable[[bytes], Value]:
        @wraps(read)
        def guarded(raw: bytes) -> Value:
            try:
                return read(raw)
            except FAULTS:
                return default

        return guarded

    return decorate
