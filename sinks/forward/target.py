"""What a receiver is to the forwarder, and the words for what it answers.

DELIVERED       it has the alert
REFUSED         it will never take this alert; others it may
UNREACHABLE     no connection, or it broke       ┐
TIMEOUT         no answer in time                │ the same again, later
BUSY            it asks for patience             │
FAILED          it is broken                     ┘
MISCONFIGURED   the same again, and a person must act: login, address, certificate
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from schemas.settings import SettingsError
from sinks.forward.alert import ForwardedAlert


class Answer(StrEnum):
    """What became of one try."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BUSY = "busy"
    FAILED = "failed"
    MISCONFIGURED = "misconfigured"


class Reply(NamedTuple):
    """An answer, and more of it."""

    answer: Answer
    said: str
    """In words of ours; nothing secret is in them."""
    pause_secs: float = 0.0
    """The receiver asks not to be tried before."""
    body: str = ""
    """The beginning of what the receiver wrote: for whoever tries it out, not for a log."""


class Target(Protocol):
    """Where alerts go."""

    name: str
    """Without secrets, for logs."""
    parallel: int
    """How many threads may send at once."""

    def send(self, raw: bytes, alert: ForwardedAlert) -> Reply:
        """Try once. Raises nothing that a receiver or a network can cause."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def content_of(key: str, path: str) -> str:
    """A text file that a setting names. Raises SettingsError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"forward.{key}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"forward.{key}: {path} is not text in UTF-8") from None
