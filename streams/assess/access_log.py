"""What proxies' own logs say of a connection, and which of it holds for a destination. Pure.

A line stays with the connection that it was joined to; what it says holds only as long as everything known fits it, so a
connection whose other half turns out to be another one loses it again.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from streams.model.access_log import AccessLogEntry
from streams.model.connection import Connection, Destination

LOGGED_MAX = 256
"""Lines kept per connection; further ones are counted and not used."""
LOG_IDS_MAX = 16
"""Record ids of lines on a row; the first ones stay."""
CLOCKS: Micros = 2 * MICROS
"""How far the proxy's clock and those of a device's sensors may be apart."""
WRONG_CLOCK: Micros = 10 * MICROS
"""How far they are apart where one is wrong: what would fit then makes what fits by chance doubtful."""
ENDS: Micros = 10 * MICROS
"""How long after the end of its connection a line may come, as the server's side may close later; a tunnel's as long before."""


def is_about(logged: AccessLogEntry, destination: Destination) -> bool:
    """It names that destination."""
    return logged.host == destination.host and logged.port in (0, destination.port)


def fits(connection: Connection, logged: AccessLogEntry, clocks: Micros = CLOCKS) -> bool:
    """The connection was open when the request came to the proxy, as far as both clocks can tell."""
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
    """One of the requests to a destination may be the one that was logged, by time and what was answered."""
    if destination.tunnel != logged.tunnel or not fits(connection, logged):
        return False
    if destination.asked == 1 and destination.status and logged.status not in (0, destination.status):
        return False
    return is_near(destination, logged, CLOCKS)


def is_near(destination: Destination, logged: AccessLogEntry, clocks: Micros) -> bool:
    """It was asked for when the request came to the proxy, a plain one while it lasted."""
    until = (logged.started if logged.tunnel else logged.at) + clocks
    return any(logged.started - clocks <= at <= until for at, _ in destination.event_ids)


def lines_of(connection: Connection, destination: Destination) -> list[AccessLogEntry]:
    """The lines that hold for a destination, by time. More lines without a port than requests: some are of another one."""
    about = [line for line in connection.logged if is_about(line, destination)]
    if not all(line.port for line in about) and ports_of(connection, destination) > 1:
        about = [line for line in about if line.port]
    sure = [line for line in about if line.sure and fits(connection, line)]
    vague = [line for line in about if not line.sure and fits_request(connection, destination, line)]
    if len(sure) + len(vague) > max(destination.asked, len(sure)):
        vague = []
    return sorted([*sure, *vague], key=lambda line: (line.started, line.at, line.event_id))


def ports_of(connection: Connection, destination: Destination) -> int:
    """How many ports of its host were asked for: a line without a port says not of which it is."""
    return sum(other.host == destination.host for other in connection.destinations)


def upstream_of(lines: list[AccessLogEntry]) -> str:
    """The address that was really gone to: the first request's that tells one."""
    return next((line.upstream for line in lines if line.upstream), "")


def bytes_of(lines: list[AccessLogEntry], requests: int) -> tuple[int | None, int | None]:
    """Bytes sent and received, where each request has its line."""
    if not lines or len(lines) < requests:
        return None, None
    sent, received = [line.sent for line in lines], [line.received for line in lines]
    return None if -1 in sent else sum(sent), None if -1 in received else sum(received)


def said_of(lines: list[AccessLogEntry]) -> dict[str, object]:
    """What hunters find of it in AdditionalFields."""
    latest = lines[-1]
    said: dict[str, object] = {"ProxyDecision": str(latest.decision)}
    if user := next((line.user for line in reversed(lines) if line.user), ""):
        said["ProxyUser"] = user
    said["ProxyLogIds"] = [line.event_id for line in lines][:LOG_IDS_MAX]
    said["ProxyLogConfidence"] = "strong" if all(line.sure for line in lines) else "inferred"
    return said
