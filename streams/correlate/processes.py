"""Process records as evidence: the start of a process provides what the endpoint record of its connection lacks.

    start, end ──► the PID's processes, packed           connection ──► when its rows are built: which of them was it?
                        │
                        ▼
          connections of that PID that are attributed to another process by it: their rows are built again

Either may come first. A connection stores the process that was found for it, so the process may be forgotten first.
Devices without such records store no PIDs and have no cost.
"""

from __future__ import annotations

import msgspec

from schemas.events import Micros, ProcessStarted
from streams.assess.process_attribution import connections_by_pid, found_process, unpack_runs
from streams.correlate.connections import ConnectionTable
from streams.model.counters import Count, entry_of
from streams.model.device import PIDS_MAX, PIDS_MIN, Device, peek
from streams.model.process_table import Run, learnt

PIDS_KEPT = PIDS_MAX * 3 // 4
"""PIDs kept when the bound `PIDS_MAX` is reached, so that one walk over all makes room for many."""
_pack = msgspec.msgpack.Encoder().encode


class Processes:
    """Process records of devices."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._kept: Micros = table.patience + table.linger
        """Microseconds for which a process is kept after its end: one of its connections may come late."""

    def take(self, device: Device, event: ProcessStarted) -> None:
        """Merge the start or end of a process into its PID's history; a repeat changes nothing."""
        pid = event.process.pid
        assert pid is not None, "a process record has a PID"
        packed = device.processes.get(pid)
        runs = learnt(unpack_runs(packed) if packed else [], Run(event.process, event.ended, event.event_id))
        if runs is None:
            return
        device.processes[pid] = _pack(runs)
        device.touched_processes[pid] = None
        for key in connections_by_pid(device).get(pid, ()):
            connections = device.connections.get(key)
            if connections and any(
                found_process(device, connection) != connection.run for connection in peek(connections)
            ):
                self._table.changed(device, key)
        if len(device.processes) > device.processes_due:
            self._forget(device)

    def _forget(self, device: Device) -> None:
        """Forget PIDs whose latest process ended more than `_kept` ago.

        At the bound `PIDS_MAX` forget others too: the ended ones first, then the oldest.
        """
        over = device.state.event_time - self._kept
        latest = {pid: unpack_runs(packed)[-1] for pid, packed in device.processes.items()}
        order = sorted(latest, key=lambda pid: (not latest[pid].ended, latest[pid].ended or latest[pid].order, pid))
        gone = [pid for pid in order if 0 < latest[pid].ended < over]
        if len(order) - len(gone) >= PIDS_MAX:
            gone = order[: len(order) - PIDS_KEPT]
            running = sum(not latest[pid].ended for pid in gone)
            device.state.counts.count(entry_of(Count.PROCESSES_FORGOTTEN), running)
        for pid in gone:
            del device.processes[pid]
            device.touched_processes[pid] = None
        device.processes_due = min(max(PIDS_MIN, 2 * len(device.processes)), PIDS_MAX)
