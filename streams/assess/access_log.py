"""Access-log entries of a connection and their application to its destinations. Pure.

An entry stays with the connection that it was joined to. It applies to a destination only while it fits all known evidence. It
no longer applies if, for example, the connection gets another endpoint record.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from streams.model.access_log import AccessLogEntry
from streams.model.connection import Connection, Destination

LOG_ENTRIES_MAX = 256
"""Access-log entries kept per connection. Further ones are only counted."""
LOG_IDS_MAX = 16
"""Record ids of access-log entries on a row; the first ones are kept."""
CLOCKS: Micros = 2 * MICROS
"""Accepted difference, in microseconds, between the clocks of the proxy and of a device's sensors."""
WRONG_CLOCK: Micros = 10 * MICROS
"""Largest difference, in microseconds, if one clock is wrong. A candidate that fits only with this tolerance is not joined, but
makes another candidate ambiguous."""
ENDS: Micros = 10 * MICROS
"""Largest time, in microseconds, from the end of a connection to its entry: the proxy's connection to the server may close
later. The entry of a tunnel may also precede the end of the connection by as much."""


def is_about(entry: AccessLogEntry, destination: Destination) -> bool:
    """Return whether the entry names the destination; an entry without a port matches any port."""
    return entry.host == destination.host and entry.port in (0, destination.port)


def fits(connection: Connection, entry: AccessLogEntry, clocks: Micros = CLOCKS) -> bool:
    """Return whether the connection was open when the request reached the proxy; `clocks` is the tolerance in microseconds."""
    ended, ends = connection.ended, max(clocks, ENDS)
    if ended and (entry.started > ended + clocks or entry.at > ended + ends):
        return False
    if entry.tunnel and entry.at < ended - ends:
        return False
    if connection.endpoint is not None:
        return entry.started >= connection.endpoint.started - clocks
    if connection.flow_started:
        return entry.started >= connection.flow_started - clocks
    return entry.at >= connection.first - clocks


def fits_request(connection: Connection, destination: Destination, entry: AccessLogEntry) -> bool:
    """Return whether a request to the destination may be the one in the entry, by kind (tunnel or plain), time and status."""
    if destination.tunnel != entry.tunnel or not fits(connection, entry):
        return False
    if destination.asked == 1 and destination.status and entry.status not in (0, destination.status):
        return False
    return is_near(destination, entry, CLOCKS)


def is_near(destination: Destination, entry: AccessLogEntry, clocks: Micros) -> bool:
    """Return whether a request to the destination was recorded at the time of the entry, within `clocks` microseconds.

    The time of a tunnel's entry is the arrival of its CONNECT; that of a plain request lasts from arrival to log entry.
    """
    until = (entry.started if entry.tunnel else entry.at) + clocks
    return any(entry.started - clocks <= at <= until for at, _ in destination.event_ids)


def entries_of(connection: Connection, destination: Destination) -> list[AccessLogEntry]:
    """Return the entries that apply to a destination, sorted by time.

    Entries without a port do not apply if several ports of the host were requested. Entries that were joined without the
    client's port do not apply if there are more entries than requests, because some then belong to another connection.
    """
    about = [entry for entry in connection.log_entries if is_about(entry, destination)]
    if ports_of(connection, destination) > 1:
        about = [entry for entry in about if entry.port]
    sure = [entry for entry in about if entry.sure and fits(connection, entry)]
    vague = [entry for entry in about if not entry.sure and fits_request(connection, destination, entry)]
    if len(sure) + len(vague) > max(destination.asked, len(sure)):
        vague = []
    return sorted([*sure, *vague], key=lambda entry: (entry.started, entry.at, entry.event_id))


def ports_of(connection: Connection, destination: Destination) -> int:
    """Return the number of ports on which the connection's requests asked for the destination's host."""
    return sum(other.host == destination.host for other in connection.destinations)


def upstream_of(entries: list[AccessLogEntry]) -> str:
    """Return the address that the proxy connected to, from the first entry that contains one; else ""."""
    return next((entry.upstream for entry in entries if entry.upstream), "")


def bytes_of(entries: list[AccessLogEntry], requests: int) -> tuple[int | None, int | None]:
    """Return the sums of the bytes sent and received; None for a sum with an unknown part.

    Both are None if there are fewer entries than `requests`, so that a request has no entry.
    """
    if len(entries) < requests:
        return None, None
    sent, received = [entry.sent for entry in entries], [entry.received for entry in entries]
    return None if -1 in sent else sum(sent), None if -1 in received else sum(received)


def log_fields(entries: list[AccessLogEntry]) -> dict[str, object]:
    """Return the values that the entries, at least one, contribute to the column AdditionalFields."""
    latest = entries[-1]
    fields: dict[str, object] = {"ProxyDecision": str(latest.decision)}
    if user := next((entry.user for entry in reversed(entries) if entry.user), ""):
        fields["ProxyUser"] = user
    fields["ProxyLogIds"] = [entry.event_id for entry in entries][:LOG_IDS_MAX]
    fields["ProxyLogConfidence"] = "strong" if all(entry.sure for entry in entries) else "inferred"
    return fields
