"""Quarantine: rejection of messages on which workers died twice, so that such a message cannot block its partition.

A death counts when a process ends while it reads a message (`at_hand.py`), whatever the cause. The worker registers the
death in Kafka at its next start (`deaths.py`, with the limits of this register), before it joins its consumer group. Each
worker requests the deaths in a partition from Kafka before it reads the partition's first message. The deaths are therefore
known to all workers, even after the loss of a disk.

    deaths at an offset                                      treatment of the message
    0 or 1                                                   read as usual
    2 or more                                                the lines at which workers died are rejected, all others are read
    2 or more, one outside of the lines or at three lines    the whole message is rejected

A message with a rejected part ends its batch and is committed at once. If the next message ends the worker, the rejected
message is therefore not read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

NO_LINE = -1
"""Line index before the first line of a message and after the last one."""
LINES_DEATHS_MIN = 2
"""Minimum number of deaths at an offset for lines of its message to be rejected."""
WHOLE_LINES_MIN = 3
"""Minimum number of fatal lines for the whole message to be rejected: it has more than workers can find one by one."""


class Death(NamedTuple):
    """The end of a worker process while it read a message of a partition."""

    offset: int
    line: int
    """Index of the line in the message, after envelopes are split into rows; NO_LINE outside of the lines."""
    exit_code: int
    """Exit code that the worker set itself; 0 where it ended before it could set one."""


class Refused(NamedTuple):
    """The parts of a message that must not be read, and the reason as text."""

    lines: Collection[int]
    """Line indices; NO_LINE stands for the whole message."""
    detail: str

    @property
    def whole(self) -> bool:
        """Whether the whole message must not be read."""
        return NO_LINE in self.lines


def refused_after(deaths: Iterable[Death], start: int) -> Mapping[int, Refused]:
    """Return what must not be read of a partition, by offset, for a group that resumes at offset `start`."""
    at: dict[int, list[Death]] = {}
    for death in deaths:
        if death.offset >= start:
            at.setdefault(death.offset, []).append(death)
    return {offset: _refused(some) for offset, some in at.items() if len(some) >= LINES_DEATHS_MIN}


def _refused(deaths: list[Death]) -> Refused:
    lines = {death.line for death in deaths}
    if len(lines) >= WHOLE_LINES_MIN:
        lines.add(NO_LINE)
    where = ", ".join(
        "outside of its lines" if death.line == NO_LINE else f"at line {death.line + 1}" for death in deaths
    )
    codes = ", ".join(str(death.exit_code) if death.exit_code else "none" for death in deaths)
    detail = (
        f"{len(deaths)} worker processes ended while they read the message at offset {deaths[0].offset} ({where}; their own "
        f"exit codes: {codes}); expected a line that is read within seconds and without using up the memory; report it with "
        f"the line, and read it again after the fix"
    )
    return Refused(frozenset(lines), detail)
