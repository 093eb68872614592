"""A producer in a thread of the test, for sources that never end."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message

from producers.publish.report import Report
from producers.run import produce
from producers.sources.source import parse_source
from schemas.settings import Settings


class Running:
    """Runs while the block does; `report` is what it did so far."""

    def __init__(self, settings: Settings, *sources: str, **options: Any) -> None:
        self.stop, self.report = threading.Event(), Report()
        self._given = settings, [parse_source(source) for source in sources], options
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        settings, sources, options = self._given
        self.report = produce(settings, sources, stop=self.stop, progress=self._tell, **options)

    def _tell(self, report: Report) -> None:
        self.report = report

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def lines_of(messages: Iterable[Message]) -> list[bytes]:
    """What is in the messages, in their order."""
    return [line for message in messages for line in (message.value() or b"").split(b"\n")]
