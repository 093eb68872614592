"""The correlation pipeline: input messages in; rows, verdicts, alerts and rejects out.

One `Pipeline` serves one input partition. The Faust worker, `unproxy replay`, the benchmarks and the tests drive the same
class. It uses no broker, no clock and no disk.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from itertools import islice

from schemas.clock import LATEST, MICROS
from schemas.dialect import Dialect
from schemas.events import (
    Ignored,
    Micros,
    ModeChanged,
    Parsed,
    ProcessVerdict,
    ProxyLogged,
    Reason,
    Reject,
    Verdict,
    device_name_problem,
)
from schemas.logins import masked, without_logins
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings
from schemas.topics import CLAIMS_VERDICTS, END, TICK_DIALECT
from streams.alerts.folding import KEPT, forget_old
from streams.alerts.folding import remember as remember_alerts
from streams.alerts.policy import Policy
from streams.correlate.correlator import Correlator
from streams.correlate.device_clock import LEAP, see_sensor
from streams.messages import KEY_BYTES_MAX, LINE_BYTES_MAX, MESSAGE_LINES_MAX, Message, Output
from streams.model.counters import Count, Counters, entry_of
from streams.model.device import Device
from streams.model.sequence_gaps import Received
from streams.model.snapshot import Store
from streams.quarantine import NO_LINE, Refused
from streams.rejects import failed, not_allowed, rejecting, unread
from streams.rows.emitter import Emitter
from streams.rows.presence import Presence

__all__ = ["Message", "Output", "Pipeline"]

_READ, _PARSED, _IGNORED = entry_of(Count.READ), entry_of(Count.PARSED), Count.IGNORED
_TICKS = {b"", END}
_CLAIMS = frozenset({Verdict, ProcessVerdict, ModeChanged})
"""Events that report what a device's protection does: accepted only from sensors that may report it."""

DEVICES_EVICTED_SHARE = 64
"""At `devices_max` one device in this many is evicted at once."""
NEAR_BOUND = 0.8
"""Share of `connections_max` above which a device counts as near its bound."""


