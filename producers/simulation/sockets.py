"""Records of the endpoint sensor: one when a connection is established, and one when it ends."""

from __future__ import annotations

from producers.simulation.eve import second
from producers.simulation.fleet import Remote
from schemas.clock import MICROS
from schemas.events import Micros


def head(device: str, pid: int, process: str, local_ip: str, local_port: int, remote: Remote) -> str:
    """Return the beginning of all records of a connection."""
    return (
        f'{{"device": "{device}", "pid": {pid}, "process": "{process}", "local_ip": "{local_ip}", "local_port": {local_port}, '
        f'"remote_ip": "{remote.ip}", "remote_port": {remote.port}, "result": "'
    )


def record(head: str, result: str, attempt: str, establish: str = "", close: str = "") -> str:
    """Return a record; `result` is open (no answer so far), failed (refused) or success. Times are "" until they are known."""
    times = (f'"{time}"' if time else "null" for time in (establish, close))
    return '{}{}", "ts_attempt": "{}", "ts_established": {}, "ts_closed": {}}}'.format(head, result, attempt, *times)


def stamp(at: Micros) -> str:
    """Return a time in the format of the endpoint sensor."""
    return f"{second(at // MICROS)}.{at % MICROS:06d}Z"
