"""History of a device's protection mode with its evidence; accepts late reports. Pure.

    nothing known ──► off        reported: Defender's setting, a sensor's status, our settings    proved: a verdict
                                 valid from then on, until another mode is reported or proved

A verdict only raises the mode: a device in block mode may also audit a request, so an audited request does not contradict
block. A reported mode is valid from its time on, regardless of earlier entries, until the next reported or proved mode.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from schemas.events import Action, Micros, ModeChanged, ModeEvidence, ProtectionMode
from schemas.tables import ModeStatus
from streams.model.connection import AUDITED, STOPPED
from streams.model.device import NEVER, Device, Facts
from streams.model.protection import ModeEntry, Span

ENTRIES_MAX = 256
"""Changes kept per device. Beyond it the oldest is evicted; late events from its period are treated as mode off."""
WORDS_MAX = 16
"""Reports kept per device and mode, with proofs counted separately, even if they changed nothing on arrival. Beyond it the
oldest is evicted. If a late change then precedes it, the next kept report takes its place."""
EVIDENCE = 1_024
"""What a piece of evidence adds to a version. It may also move a row's time back, which shrinks the history's contribution.
That contribution is below this value, as 3 * `ENTRIES_MAX` is."""

_RANK = {ProtectionMode.OFF: 0, ProtectionMode.AUDIT: 1, ProtectionMode.BLOCK: 2}
_MODES = len(_RANK)
_BLOCK, _AUDIT, _OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF


def mode_at(facts: Facts, at: Micros, flags: int = 0) -> ProtectionMode:
    """Return the device's protection mode at a time; a verdict in `flags` proves its own mode."""
    if flags & STOPPED:
        return _BLOCK
    mode = reported_mode(facts, at) if facts.modes else None
    return _AUDIT if flags & AUDITED and mode is not _BLOCK else mode or _OFF


def reported_mode(facts: Facts, at: Micros) -> ProtectionMode | None:
    """Return the mode that the history contains for a time; None if it contains none."""
    entry = _entry_at(facts, at)
    return entry.mode if entry is not None else None


def mode_changes(facts: Facts, at: Micros) -> int:
    """Return the history's contribution to a version, which grows whenever the mode at that time changes."""
    said, rank, proved = facts.modes_gone, 0, 0
    if not facts.modes:
        return _MODES * said
    for entry in facts.modes:
        if entry.at > at:
            break
        if entry.evidence is ModeEvidence.VERDICT:
            proved = max(proved, _RANK[entry.mode] - rank)
        else:
            said, rank, proved = said + 1, _RANK[entry.mode], 0
    return _MODES * said + proved


def hear(device: Device, event: ModeChanged) -> bool:
    """Apply a mode reported by a sensor or the settings; return False if the history stays the same."""
    before = spans(device.facts)
    facts = device.facts
    if event.before is not None:
        known_better = [entry for entry in facts.modes if entry.told_at <= event.at]
        facts.modes_gone += len(facts.modes) - len(known_better)
        facts.modes = known_better
        if _entry_at(facts, event.at) is None:
            _put(facts, ModeEntry(0, event.before, event.evidence, event.event_id, event.at))
    known = _entry_at(facts, event.at)
    if known is None or known.mode is not event.mode:
        _put(facts, ModeEntry(event.at, event.mode, event.evidence, event.event_id))
        _say_again(facts, event.at, event.mode)
    _note(facts, event.at, event.mode, event.evidence, event.event_id)
    return _tell(device, before)


def prove(device: Device, at: Micros, action: Action, event_id: str) -> bool:
    """Apply the mode that a verdict proves; return False if the history stays the same."""
    mode = _AUDIT if action is Action.AUDITED else _BLOCK
    facts = device.facts
    _note(facts, at, mode, ModeEvidence.VERDICT, event_id)
    if _RANK[mode] <= _RANK[reported_mode(facts, at) or _OFF]:
        return False
    before = spans(facts)
    _put(facts, ModeEntry(at, mode, ModeEvidence.VERDICT, event_id))
    _say_again(facts, at, mode)
    return _tell(device, before)


def spans(facts: Facts) -> tuple[Span, ...]:
    """Return the history without gaps from its first known entry; adjacent entries of one mode are merged."""
    found: list[Span] = []
    for entry in _that_count(facts):
        if not found or found[-1].mode is not entry.mode:
            if found:
                found[-1] = found[-1]._replace(until=entry.at)
            found.append(Span(entry.at, 0, entry.mode, entry.evidence, entry.event_id))
    return tuple(found)


def _time(entry: ModeEntry) -> Micros:
    return entry.at


def _that_count(facts: Facts) -> Iterator[ModeEntry]:
    """Yield the entries, except verdicts that do not raise the valid mode."""
    rank = 0
    for entry in facts.modes:
        if entry.evidence is not ModeEvidence.VERDICT or _RANK[entry.mode] > rank:
            rank = _RANK[entry.mode]
            yield entry


def _entry_at(facts: Facts, at: Micros) -> ModeEntry | None:
    found = None
    for entry in _that_count(facts):
        if entry.at > at:
            break
        found = entry
    return found


def _put(facts: Facts, entry: ModeEntry) -> None:
    facts.modes.insert(bisect_right(facts.modes, entry.at, key=_time), entry)
    if len(facts.modes) > ENTRIES_MAX:
        del facts.modes[0]
        facts.modes_gone += 1


def _note(facts: Facts, at: Micros, mode: ProtectionMode, evidence: ModeEvidence, event_id: str) -> None:
    """Keep the latest reports of each mode: a report that changed nothing may matter after a late, earlier change."""
    words = facts.modes_heard.setdefault(mode, [])
    place = bisect_right(words, at, key=_time)
    if place and words[place - 1].at == at and words[place - 1].evidence is evidence:
        return
    words.insert(place, ModeEntry(at, mode, evidence, event_id))
    proves = evidence is ModeEvidence.VERDICT
    alike = [word for word in words if (word.evidence is ModeEvidence.VERDICT) is proves]
    if len(alike) > WORDS_MAX:
        words.remove(alike[0])


def _say_again(facts: Facts, at: Micros, mode: ProtectionMode) -> None:
    """Insert kept reports that follow a late change and differ from it; they changed nothing before that change arrived."""
    following = facts.modes[bisect_right(facts.modes, at, key=_time) :]
    counting = (
        entry for entry in following if entry.evidence is not ModeEvidence.VERDICT or _RANK[entry.mode] > _RANK[mode]
    )
    until = next((entry.at for entry in counting), NEVER)
    later = [word for words in facts.modes_heard.values() for word in words if at < word.at < until]
    for word in sorted(later, key=_time):
        proved = word.evidence is ModeEvidence.VERDICT
        if _RANK[word.mode] > _RANK[mode] if proved else word.mode is not mode:
            _put(facts, word)
            mode = word.mode


def _tell(device: Device, before: tuple[Span, ...]) -> bool:
    """Queue the rows of the history that are new, changed or withdrawn; return False if there are none."""
    facts = device.facts
    after = spans(facts)
    if after == before:
        return False
    facts.modes_version += 1
    known = set(before)
    there = {span.since for span in after}
    device.mode_rows += [(span, ModeStatus.KNOWN, facts.modes_version) for span in after if span not in known]
    gone = [span for span in before if span.since not in there and span.since >= (after[0].since if after else 0)]
    device.mode_rows += [(span, ModeStatus.WITHDRAWN, facts.modes_version) for span in gone]
    return True
