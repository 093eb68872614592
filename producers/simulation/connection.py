"""A connection as it really is, whichever sensor sees it."""

from __future__ import annotations

from dataclasses import dataclass

from producers.simulation.eve import Wire
from producers.simulation.fleet import Program, Remote
from schemas.events import Micros


@dataclass(slots=True, eq=False)
class Connection:
    """One TCP connection."""

    start: Micros
    established: Micros
    """0 when the other side refused."""
    program: Program
    pid: int
    remote: Remote
    port: int
    wire: Wire
    cut: Micros
    """From then on the sensor does not understand it."""
    lag: Micros
    """How much later than they happened its lines are written."""
    odd: bool
    """Some of its lines are late or doubled."""
    requests: int = 0
