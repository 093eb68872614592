"""What is known of one PID: the processes that had it one after another, and which of them a connection is of.

A PID is given anew once its process is over. So a process counts from its start until its end, or until the PID's next one
began; a connection is of the one process that ran when it began. Where two come into question, or the program is another one,
it is of none: another process's command line is worse than no command line.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from schemas.clock import MICROS
from schemas.events import Micros, Process
from streams.indicators.index import without_device

RUNS_MAX = 4
"""Processes remembered of one PID. Beyond it the oldest is forgotten."""
CLOCK_ORDER: Micros = 5_000
"""Records of one machine that come by different ways may be so far out of order."""
START_APART: Micros = MICROS
"""Two sensors tell the start of one process within this."""
COMM_CHARS = 15
"""Linux cuts a task's name to these (`TASK_COMM_LEN` in linux/sched.h)."""
_NEVER: Micros = 1 << 62


class Run(msgspec.Struct, array_like=True, gc=False):
    """One process from its start to its end."""

    process: Process
    """`started` is 0 while only its end was told."""
    ended: Micros
    """0 while nobody said so."""
    event_id: str

    @property
    def order(self) -> Micros:
        """Its place among those of the PID."""
        return self.process.started or self.ended


def learnt(runs: list[Run], new: Run) -> list[Run] | None:
    """The processes of a PID with what was told of one; None where that is nothing new."""
    known = next((run for run in runs if _is_same(run, new)), None)
    more = new if known is None else _merged(known, new)
    if more == known:
        return None
    return sorted([*(run for run in runs if run is not known), more], key=_in_order)[-RUNS_MAX:]


def run_of(runs: list[Run], process: Process, at: Micros) -> Run | None:
    """The one process that made a connection at that time, as far as the connection tells of it; None where it is not sure."""
    if process.guid:
        same = next((run for run in runs if run.process.guid == process.guid), None)
        if same is not None:
            return same if same.process.started else None
    found = []
    for place, run in enumerate(runs):
        following = runs[place + 1].order if place + 1 < len(runs) else _NEVER
        until = min(run.ended or _NEVER, following)
        if run.process.started - CLOCK_ORDER <= at <= until + CLOCK_ORDER and may_be_same(run.process, process):
            found.append(run)
    return found[0] if len(found) == 1 and found[0].process.started else None


def filled(process: Process, more: Process) -> Process:
    """A process with what only the other record of it tells. An account and its domain come from one of them."""
    told: dict[str, object] = {}
    for name in process.__struct_fields__:
        if getattr(process, name) in _NOTHING:
            told[name] = getattr(more, name)
    if process.account and process.account != more.account:
        told.pop("domain", None)
        told.pop("sid", None)
    return replace(process, **told)


_NOTHING = (None, "", 0)


def may_be_same(one: Process, other: Process) -> bool:
    """Nothing that both tell differs: GUID, start and program."""
    if one.guid and other.guid and one.guid != other.guid:
        return False
    if one.started and other.started and abs(one.started - other.started) > START_APART:
        return False
    if one.path and other.path:
        return _spelt(one.path) == _spelt(other.path)
    a, b = one.name, other.name
    if "\\" in one.path + other.path:
        a, b = a.lower(), b.lower()
    if COMM_CHARS in (len(a), len(b)):
        a, b = a[:COMM_CHARS], b[:COMM_CHARS]
    return not a or not b or a == b


def _spelt(path: str) -> str:
    """Windows does not tell upper from lower case, nor a drive from the device behind it."""
    return without_device(path.lower()) if "\\" in path else path


def _is_same(run: Run, new: Run) -> bool:
    one, other = run.process, new.process
    if one.guid and other.guid:
        return one.guid == other.guid
    if run.event_id == new.event_id:
        return True
    return one.started == other.started != 0 and may_be_same(one, other)


def _merged(one: Run, other: Run) -> Run:
    """Two records of one process: the one that tells its start counts first."""
    first, second = sorted((one, other), key=lambda run: (not run.process.started, run.event_id))
    return Run(filled(first.process, second.process), max(one.ended, other.ended), first.event_id)


def _in_order(run: Run) -> tuple[Micros, str]:
    return run.order, run.event_id
