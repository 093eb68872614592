"""Endpoint records: one when a connection is established, once more when it is over."""

from __future__ import annotations

from producers.simulation.eve import second
from producers.simulation.fleet import Remote
from schemas.clock import MICROS
from schemas.events import Micros


def head(device: str, pid: int, process: str, local_ip: str, local_port: int, remote: Remote) -> str:
    """What all lines of a connection begin with."""
    return (
        f'{{"device": "{device}", "pid": {pid}, "process": "{process}", "local_ip": "{local_ip}", "local_port": {local_port}, '
        f'"remote_ip": "{remote.ip}", "remote_port": {remote.port}, "result": "'
    )


def attempted(head: str, attempt: str) -> str:
    """Return the record of a connection without an answer so far."""
    return f'{head}open", "ts_attempt": "{attempt}", "ts_established": null, "ts_closed": null}}'


def failed(head: str, attempt: str, close: str) -> str:
    """The other side refused."""
    return f'{head}failed", "ts_attempt": "{attempt}", "ts_established": null, "ts_closed": "{close}"}}'


def established(head: str, attempt: str, establish: str) -> str:
    """The other side answered."""
    return f'{head}success", "ts_attempt": "{attempt}", "ts_established": "{establish}", "ts_closed": null}}'


def closed(head: str, attempt: str, establish: str, close: str) -> str:
    """It is over."""
    return f'{head}success", "ts_attempt": "{attempt}", "ts_established": "{establish}", "ts_closed": "{close}"}}'


def stamp(at: Micros) -> str:
    """A time as this sensor spells it."""
    return f"{second(at // MICROS)}.{at % MICROS:06d}Z"
