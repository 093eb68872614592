"""Lines of the kernel sensor: one when a connection is established, once more when it is over."""

from __future__ import annotations

from producers.simulation.eve import second
from schemas.clock import MICROS
from schemas.events import Micros


def line(
    device: str,
    pid: int,
    process: str,
    local_ip: str,
    local_port: int,
    remote_ip: str,
    remote_port: int,
    result: str,
    attempt: Micros,
    established: Micros,
    closed: Micros,
) -> str:
    """One connection as the kernel knows it by then; 0 is a time that is not known."""
    return (
        f'{{"device": "{device}", "pid": {pid}, "process": "{process}", "local_ip": "{local_ip}", "local_port": {local_port}, '
        f'"remote_ip": "{remote_ip}", "remote_port": {remote_port}, "result": "{result}", "ts_attempt": "{stamp(attempt)}", '
        f'"ts_established": {_stamped(established)}, "ts_closed": {_stamped(closed)}}}'
    )


def _stamped(at: Micros) -> str:
    return f'"{stamp(at)}"' if at else "null"


def stamp(at: Micros) -> str:
    """A time as this sensor spells it."""
    seconds, micros = divmod(at, MICROS)
    return f"{second(seconds)}.{micros:06d}Z"