class Pipeline:
    """Correlation of one input partition: its devices with their state, and the rules that apply to them."""

    def __init__(
        self, settings: CorrelationSettings, policy: Policy | None = None, parsers: Mapping[str, Dialect] | None = None
    ) -> None:
        """`parsers` are the dialects by name; None means all of `schemas.parsers`."""
        self.policy = policy or Policy()
        self.correlator = Correlator(settings, self.policy)
        self.emitter = Emitter(self.correlator)
        self.presence = Presence(settings, self.emitter)
        self.store = Store()
        self.devices: dict[str, Device] = self.store.devices
        self._devices_max = settings.devices_max
        self._dialects = dialects() if parsers is None else parsers
        self._handlers, self._table = self.correlator.handlers, self.correlator.table
        self._clock = self.correlator.clock
        self._changed: dict[str, Device] = {}
        self.current_line: MutableSequence[int] = [NO_LINE]
        """One item: the index of the line that is being read, else `NO_LINE`. A worker replaces the list with storage that
        outlives the process."""

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Restore the state of devices from all of their entries, in any order."""
        before = len(self.devices)
        self.store.restore(entries)
        for device in islice(self.devices.values(), before, None):
            self.presence.remember(device)
            self._table.tombstones.total += device.departed_count
            remember_alerts(device, self.policy.alert_gap)

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """Return the state entries to write once the output is delivered."""
        return self.store.checkpoint()

    def take(self, message: Message, refused: Refused | None = None) -> None:
        """Process one message. The lines that `refused` names are rejected without parsing.

        A device whose state already includes the message ignores it.
        """
        self.policy.logged_ms = message.logged_ms
        if message.dialect == TICK_DIALECT and message.value in _TICKS:
            self._tick(message)
            if message.value:
                self._end(message)
            return
        home = self._device(message.key)
        dialect = self._dialects.get(message.dialect)
        value = message.value
        lines: Sequence[bytes] = value.split(b"\n") if b"\n" in value else (value,)
        if dialect is not None and dialect.split is not None and len(lines) <= MESSAGE_LINES_MAX:
            lines = self._rows(home, dialect.split, message, lines)
        if len(lines) > MESSAGE_LINES_MAX:
            dialect, lines = None, (value,)
        current_line = self.current_line
        # The index is stored before the line is read: if reading the line ends the process, the index identifies the line.
        for current_line[0], line in enumerate(self._refuse(home, message, lines, refused) if refused else lines):
            if line and not line.isspace():
                self._line(home, dialect, message, line)
        current_line[0] = NO_LINE
        numbered = message.seq and home.name and message.offset > home.state.offset
        if numbered:
            self._change(home, home, message)
        for device in self._changed.values():
            self._close(device, message, message.seq if numbered and device is home else 0)
        self._changed.clear()

    def _rows(
        self, home: Device, split: Callable[[bytes], list[bytes]], message: Message, lines: Iterable[bytes]
    ) -> list[bytes]:
        """Return the rows of each line, as `split` takes its envelope apart; reject a line on which `split` raises an exception.

        A line above `LINE_BYTES_MAX` is returned whole.
        """
        rows: list[bytes] = []
        for line in filter(None, lines):
            try:
                rows += split(line) if len(line) <= LINE_BYTES_MAX else (line,)
            except Exception as error:  # noqa: BLE001  # no line may stop the worker fleet
                self._line(home, rejecting(failed(line, error)), message, line)
        return rows

    def _refuse(self, home: Device, message: Message, lines: Sequence[bytes], refused: Refused) -> Iterator[bytes]:
        """Yield the lines, with an empty one in place of each line in `refused`, which is rejected without parsing.

        The other lines therefore keep their indices.
        """
        for number, line in enumerate(lines):
            if number in refused.lines:
                reject = Reject(Reason.STOPS_WORKER, refused.detail, line)
                self._line(home, rejecting(reject), message, line)
                yield b""
            else:
                yield line

    def drain(self) -> Output:
        """Return the output of the messages processed since the last call, and clear it."""
        return self.emitter.drain()

    def finish(self) -> None:
        """Decide everything that waits, and emit all rows and alerts, as at the end of a recording."""
        for device in self.devices.values():
            self._finish(device)
            self.store.changed[device.name] = device

    def _finish(self, device: Device) -> None:
        self.correlator.finish(device)
        self.presence.finish(device)
        self.emitter.emit(device)
        self.emitter.publish_all(device)

    def book(self) -> dict[str, int]:
        """Return the counts of all devices by entry (`streams.model.counters`), without those that are 0, except `waiting`."""
        total = Counters()
        for device in self.devices.values():
            total.merge(device.state.counts)
        waiting = total[Count.CONNECTIONS] - total.total(Count.RESOLVED) - total.total(Count.UNRESOLVED)
        sizes = [device.size for device in self.devices.values()]
        near_bound = sum(size > NEAR_BOUND * self._table.connections_max for size in sizes)
        total.count(entry_of(Count.DEVICES), len(sizes))
        total.count(entry_of(Count.KEPT), sum(sizes))
        total.count(entry_of(Count.DEPARTED), self._table.tombstones.total)
        total.count(entry_of(Count.DEVICES_NEAR_BOUND), near_bound)
        return {entry: count for entry, count in total.items() if count} | {entry_of(Count.WAITING): waiting}

    def _close(self, device: Device, message: Message, seq: int) -> None:
        """Complete a message for one device: update presence, offset and counts; emit rows and alerts.

        `seq` is the number of the message's first line, 0 if the numbers are not the device's.
        """
        state = device.state
        if device.times or seq:
            received = Received(seq, message.lines, 0, 0, message.logged_ms)
            self.presence.observe(device, message.dialect, message.sensor, received)
            device.times.clear()
        state.offset, state.logged_ms = message.offset, max(state.logged_ms, message.logged_ms)
        if device.read:
            counts = state.counts
            counts.count(_READ, device.read)
            counts.count(_PARSED, device.parsed)
            self.emitter.output.lines += device.read
            device.read = device.parsed = 0
        self._emit(device, state.event_time)

    def _emit(self, device: Device, now: Micros) -> None:
        """Emit a device's rows and alerts; mark the device for the next checkpoint."""
        if device.alerts:
            forget_old(device, now)
        self.emitter.emit(device, now)
        self.store.changed[device.name] = device

    def _line(self, home: Device, dialect: Dialect | None, message: Message, line: bytes) -> None:
        """Parse one line, then apply its event to the device that it is about, or count it as ignored, or reject it.

        `home` is the device of the message's key.
        """
        if dialect is None or len(line) > LINE_BYTES_MAX:
            parsed: Parsed = unread(message, line)
        else:
            try:
                parsed = dialect.parse(line)
            except Exception as error:  # noqa: BLE001  # no line may stop the worker fleet; the bug is reported in the reject
                parsed = failed(line, error)
        kind = parsed.__class__
        if kind in _CLAIMS and not self._may_report_verdicts(message):
            parsed, kind = not_allowed(message, line), Reject
        device = home
        if kind is not Reject and not (home.name and parsed.device in ("", home.name)):
            owner = self._owner(home, message, parsed, line)
            if isinstance(owner, Device):
                device = owner
            else:
                parsed, kind = owner, Reject
        if device.name not in self._changed and not self._begin(device, home, message):
            return
        device.read += 1
        handler = self._handlers.get(kind)
        if handler is not None:
            device.parsed += 1
            at: Micros = parsed.at  # type: ignore[union-attr]  # events have a time
            device.times.append(at)
            if not device.state.event_time >= at >= device.state.event_time - LEAP:
                own = device is home and kind is not ProxyLogged and not message.foreign_clock
                until = getattr(parsed, "ended", 0)
                self._clock.see_time(device, at, until, logged=0 if own else message.logged_ms * 1000)
            handler(device, parsed)
        elif isinstance(parsed, Reject):
            self._reject(device, home, message, parsed)
        else:
            assert isinstance(parsed, Ignored), "a dialect gives an event, Ignored or Reject"
            is_network_sensor = dialect is not None and dialect.is_network_sensor
            own = device is home and not message.foreign_clock
            self._ignore(device, parsed, 0 if own else message.logged_ms * 1000, is_network_sensor=is_network_sensor)

    def _ignore(self, device: Device, ignored: Ignored, logged: Micros, *, is_network_sensor: bool) -> None:
        """Count a line without an event. Its time still advances the device's clock and counts as activity.

        `logged` is the log's time in microseconds; 0 for a line that the device itself sent.
        """
        device.state.counts.count(entry_of(_IGNORED, ignored.kind))
        if ignored.at and device.name:  # Headings, and messages of a program about itself, have no time or no device.
            device.times.append(ignored.at)
            if is_network_sensor:
                see_sensor(device, ignored.at)
            self._clock.see_time(device, ignored.at, logged=logged)

    def _owner(self, home: Device, message: Message, parsed: Parsed, line: bytes) -> Device | Reject:
        """Return the device that a line is about, or the reject for a line without a valid device name."""
        named = "" if isinstance(parsed, Reject) else parsed.device
        if named and named != home.name and not (message.keyed and home.name):
            return self._named(named, line)
        if not named and not home.name and not isinstance(parsed, Ignored):
            return Reject(Reason.NO_DEVICE, "neither the line nor the message names a device", line)
        return home

    def _begin(self, device: Device, home: Device, message: Message) -> bool:
        """Prepare a device for the lines of a message; return False if the device's state already includes the message."""
        if message.offset <= device.state.offset:
            return False
        self._change(device, home, message)
        if device.parked:
            self._clock.resume(device)
        if device.groups_in is None:
            self.correlator.apply_mode_setting(device, device.state.event_time)
        return True

    def _named(self, name: str, line: bytes) -> Device | Reject:
        """Return the device that a line names, or the reject for an invalid name."""
        known = self.devices.get(name)
        if known is None and (problem := device_name_problem(name)):
            return Reject(Reason.NO_DEVICE, problem, line)
        return known or Device(name)

    def _reject(self, device: Device, home: Device, message: Message, reject: Reject) -> None:
        """Count a reject and emit it with logins masked, and with the dialect, key and claims that a replay needs."""
        device.state.counts.count(entry_of(Count.REJECTED, reject.reason))
        detail, raw = without_logins(reject.detail), masked(reject.raw)
        self.emitter.output.rejects.append(
            Reject(reject.reason, detail, raw, message.dialect, home.name, message.keyed, message.claims)
        )

    def _change(self, device: Device, home: Device, message: Message) -> None:
        """Mark a device as changed by the current message; register it if it is unknown.

        Called only for a line or for a numbered message, so a message key alone registers no device.
        """
        if device.name not in self.devices:
            if len(self.devices) >= self._devices_max:
                self._evict_devices(home)
            device.state.first_ms = message.logged_ms
        self.devices[device.name] = self._changed[device.name] = device

    def _evict_devices(self, home: Device) -> None:
        """Evict devices to make room: first those that are not established (`_worth`), and the longest quiet ones first.

        A flood of invented names therefore evicts invented names. Many devices are evicted at once, because finding one costs
        as much as finding all. What waits on an evicted device is decided and emitted. Its counts move to the device without
        a name.
        """
        spared = {"", home.name, *self._changed}
        room = len(self.devices) - self._devices_max + self._devices_max // DEVICES_EVICTED_SHARE
        book = self.devices.setdefault("", Device("") if home.name else home)
        counts = book.state.counts
        candidates = (device for name, device in self.devices.items() if name not in spared)
        for device in heapq.nsmallest(room, candidates, key=_worth):
            self._finish(device)
            counts.merge(device.state.counts)
            counts.count(entry_of(Count.DEVICES_EVICTED))
            self._table.tombstones.total -= device.departed_count
            self.store.evict(device.name)
        self.store.changed[""] = book

    def _may_report_verdicts(self, message: Message) -> bool:
        """Return whether verdicts and modes in a message are accepted: by the sender's grant, else by the settings."""
        if message.claims:
            return message.claims == CLAIMS_VERDICTS
        return self.policy.accepts_verdicts(message.dialect, message.sensor)

    def _device(self, key: bytes) -> Device:
        """Return the device of a message key. For an invalid or missing key, return the device without a name.

        The lines of such a message must name their device themselves.
        """
        name = key.decode("utf-8", "replace") if len(key) <= KEY_BYTES_MAX else ""
        known = self.devices.get(name)
        if known is None and device_name_problem(name):
            name, known = "", self.devices.get("")
        return known or Device(name)

    def _tick(self, message: Message) -> None:
        """Pass the tick's log time on to the devices for which something is due; emit what follows from it."""
        for device in self._quiet(message.logged_ms):
            state = device.state
            if message.offset <= state.offset:
                continue
            passed = (message.logged_ms - state.logged_ms) * 1000
            changed = self._clock.pass_quiet_time(device, passed)
            if passed >= device.quiet_due:
                self.presence.pass_quiet_time(device, passed, message.logged_ms)
                changed = True
            if changed or state.event_time + passed >= device.held_due or (device.alerts and passed >= KEPT):
                state.offset = message.offset
                self._emit(device, state.event_time + passed if passed < KEPT else LATEST)

    def _end(self, message: Message) -> None:
        """Publish all alerts that wait, as the tick ends a recording (`schemas.topics.END`)."""
        for device in self.devices.values():
            if device.dirty_alerts and message.offset >= device.state.offset:
                device.state.offset = message.offset
                self.emitter.publish_all(device)
                self.store.changed[device.name] = device

    def _quiet(self, logged_ms: int) -> Iterator[Device]:
        """Yield the devices for which something is due at this log time."""
        idle = self._table.idle
        for device in self.devices.values():
            state = device.state
            passed = (logged_ms - state.logged_ms) * 1000
            if state.logged_ms and (
                (state.event_time + passed) // MICROS >= device.next_due
                or passed >= device.quiet_due
                or (device.parked and passed >= idle)
                or state.event_time + passed >= device.held_due
                or (device.alerts and passed >= KEPT)
            ):
                yield device


def _worth(device: Device) -> tuple[bool, int, Micros, str]:
    """Return the sort key for eviction; the lowest is evicted first. Without a log, the device's own clock decides."""
    state = device.state
    return state.is_established, state.logged_ms, state.event_time, device.name
