"""Processes as their own evidence: the start of a process tells what the record of its connection does not.

    start, end ──► the PID's processes, packed           connection ──► when its rows are made: which of them was it?
                        │
                        ▼
          connections of that PID whose process is another one by that: their rows are made anew

Either may come first. A connection keeps what was found for it, so the process may be forgotten before it. Devices without
such records have no PID here and pay nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.events import Micros, Process, ProcessStarted
from streams.model.connection import Connection, Group
from streams.model.device import PIDS_MAX, PIDS_MIN, Device, peek
from streams.model.process_table import Run, filled, learnt, run_of

if TYPE_CHECKING:
    from streams.correlate.correlator import Correlator

PIDS_KEPT = PIDS_MAX * 3 // 4
"""At the bound so many stay, so that one walk over all makes room for many."""
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Run]).decode


class Processes:
    """Keeps what is told of a device's processes."""

    def __init__(self, correlator: Correlator) -> None:
        self._correlator = correlator
        self._kept: Micros = correlator.patience + correlator.linger
        """How long after its end a process is remembered: a connection of it may come late."""

    def take(self, device: Device, event: ProcessStarted) -> None:
        """A process began or ended; what was told before changes nothing."""
        pid = event.process.pid
        assert pid is not None, "a process without a PID is nobody's"
        packed = device.processes.get(pid)
        runs = learnt(_unpack(packed) if packed else [], Run(event.process, event.ended, event.event_id))
        if runs is None:
            return
        device.processes[pid] = _pack(runs)
        device.touched_processes[pid] = None
        for key in _by_pid(device).get(pid, ()):
            group = device.groups.get(key)
            if group and any(_found(device, connection) != connection.run for connection in peek(group)):
                self._correlator.changed(device, key)
        if len(device.processes) > device.processes_due:
            self._forget(device)

    def _forget(self, device: Device) -> None:
        """Those that are over for a while; at the bound also others: the ended ones first, then the oldest."""
        over = device.facts.now - self._kept
        latest = {pid: _unpack(packed)[-1] for pid, packed in device.processes.items()}
        order = sorted(latest, key=lambda pid: (not latest[pid].ended, latest[pid].ended or latest[pid].order, pid))
        gone = [pid for pid in order if 0 < latest[pid].ended < over]
        if len(order) - len(gone) >= PIDS_MAX:
            gone = order[: len(order) - PIDS_KEPT]
            self._correlator.count(device, "processes_forgotten", sum(not latest[pid].ended for pid in gone))
        for pid in gone:
            del device.processes[pid]
            device.touched_processes[pid] = None
        device.processes_due = min(max(PIDS_MIN, 2 * len(device.processes)), PIDS_MAX)


def identify(device: Device, key: str, connection: Connection) -> None:
    """Note what is known of a connection's process; rows that said something else are outbid."""
    found, known = _found(device, connection), connection.run
    if device.by_pid is not None and (pid := _pid(connection)) is not None:
        device.by_pid.setdefault(pid, {})[key] = None
    if found == known:
        return
    connection.run = found
    if known is not None and (found is None or found.process != known.process):
        connection.was_another()


def unlist(device: Device, key: str, connection: Connection, left: Group) -> None:
    """A connection leaves: its PID need not be asked for it any more."""
    pid = _pid(connection)
    if device.by_pid is None or pid is None or any(_pid(other) == pid for other in left):
        return
    keys = device.by_pid.get(pid)
    if keys is not None:
        keys.pop(key, None)
        if not keys:
            del device.by_pid[pid]


def process_of(connection: Connection) -> Process | None:
    """Who opened it, by the connection's record and by the process's own; None where nobody tells."""
    if connection.kernel is None:
        return None
    process = connection.kernel.process
    return process if connection.run is None else filled(process, connection.run.process)


def _found(device: Device, connection: Connection) -> Run | None:
    kernel = connection.kernel
    if kernel is None or kernel.process.pid is None or kernel.process.command_line:
        return None
    packed = device.processes.get(kernel.process.pid)
    runs = _unpack(packed) if packed else []
    if connection.run is not None and connection.run.process.pid == kernel.process.pid:
        runs = learnt(runs, connection.run) or runs
    return run_of(runs, kernel.process, kernel.started) if runs else None


def _pid(connection: Connection) -> int | None:
    return connection.kernel.process.pid if connection.kernel is not None else None


def _by_pid(device: Device) -> dict[int, dict[str, None]]:
    """5-tuples by PID; the first time all connections are looked at."""
    if device.by_pid is None:
        device.by_pid = {}
        for key, group in device.groups.items():
            for connection in peek(group):
                if (pid := _pid(connection)) is not None:
                    device.by_pid.setdefault(pid, {})[key] = None
    return device.by_pid
