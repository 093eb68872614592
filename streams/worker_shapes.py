"""What the worker asks of a pipeline: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from schemas.events import Reject
from schemas.settings import CorrelationSettings


class Message(NamedTuple):
    """One input message; key and value as they are on the topic."""

    offset: int
    logged_ms: int
    key: bytes
    value: bytes
    dialect: str


@dataclass(slots=True)
class Output:
    """What a pipeline made, ready to be sent."""

    network_events: list[bytes] = field(default_factory=list)
    device_events: list[bytes] = field(default_factory=list)
    alerts: list[tuple[bytes, bytes]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class Pipeline(Protocol):
    """One input partition's pipeline; `streams.pipeline.Pipeline` is the real one."""

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over the state of an earlier life."""

    def entries_since(self, offset: int) -> list[tuple[bytes, bytes]]:
        """State entries written for input at or after this offset."""

    def take(self, message: Message) -> None:
        """Handle one message; one that is in the state already does nothing."""

    def drain(self) -> Output:
        """What the taken messages made, emptied."""

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """State entries to write now."""

    def book(self) -> dict[str, int]:
        """Counters."""


MakePipeline = Callable[[CorrelationSettings], Pipeline]
