"""The device's clock and timers: event times and quiet time move the clock, and timers fire when the clock reaches them.

A timer belongs to a 5-tuple, or to process verdicts, access-log entries or tombstones (`streams.model.device`).
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from streams.correlate.decision import IDLE, ConnectionDecisions
from streams.correlate.listener import Listener
from streams.model.device import DEPARTED_TIMER, NEVER, PROXY_TIMER, VERDICT_TIMER, Device

LEAP: Micros = 3_600 * MICROS
"""Microseconds. The device's clock follows a larger jump only after a second event that agrees."""


class DeviceClock:
    """Clock and timers of each device; what is due goes to the decisions on connections and to the listener."""

    def __init__(self, decisions: ConnectionDecisions, listener: Listener) -> None:
        self._decisions = decisions
        self._listener = listener

    def see_time(self, device: Device, at: Micros, until: Micros = 0, *, logged: Micros = 0) -> None:
        """Move the device's clock to an event's time `at`, and fire the timers that are due by then.

        A jump of more than `LEAP`, ahead or back, requires a second event that agrees. A single wrong timestamp therefore
        moves nothing, and a corrected clock is followed. `until` is the end of the activity that the event describes, 0 if
        unknown: the event of a long activity that ended recently does not set the clock back.

        `logged` is the log's time in microseconds. It is given for an event that another component reported (a proxy, a
        network tap, another device), else 0. Such an event moves the clock neither beyond the log's time nor back.
        """
        state = device.state
        if logged and (at := min(at, logged)) <= state.event_time:
            return
        if at < state.event_time - LEAP <= until:
            return
        if state.event_time and abs(at - state.event_time) > LEAP:
            if not state.leap or abs(at - state.leap) > LEAP:
                state.leap = at
                return
            state.event_time = at
        elif at > state.event_time:
            state.event_time = at
        state.leap = 0
        if state.event_time // MICROS >= device.next_due:
            self._fire(device, state.event_time // MICROS)

    def pass_quiet_time(self, device: Device, passed: Micros) -> bool:
        """Fire the timers of a device that has sent nothing for `passed` microseconds of the log's time.

        Waiting connections are decided. Only idle connections leave the state; ended ones are parked, because the device may
        have been cut off and may report the rest later. The device's clock does not move. Returns False if the stored state is
        unchanged; whether a connection is parked is not stored.
        """
        second = (device.state.event_time + passed) // MICROS
        changed = second >= device.next_due and self._fire(device, second, quiet=True)
        if device.parked and passed >= self._decisions.idle:
            changed = True
            for key in list(device.parked):
                for connection in list(device.connections_of(key) or ()):
                    if connection.decided:
                        self._decisions.leave(device, key, connection, IDLE)
            device.parked.clear()
            self._decisions.tombstones.expire(device, NEVER)
        return changed

    def resume(self, device: Device) -> None:
        """Set the timers of parked connections and tombstones again, as the device reports again."""
        for key in device.parked:
            for connection in device.connections_of(key) or ():
                device.wake_at(connection.due, key)
        if DEPARTED_TIMER in device.parked:
            for second in device.departed:
                device.wake_at(second, DEPARTED_TIMER)
        device.parked.clear()

    def _fire(self, device: Device, second: int, *, quiet: bool = False) -> bool:
        """Process all timers that are due by a second; return whether the stored state changed.

        `quiet` means that the log's time, not the device's clock, has reached the second.
        """
        changed = False
        while (due := device.due_until(second)) is not None:
            for key in due[1]:
                if key in device.connections and self._decisions.wake(device, key, due[0], quiet=quiet):
                    changed = True
            # These handlers read all connections, so they run after the connections that are due in the same second.
            if VERDICT_TIMER in due[1]:
                self._listener.process_verdicts_due(device, due[0])
                changed = True
            if PROXY_TIMER in due[1]:
                self._listener.proxy_log_due(device, due[0])
                changed = True
            if DEPARTED_TIMER in due[1]:
                if quiet:
                    device.parked[DEPARTED_TIMER] = None
                else:
                    self._decisions.tombstones.expire(device, due[0])
                    changed = True
        return changed


def see_sensor(device: Device, at: Micros) -> None:
    """Record the time of a network sensor's event if it is the earliest so far and at most `LEAP` before the clock."""
    state = device.state
    if (not state.sensor_first or at < state.sensor_first) and at >= state.event_time - LEAP:
        state.sensor_first = at
