"""The interface of a receiver, and the kinds of its answers.

DELIVERED       the receiver has the alert
REFUSED         the receiver will never accept this alert; it may accept others
UNREACHABLE     there is no connection, or it broke      ┐
TIMEOUT         the receiver did not answer in time      │ retry later
BUSY            the receiver requests a pause            │
FAILED          the receiver has an internal error       ┘
MISCONFIGURED   retry later, and an operator must act: login, address or certificate is wrong
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from schemas.settings import SettingsError
from sinks.forward.alert import ForwardedAlert


class Answer(StrEnum):
    """The result of one try."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BUSY = "busy"
    FAILED = "failed"
    MISCONFIGURED = "misconfigured"


class Reply(NamedTuple):
    """An answer with its details."""

    answer: Answer
    text: str
    """Description for logs, without secrets."""
    pause_secs: float = 0.0
    """Pause in seconds that the receiver requests."""
    body: str = ""
    """Beginning of the receiver's response, shown to an operator who tests the receiver; not logged."""


class Target(Protocol):
    """A receiver of alerts."""

    name: str
    """Name for logs, without secrets."""
    parallel: int
    """Number of threads that may send at once."""

    def send(self, raw: bytes, alert: ForwardedAlert) -> Reply:
        """Try once to send an alert; `raw` is its message in Kafka.

        Errors of the receiver and of the network are returned as replies, not raised.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def content_of(key: str, path: str) -> str:
    """Return the content of a text file that a setting names. Raises SettingsError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"forward.{key}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"forward.{key}: {path} is not text in UTF-8") from None
