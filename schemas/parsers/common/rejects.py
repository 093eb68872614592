"""Errors of reading a line, and the reject or default value that the caller gets instead of an exception."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import msgspec

from schemas.events import Reason, Reject

Value = TypeVar("Value")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions that decoding JSON may raise."""
FAULTS = (*UNREADABLE, ValueError, OverflowError)
"""Exceptions that reading a line may raise."""


class Unread(ValueError):
    """The error that a line cannot be read, with the reason for rejection."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Missing(Unread):
    """The error that a line lacks a required field."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.INCOMPLETE, detail)


def reject_of(error: Exception, raw: bytes) -> Reject:
    """Return the reject for an exception that reading the line raised."""
    detail = str(error) or type(error).__name__
    if isinstance(error, Unread):
        reason = error.reason
    elif isinstance(error, msgspec.ValidationError):
        reason = Reason.INCOMPLETE if detail.startswith("Object missing required") else Reason.BAD_VALUE
    else:
        reason = Reason.MALFORMED if isinstance(error, UNREADABLE) else Reason.BAD_VALUE
    return Reject(reason, detail, raw)


def otherwise(default: Value) -> Callable[[Callable[[bytes], Value]], Callable[[bytes], Value]]:
    """Return a decorator that makes a function return `default` for a line that cannot be read."""

    def decorate(read: Callable[[bytes], Value]) -> Callable[[bytes], Value]:
        @wraps(read)
        def guarded(raw: bytes) -> Value:
            try:
                return read(raw)
            except FAULTS:
                return default

        return guarded

    return decorate
