"""Process records (start and end of a process): they complete the process fields of endpoint records.

    process record   is merged into the history of its PID. Connections of that PID whose process record is now another one
                     are marked as changed, so that their rows are emitted again
    connection       looks up its process record in the history of its PID whenever its rows are built

The process record or the endpoint record may arrive first. A connection keeps the process record that was found for it, so the
record may be evicted from the history before the connection leaves. Devices without process records have no cost.
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
"""Number of PIDs that remain after an eviction at the bound `PIDS_MAX`. Many are evicted at once, as each eviction walks over
all PIDs."""
_pack = msgspec.msgpack.Encoder().encode


class Processes:
    """Handler of process records."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._kept: Micros = table.patience + table.linger
        """Microseconds for which a process is kept after its end, as endpoint records of its connections may arrive late."""

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
        """Evict the PIDs whose latest process ended more than `_kept` ago.

        If `PIDS_MAX` or more remain, further PIDs are evicted: first those of ended processes, then the oldest ones.
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
