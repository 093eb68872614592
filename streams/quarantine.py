"""Quarantine: a message that ended workers twice goes to `rejects`, so that it cannot stop its partition for ever.

A death counts when a process ended while a message was at hand (`at_hand.py`), whatever ended it. The worker registers the
death when it starts again (`deaths.py`), before it joins its group; each worker asks for the deaths in a partition before it
reads the first message of it. So all workers know them, and whose disk is lost does not matter.

    deaths at an offset   what is done with the message
    0 or 1                it is read as always
    2 or more             the lines at which workers died are rejected, all others are read
    at three lines        it is rejected whole; also when one of 2 or more was outside of the lines

A message of which something is rejected ends its batch and is committed at once, so that the next such message is met with
nothing of this one left to remember.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

NO_LINE = -1
"""Before the first line of a message and after the last one."""
LINES_DEATHS_MIN = 2
"""Deaths at an offset from which on lines of its message are rejected."""
WHOLE_LINES_MIN = 3
"""Lines from which on the message is rejected whole: it has more of them than can be found one by one."""


class Death(NamedTuple):
    """A process ended while it worked here, in some partition."""

    offset: int
    line: int
    """Index among the lines of the message, an export's envelope taken apart; NO_LINE outside of them."""
    exit_code: int
    """The code with which the worker ended itself; 0 where it had no time to say one."""


class Refused(NamedTuple):
    """What of a message must not be read, and why in words."""

    lines: Collection[int]
    """Indices; NO_LINE among them: the whole message."""
    detail: str

    @property
    def whole(self) -> bool:
        """Nothing of the message may be read."""
        return NO_LINE in self.lines


def refused_after(deaths: Iterable[Death], start: int) -> Mapping[int, Refused]:
    """What must not be read of a partition, by offset, where the group goes on at `start`."""
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
