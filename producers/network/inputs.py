"""Sources on the network: what the producer's loop wants of them, and how several take turns.

    Input ──lines──► loop ──batches──► Kafka
      ▲                                  │
      └────────── acknowledged ◄─────────┘  commit the offset, answer the request

Each input gives its lines as files of its own making, so that batches, positions and numbers work as for real ones. Only
after Kafka has lines, and their numbers are kept, the input hears of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from producers.sources.endpoint import Scheme
from producers.sources.source import Line, SourceFile

TURN_LINES_MAX = 1_000
"""Lines that one source gives before the others have their turn."""


class Outcome(StrEnum):
    """What became of something that came over the network: a small closed set, as it becomes a metric label."""

    KAFKA_ACKNOWLEDGED = "kafka_acknowledged"
    """A message: its lines are published and its offset is on its way to be committed."""
    KAFKA_LEFT = "kafka_left"
    """A message that was read when the group gave its partition away: who has it now reads it again."""

    HTTP_ACKNOWLEDGED = "http_acknowledged"
    """A request: all its lines are published, and it was told so."""
    HTTP_FULL = "http_full"
    """A request or connection for which there was no room: to be sent again."""
    HTTP_UNANSWERED = "http_unanswered"
    """A request whose lines Kafka did not acknowledge in time: to be sent again."""
    HTTP_STOPPING = "http_stopping"
    """A request that came while we stopped: to be sent again."""
    HTTP_UNAUTHORIZED = "http_unauthorized"
    """A request of a client that no grant names."""
    HTTP_SLOW = "http_slow"
    """A request whose body took longer than `inputs.http_body_secs_max`."""
    HTTP_TOO_LARGE = "http_too_large"
    """A request with more than `inputs.http_body_bytes_max`, or packed beyond the bounds of gzip."""
    HTTP_WRONG = "http_wrong"
    """A request that cannot be understood."""


class Input(Protocol):
    """A source on the network."""

    def lines(self) -> Iterator[Line | None]:
        """Lines as they come, without end; None where there are none now."""

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """All is published before these offsets of its files; of a file that is not named, all that was taken."""

    def stop(self) -> None:
        """Read nothing more. What was read is still given by `lines`, then None."""

    def close(self) -> None:
        """Take nothing more; called after the last word on what is acknowledged."""


def outcomes_of(scheme: Scheme) -> list[Outcome]:
    """What may become of what comes that way."""
    kind = "kafka_" if scheme is Scheme.KAFKA else "http_"
    return [outcome for outcome in Outcome if outcome.startswith(kind)]


def in_turns(streams: Sequence[Iterator[Line | None]]) -> Iterator[Line | None]:
    """Lines of sources that never end, each in its own order; None once none of them had any."""
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


def published_before(file: SourceFile, before: Mapping[SourceFile, int]) -> int:
    """Before which offset of a file all is published."""
    return before.get(file, file.taken)
