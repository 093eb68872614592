"""`unproxy simulate`: publishes the lines of a simulated fleet, or writes them to a folder, with the truth about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from common.throttle import Throttle
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name
from unproxy.errors import Failed, Fixable
from unproxy.kafka.cluster import partitions_of
from unproxy.wiring import REPORT_SECS, report_to

if TYPE_CHECKING:
    from producers.simulation import WorldSettings

log = logging.getLogger(__name__)


def world_of(**values: Any) -> WorldSettings:
    """Return the settings of a simulated world. Raises Fixable if a value is invalid."""
    from producers.simulation import WorldError, WorldSettings

    try:
        return WorldSettings(**values)
    except WorldError as error:
        raise Fixable(str(error)) from None


def to_kafka(
    settings: Settings, world: WorldSettings, stop: Event, *, speed: float, processes: int, truth: Path | None
) -> list[str]:
    """Publish the lines of a world until it ends or `stop` is set; return a description of its content as lines.

    The truth is written to the file `truth`, if it is given. Raises Failed and Fixable.
    """
    from producers.publish.publisher import PublisherFailed
    from producers.simulation.output.shards import feed_all, processes_for
    from producers.simulation.output.summary import in_words

    partitions_of(settings, topic_name(settings, TELEMETRY))
    try:
        result = feed_all(
            settings,
            world,
            stop=stop,
            speed=speed,
            processes=processes or processes_for(world, speed),
            truth=truth,
            progress=report_to(None),
        )
    except PublisherFailed as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Fixable(f"{truth}: cannot be written: {error.strerror}; name another file") from None
    done = result.report
    if done.unacknowledged_messages:
        raise Failed(f"{settings.kafka.bootstrap}: did not acknowledge {done.unacknowledged_messages} messages")
    ended = "stopped early" if stop.is_set() else "whole"
    sent = f"{done.lines:>10,}  in {done.messages:,} messages, all acknowledged by {settings.kafka.bootstrap}, {ended}"
    return [*in_words(result.tally), f"{'published':13}{sent}"]


def to_folder(world: WorldSettings, folder: Path, stop: Event) -> list[str]:
    """Write the lines of a world and its truth to a new folder, until the world ends or `stop` is set.

    Return a description of its content as lines. Raises Fixable if the folder is not empty or cannot be written.
    """
    from producers.simulation.output.folder import write_folder
    from producers.simulation.output.summary import in_words

    try:
        if folder.exists() and any(folder.iterdir()):
            raise Fixable(f"{folder}: is not empty; name a new folder")
        tally = write_folder(world, folder, stop, _log_lines())
    except OSError as error:
        raise Fixable(f"{folder}: cannot be written: {error.strerror}; name another folder") from None
    return in_words(tally)


def _log_lines() -> Callable[[int], None]:
    throttle = Throttle(REPORT_SECS, at_once=False)

    def progress(lines: int) -> None:
        if throttle.due():
            log.info("writing", extra={"lines": lines})

    return progress
