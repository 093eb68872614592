"""Index of a device's 5-tuples by the program that connected, for verdicts that name a process but no connection.

Devices without such verdicts have no index and no cost. The index is built when the first such verdict is decided. From then
on each endpoint record adds its 5-tuple. A 5-tuple that left the state stays in the index until the index becomes too large, is
dropped and is built again. The index may therefore list too many 5-tuples, but never too few: callers must check the
connections of each one.
"""

from __future__ import annotations

from itertools import chain

from schemas.events import Process
from streams.model.device import Device, peek

LISTED_MIN = 1_024
"""Number of entries up to which the index is kept in any case. A larger index is dropped once it may have more than four
entries for each connection of the device."""


def list_program(device: Device, key: str, process: Process) -> None:
    """Add a 5-tuple under the name and the PID of a process; drop the index if it became too large."""
    assert device.programs is not None, "only with an index"
    _list(device.programs, key, process)
    device.programs_listed += 2
    if device.programs_listed > max(4 * device.size, LISTED_MIN):
        device.programs, device.programs_listed = None, 0


def keys_of(device: Device, process: Process) -> list[str]:
    """Return the 5-tuples with connections that a process of this name or PID may have opened; build the index if needed."""
    if device.programs is None:
        device.programs = {}
        for key, connections in device.connections.items():
            for connection in peek(connections):
                for endpoint in (connection.endpoint, *connection.sensor_records):
                    if endpoint is not None:
                        _list(device.programs, key, endpoint.process)
        device.programs_listed = sum(map(len, device.programs.values()))
    listed = (device.programs.get(program, ()) for program in _programs(process))
    return [key for key in dict.fromkeys(chain.from_iterable(listed)) if key in device.connections]


def _list(programs: dict[str | int, dict[str, None]], key: str, process: Process) -> None:
    for program in _programs(process):
        programs.setdefault(program, {})[key] = None


def _programs(process: Process) -> list[str | int]:
    named: list[str | int] = [process.name.lower()] if process.name else []
    return named if process.pid is None else [*named, process.pid]
