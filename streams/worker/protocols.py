"""The interface of a pipeline for the worker: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from typing import Protocol

from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output
from streams.quarantine import Refused


class PipelineLike(Protocol):
    """The pipeline of one input partition; `streams.pipeline.Pipeline` is the implementation."""

    current_line: MutableSequence[int]
    """One number, written by the pipeline: the line of a message that it reads now."""

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Restore the state of some devices from all of their entries."""

    def take(self, message: Message, refused: Refused | None = None) -> None:
        """Handle one message; reject the `refused` lines unread. A message that the state already contains has no effect."""

    def drain(self) -> Output:
        """Return the output of the messages taken since the last call, and empty it."""

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """Return the state entries to write now."""

    def book(self) -> dict[str, int]:
        """Return the counters."""


MakePipeline = Callable[[CorrelationSettings, Policy], PipelineLike]
