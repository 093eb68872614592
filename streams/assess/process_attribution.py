"""Attribution of a connection to a process, from its endpoint record and the process records. Pure."""

from __future__ import annotations

import msgspec

from schemas.events import Process
from streams.model.connection import Connection, TupleConnections
from streams.model.device import Device, peek
from streams.model.process_table import Run, filled, learnt, run_of

unpack_runs = msgspec.msgpack.Decoder(list[Run]).decode
"""Decode the packed processes of a PID (`Device.processes`)."""


def identify(device: Device, key: str, connection: Connection) -> None:
    """Look up the process record of a connection again; mark emitted rows as wrong if another process is found than before."""
    found, known = found_process(device, connection), connection.run
    if device.by_pid is not None and (pid := _pid(connection)) is not None:
        device.by_pid.setdefault(pid, {})[key] = None
    if found == known:
        return
    connection.run = found
    if known is not None and (found is None or found.process != known.process):
        connection.was_another()


def unlist(device: Device, key: str, connection: Connection, left: TupleConnections) -> None:
    """Remove a connection that leaves the state from the index by PID; `left` are the other connections of its 5-tuple."""
    pid = _pid(connection)
    if device.by_pid is None or pid is None or any(_pid(other) == pid for other in left):
        return
    keys = device.by_pid.get(pid)
    if keys is not None:
        keys.pop(key, None)
        if not keys:
            del device.by_pid[pid]


def process_of(connection: Connection) -> Process | None:
    """Return the process that opened the connection, from its endpoint record and its process record; None if unknown."""
    if connection.endpoint is None:
        return None
    process = connection.endpoint.process
    return process if connection.run is None else filled(process, connection.run.process)


def found_process(device: Device, connection: Connection) -> Run | None:
    """Return the process record for a connection's endpoint record.

    Returns None if no record fits, or if none is needed because the endpoint record has the command line.
    """
    endpoint = connection.endpoint
    if endpoint is None or endpoint.process.pid is None or endpoint.process.command_line:
        return None
    packed = device.processes.get(endpoint.process.pid)
    runs = unpack_runs(packed) if packed else []
    if connection.run is not None and connection.run.process.pid == endpoint.process.pid:
        runs = learnt(runs, connection.run) or runs
    return run_of(runs, endpoint.process, endpoint.started) if runs else None


def _pid(connection: Connection) -> int | None:
    return connection.endpoint.process.pid if connection.endpoint is not None else None


def connections_by_pid(device: Device) -> dict[int, dict[str, None]]:
    """Return the 5-tuples by PID; the first call builds the index from all connections."""
    if device.by_pid is None:
        device.by_pid = {}
        for key, connections in device.connections.items():
            for connection in peek(connections):
                if (pid := _pid(connection)) is not None:
                    device.by_pid.setdefault(pid, {})[key] = None
    return device.by_pid
