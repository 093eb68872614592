"""History of a device's protection mode with its evidence. Reports may arrive late and out of order. Pure.

    evidence                                                          mode from its time on
    none                                                              off
    report: Defender's setting, a sensor's status, the settings       the reported mode
    proof: a verdict                                                  the proved mode if it is higher: off < audit < block

A mode is valid until the next report, or until the next proof of a higher mode. A verdict never lowers the mode: a device in
block mode may also audit a request, so an audited request does not contradict block.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from schemas.events import Action, Micros, ModeChanged, ModeEvidence, ProtectionMode
from schemas.tables import ModeStatus
from streams.model.connection import AUDITED, STOPPED
from streams.model.device import NEVER, Device, DeviceState
from streams.model.protection import ModeEntry, Span

ENTRIES_MAX = 256
"""Changes kept per device. Beyond it the oldest is evicted; for late events from its period the mode is off."""
REPORTS_MAX = 16
"""Reports kept per device and mode, and as many proofs, including those that changed nothing on arrival. Beyond it the oldest
is evicted. If a change that precedes an evicted report arrives later, the next kept report is applied instead."""

_RANK = {ProtectionMode.OFF: 0, ProtectionMode.AUDIT: 1, ProtectionMode.BLOCK: 2}
_MODES = len(_RANK)
_BLOCK, _AUDIT, _OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF


def mode_at(state: DeviceState, at: Micros, flags: int = 0) -> ProtectionMode:
    """Return the device's protection mode at a time, at least the mode that the verdicts in `flags` prove."""
    if flags & STOPPED:
        return _BLOCK
    mode = reported_mode(state, at) if state.modes else None
    return _AUDIT if flags & AUDITED and mode is not _BLOCK else mode or _OFF


def reported_mode(state: DeviceState, at: Micros) -> ProtectionMode | None:
    """Return the mode at a time by the history; None if the history begins later."""
    entry = _entry_at(state, at)
    return entry.mode if entry is not None else None


def mode_changes(state: DeviceState, at: Micros) -> int:
    """Return the history's contribution to a version: a number that grows whenever a new report changes the mode at that time.

    For an earlier time the number may be lower, by at most 3 for each of the `ENTRIES_MAX` entries.
    """
    if not state.modes:
        return _MODES * state.modes_gone
    changes, rank, proved = state.modes_gone, 0, 0
    for entry in state.modes:
        if entry.at > at:
            break
        if entry.evidence is ModeEvidence.VERDICT:
            proved = max(proved, _RANK[entry.mode] - rank)
        else:
            changes, rank, proved = changes + 1, _RANK[entry.mode], 0
    return _MODES * changes + proved


def apply_mode(device: Device, event: ModeChanged) -> bool:
    """Apply a mode that a sensor or the settings report; return False if the periods of the history stay the same."""
    before = spans(device.state)
    state = device.state
    if event.before is not None:
        known_better = [entry for entry in state.modes if entry.change_at <= event.at]
        state.modes_gone += len(state.modes) - len(known_better)
        state.modes = known_better
        if _entry_at(state, event.at) is None:
            _put(state, ModeEntry(0, event.before, event.evidence, event.event_id, event.at))
    known = _entry_at(state, event.at)
    if known is None or known.mode is not event.mode:
        _put(state, ModeEntry(event.at, event.mode, event.evidence, event.event_id))
        _reapply_reports(state, event.at, event.mode)
    _keep_report(state, event.at, event.mode, event.evidence, event.event_id)
    return _queue_rows(device, before)


def prove(device: Device, at: Micros, action: Action, event_id: str) -> bool:
    """Apply the mode that a verdict proves; return False if the periods of the history stay the same."""
    mode = _AUDIT if action is Action.AUDITED else _BLOCK
    state = device.state
    _keep_report(state, at, mode, ModeEvidence.VERDICT, event_id)
    if _RANK[mode] <= _RANK[reported_mode(state, at) or _OFF]:
        return False
    before = spans(state)
    _put(state, ModeEntry(at, mode, ModeEvidence.VERDICT, event_id))
    _reapply_reports(state, at, mode)
    return _queue_rows(device, before)


def spans(state: DeviceState) -> tuple[Span, ...]:
    """Return the history as periods without gaps, from its first entry on; consecutive entries of one mode are one period."""
    found: list[Span] = []
    for entry in _that_count(state):
        if not found or found[-1].mode is not entry.mode:
            if found:
                found[-1] = found[-1]._replace(until=entry.at)
            found.append(Span(entry.at, 0, entry.mode, entry.evidence, entry.event_id))
    return tuple(found)


def _time(entry: ModeEntry) -> Micros:
    return entry.at


def _that_count(state: DeviceState) -> Iterator[ModeEntry]:
    """Yield the entries, except proofs that do not raise the mode valid at their time."""
    rank = 0
    for entry in state.modes:
        if entry.evidence is not ModeEvidence.VERDICT or _RANK[entry.mode] > rank:
            rank = _RANK[entry.mode]
            yield entry


def _entry_at(state: DeviceState, at: Micros) -> ModeEntry | None:
    found = None
    for entry in _that_count(state):
        if entry.at > at:
            break
        found = entry
    return found


def _put(state: DeviceState, entry: ModeEntry) -> None:
    state.modes.insert(bisect_right(state.modes, entry.at, key=_time), entry)
    if len(state.modes) > ENTRIES_MAX:
        del state.modes[0]
        state.modes_gone += 1


def _keep_report(state: DeviceState, at: Micros, mode: ProtectionMode, evidence: ModeEvidence, event_id: str) -> None:
    """Keep a report even if it changed nothing: it has an effect if an earlier change arrives later (`_reapply_reports`)."""
    reports = state.mode_reports.setdefault(mode, [])
    index = bisect_right(reports, at, key=_time)
    if index and reports[index - 1].at == at and reports[index - 1].evidence is evidence:
        return
    reports.insert(index, ModeEntry(at, mode, evidence, event_id))
    proves = evidence is ModeEvidence.VERDICT
    alike = [report for report in reports if (report.evidence is ModeEvidence.VERDICT) is proves]
    if len(alike) > REPORTS_MAX:
        reports.remove(alike[0])


def _reapply_reports(state: DeviceState, at: Micros, mode: ProtectionMode) -> None:
    """Insert the kept reports between the change at `at` to `mode` and the next entry that counts, if they change the mode.

    Before a late change arrived, these reports changed nothing, so they are not in the history yet.
    """
    following = state.modes[bisect_right(state.modes, at, key=_time) :]
    counting = (
        entry for entry in following if entry.evidence is not ModeEvidence.VERDICT or _RANK[entry.mode] > _RANK[mode]
    )
    until = next((entry.at for entry in counting), NEVER)
    later = [report for reports in state.mode_reports.values() for report in reports if at < report.at < until]
    for report in sorted(later, key=_time):
        proved = report.evidence is ModeEvidence.VERDICT
        if _RANK[report.mode] > _RANK[mode] if proved else report.mode is not mode:
            _put(state, report)
            mode = report.mode


def _queue_rows(device: Device, before: tuple[Span, ...]) -> bool:
    """Queue the rows of the history that are new, changed or withdrawn; return False if there are none."""
    state = device.state
    after = spans(state)
    if after == before:
        return False
    state.modes_version += 1
    known = set(before)
    there = {span.since for span in after}
    device.mode_rows += [(span, ModeStatus.KNOWN, state.modes_version) for span in after if span not in known]
    gone = [span for span in before if span.since not in there and span.since >= after[0].since]
    device.mode_rows += [(span, ModeStatus.WITHDRAWN, state.modes_version) for span in gone]
    return True
