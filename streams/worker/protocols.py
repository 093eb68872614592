"""What the worker asks of a pipeline: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from typing import Protocol

from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output
from streams.quarantine import Refused


class PipelineLike(Protocol):
    """One input partition's pipeline; `streams.pipeline.Pipeline` is the real one."""

    line_at_hand: MutableSequence[int]
    """One number: it says there which line of a message it reads."""

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over some devices' state of an earlier life."""

    def take(self, message: Message, refused: Refused | None = None) -> None:
        """Handle one message, some of its lines rejected unread; one that is in the state already does nothing."""

    def drain(self) -> Output:
        """What the taken messages made, emptied."""

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """State entries to write now."""

    def book(self) -> dict[str, int]:
        """Counters."""


MakePipeline = Callable[[CorrelationSettings, Policy], PipelineLike]
