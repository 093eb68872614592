"""Access-log entries of a connection and their application to its destinations. Pure.

An entry stays with the connection that it was joined to. It applies to a destination only while all known evidence fits, so it
stops applying if the connection's other half turns out to be a different one.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from streams.model.access_log import AccessLogEntry
from streams.model.connection import Connection, Destination

LOGGED_MAX = 256
"""Access-log entries kept per connection. Further ones are only counted."""
LOG_IDS_MAX = 16
"""Record ids of access-log entries on a row; the first ones are kept."""
CLOCKS: Micros = 2 * MICROS
"""Largest difference between the clocks of the proxy and of a device's sensors, in microseconds."""
WRONG_CLOCK: Micros = 10 * MICROS
"""Largest difference if one clock is wrong. A candidate within it makes a match within `CLOCKS` ambiguous."""
ENDS: Micros = 10 * MICROS
"""Largest delay of an entry after the end of its connection, as the server's side may close later; in microseconds. A tunnel's
entry may also precede the end by as much."""


def is_about(logged: AccessLogEntry, destination: Destination) -> bool:
    """Return whether the entry names the destination; an entry without a port matches any port."""
    return logged.host == destination.host and logged.port in (0, destination.port)


def fits(connection: Connection, logged: AccessLogEntry, clocks: Micros = CLOCKS) -> bool:
    """Return whether the connection was open when the request reached the proxy, given the tolerance `clocks`."""
    ended, ends = connection.ended, max(clocks, ENDS)
    if ended and (logged.started > ended + clocks or logged.at > ended + ends):
        return False
    if ended and logged.tunnel and logged.at < ended - ends:
        return False
    if connection.kernel is not None:
        return logged.started >= connection.kernel.started - clocks
    if connection.flow_started:
        return logged.started >= connection.flow_started - clocks
    return logged.at >= connection.first - clocks


def fits_request(connection: Connection, destination: Destination, logged: AccessLogEntry) -> bool:
    """Return whether a request to the destination may be the logged one, by kind, time and status."""
    if destination.tunnel != logged.tunnel or not fits(connection, logged):
        return False
    if destination.asked == 1 and destination.status and logged.status not in (0, destination.status):
        return False
    return is_near(destination, logged, CLOCKS)


def is_near(destination: Destination, logged: AccessLogEntry, clocks: Micros) -> bool:
    """Return whether the destination was requested when the request reached the proxy; for a plain one, while it lasted."""
    until = (logged.started if logged.tunnel else logged.at) + clocks
    return any(logged.started - clocks <= at <= until for at, _ in destination.event_ids)


def lines_of(connection: Connection, destination: Destination) -> list[AccessLogEntry]:
    """Return the entries that apply to a destination, sorted by time.

    Entries without a port are dropped if several ports of the host were requested. Entries joined without the client's port are
    dropped if there are more entries than requests, because some then belong to another connection.
    """
    about = [line for line in connection.logged if is_about(line, destination)]
    if not all(line.port for line in about) and ports_of(connection, destination) > 1:
        about = [line for line in about if line.port]
    sure = [line for line in about if line.sure and fits(connection, line)]
    vague = [line for line in about if not line.sure and fits_request(connection, destination, line)]
    if len(sure) + len(vague) > max(destination.asked, len(sure)):
        vague = []
    return sorted([*sure, *vague], key=lambda line: (line.started, line.at, line.event_id))


def ports_of(connection: Connection, destination: Destination) -> int:
    """Return how many ports of the destination's host were requested. With several, an entry without a port is ambiguous."""
    return sum(other.host == destination.host for other in connection.destinations)


def upstream_of(lines: list[AccessLogEntry]) -> str:
    """Return the address that the proxy connected to, from the first entry that contains one; else ""."""
    return next((line.upstream for line in lines if line.upstream), "")


def bytes_of(lines: list[AccessLogEntry], requests: int) -> tuple[int | None, int | None]:
    """Return the bytes sent and received; None for each that is unknown, and for both if a request has no entry."""
    if not lines or len(lines) < requests:
        return None, None
    sent, received = [line.sent for line in lines], [line.received for line in lines]
    return None if -1 in sent else sum(sent), None if -1 in received else sum(received)


def said_of(lines: list[AccessLogEntry]) -> dict[str, object]:
    """Return the values for AdditionalFields."""
    latest = lines[-1]
    said: dict[str, object] = {"ProxyDecision": str(latest.decision)}
    if user := next((line.user for line in reversed(lines) if line.user), ""):
        said["ProxyUser"] = user
    said["ProxyLogIds"] = [line.event_id for line in lines][:LOG_IDS_MAX]
    said["ProxyLogConfidence"] = "strong" if all(line.sure for line in lines) else "inferred"
    return said
