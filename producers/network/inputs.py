"""The interface of network sources to the producer's loop, and the order in which several are read.

    Input ──lines──► loop ──batches──► Kafka
      ▲                                  │
      └────────── acknowledged ◄─────────┘  commit the offset, answer the request

Each input presents its lines as virtual files, so that batches, positions and line numbers work as for real files. The
input is notified only after Kafka has the lines and their numbers are saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from producers.files.lines import Lines
from producers.sources.endpoint import Scheme
from producers.sources.source import Line, SourceFile

TURN_LINES_MAX = 1_000
"""Largest number of lines that a source yields before the next one gets its turn."""
HELD_SECS_MAX = 1.0
"""Seconds without a message of a sender after which its held-back lines are yielded without waiting for related lines."""
Message = TypeVar("Message")


class Outcome(StrEnum):
    """The outcome of a message or request from the network: a small closed set, because it becomes a metric label."""

    KAFKA_ACKNOWLEDGED = "kafka_acknowledged"
    """A message whose lines are published and whose offset is being committed."""
    KAFKA_LEFT = "kafka_left"
    """A message that was read but not published when its partition was revoked; the partition's next owner reads it again."""

    HTTP_ACKNOWLEDGED = "http_acknowledged"
    """A request whose lines are all published and acknowledged to the client."""
    HTTP_FULL = "http_full"
    """A request or connection that exceeds a limit; the client must send it again."""
    HTTP_UNANSWERED = "http_unanswered"
    """A request whose lines Kafka did not acknowledge in time; the client must send it again."""
    HTTP_STOPPING = "http_stopping"
    """A request during a stop; the client must send it again."""
    HTTP_UNAUTHORIZED = "http_unauthorized"
    """A request of a client without a grant."""
    HTTP_SLOW = "http_slow"
    """A request whose body took longer than `inputs.http_body_secs_max`."""
    HTTP_TOO_LARGE = "http_too_large"
    """A request larger than `inputs.http_body_bytes_max`, or compressed beyond the gzip bounds."""
    HTTP_WRONG = "http_wrong"
    """A malformed request."""


class Input(Protocol):
    """A network source."""

    def lines(self) -> Iterator[Line | None]:
        """Yield lines as they arrive, without end; None while there are none."""

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Record which lines Kafka has.

        `before` maps a virtual file to the offset before which all lines are published. Of a file that is not in it, all
        lines that were taken are published.
        """

    def stop(self) -> None:
        """Stop reading. `lines` still yields what was read, then None."""

    def close(self) -> None:
        """Close the source; called after the last acknowledgements."""


def outcomes_of(scheme: Scheme) -> list[Outcome]:
    """Return the possible outcomes of a scheme."""
    kind = "kafka_" if scheme is Scheme.KAFKA else "http_"
    return [outcome for outcome in Outcome if outcome.startswith(kind)]


def in_turns(streams: Sequence[Iterator[Line | None]]) -> Iterator[Line | None]:
    """Yield the lines of endless sources in turns, each source in its own order; None after a turn in which none had a line."""
    while True:
        quiet = True
        for stream in streams:
            for _ in range(TURN_LINES_MAX):
                line = next(stream)
                if line is None:
                    break
                quiet = False
                yield line
        if quiet:
            yield None


class VirtualFile(Generic[Message]):
    """The messages of one sender, concatenated like a file. `published` returns a message once all its lines are published."""

    def __init__(self, lines: Lines, now: float) -> None:
        self.lines = lines
        self.waiting: deque[tuple[int, Message]] = deque()
        """Messages that are not published, each with the offset of its end."""
        self._quiet_since = now

    def take(self, value: bytes, message: Message, now: float) -> Iterator[Line]:
        """Yield the lines of a message with the content `value`; `message` identifies it in `published`."""
        self._quiet_since = now
        yield from self.lines.message(value)
        self.waiting.append((self.lines.fed_to, message))

    def released(self, now: float) -> Iterator[Line]:
        """Yield the lines that are held back, if the sender has been quiet."""
        if now - self._quiet_since >= HELD_SECS_MAX:
            yield from self.lines.release()

    def published(self, before: Mapping[SourceFile, int]) -> list[Message]:
        """Remove and return the messages before the first unpublished one. `before` is described at `Input.acknowledged`."""
        offset, found = before.get(self.lines.file, self.lines.file.taken), []
        while self.waiting and self.waiting[0][0] <= offset:
            found.append(self.waiting.popleft()[1])
        return found
