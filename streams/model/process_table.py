"""Processes that used one PID in succession, and the choice of the one that opened a connection.

The system reuses a PID after its process ends. A process is valid from its start until its end or until the PID's next
process starts. A connection belongs to the process that ran when the connection began. If two processes qualify or the program
differs, the connection gets no process record: a wrong command line is worse than none.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from schemas.clock import MICROS
from schemas.events import Micros, Process
from streams.indicators.index import without_device

RUNS_MAX = 4
"""Processes kept per PID. Beyond it the oldest is evicted."""
CLOCK_ORDER: Micros = 5_000
"""Largest difference, in microseconds, between the times in a process record and in an endpoint record of one machine that
contradicts the true order of the two."""
START_APART: Micros = MICROS
"""Largest difference, in microseconds, between two sensors' start times of one process."""
COMM_CHARS = 15
"""Length to which Linux truncates a task's name (`TASK_COMM_LEN` in linux/sched.h)."""
_NEVER: Micros = 1 << 62


class Run(msgspec.Struct, array_like=True, gc=False):
    """Process with its start and end."""

    process: Process
    """The process; its `started` is 0 while only the end was reported."""
    ended: Micros
    """Time of the end; 0 while none was reported."""
    event_id: str

    @property
    def order(self) -> Micros:
        """Return the sort key among the PID's processes: the start, or the end if the start is unknown."""
        return self.process.started or self.ended


def learnt(runs: list[Run], new: Run) -> list[Run] | None:
    """Merge one process record into a PID's history; return the new history, or None if nothing changed."""
    known = next((run for run in runs if _is_same(run, new)), None)
    more = new if known is None else _merged(known, new)
    if more == known:
        return None
    return sorted([*(run for run in runs if run is not known), more], key=_in_order)[-RUNS_MAX:]


def run_of(runs: list[Run], process: Process, at: Micros) -> Run | None:
    """Return the process that opened a connection at `at` and agrees with its endpoint record; None if unsure."""
    if process.guid:
        same = next((run for run in runs if run.process.guid == process.guid), None)
        if same is not None:
            return same if same.process.started else None
    found = []
    for index, run in enumerate(runs):
        following = runs[index + 1].order if index + 1 < len(runs) else _NEVER
        until = min(run.ended or _NEVER, following)
        if run.process.started - CLOCK_ORDER <= at <= until + CLOCK_ORDER and may_be_same(run.process, process):
            found.append(run)
    return found[0] if len(found) == 1 and found[0].process.started else None


def filled(process: Process, more: Process) -> Process:
    """Return a process with its empty fields filled from another record of the same process.

    Domain and SID are not filled if the other record names a different account.
    """
    fields: dict[str, object] = {}
    for name in process.__struct_fields__:
        if getattr(process, name) in _NOTHING:
            fields[name] = getattr(more, name)
    if process.account and process.account != more.account:
        fields.pop("domain", None)
        fields.pop("sid", None)
    return replace(process, **fields)


_NOTHING = (None, "", 0)


def may_be_same(one: Process, other: Process) -> bool:
    """Return whether two records agree on GUID, start and program, as far as both contain them."""
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
    """Return a Windows path in lower case and without its drive or device, as the spelling differs; keep other paths."""
    return without_device(path.lower()) if "\\" in path else path


def _is_same(run: Run, new: Run) -> bool:
    one, other = run.process, new.process
    if one.guid and other.guid:
        return one.guid == other.guid
    if run.event_id == new.event_id:
        return True
    return one.started == other.started != 0 and may_be_same(one, other)


def _merged(one: Run, other: Run) -> Run:
    """Merge two records of one process; the one that contains the start takes precedence."""
    first, second = sorted((one, other), key=lambda run: (not run.process.started, run.event_id))
    return Run(filled(first.process, second.process), max(one.ended, other.ended), first.event_id)


def _in_order(run: Run) -> tuple[Micros, str]:
    return run.order, run.event_id
