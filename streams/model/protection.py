"""Stored state of network protection: verdicts, matched indicators, alert contributions and the mode history."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.clock import MICROS
from schemas.events import Micros, ModeEvidence, Process, ProtectionMode
from schemas.indicators import Indicator
from schemas.tables import Confidence, Outcome

HIT_EVENT_IDS_MAX = 8
DAY: Micros = 86_400 * MICROS


def day_of(at: Micros) -> int:
    """Return the UTC day, in days since 1970; alerts are folded by it."""
    return at // DAY


class Hit(msgspec.Struct, array_like=True, gc=False):
    """Requests to one host on one UTC day that matched the same indicators on arrival."""

    candidates: list[tuple[Indicator, bool]]
    """Indicators that match, best first, each with True if only the host could be compared. None of them after the first one
    that applies to every process is kept."""
    host: str
    port: int
    first: Micros
    last: Micros
    count: int = 0
    event_ids: list[str] = []
    requests: list[int] = []
    """Transaction number + 1 of each HTTP request; the latest ones are kept."""
    sensor: str = ""
    """Kind of the network sensor that reported the requests. Another sensor's hits may be the same requests."""

    @property
    def means(self) -> tuple[str, int, tuple[str, ...]]:
        """Return the key that hits of different sensors share if they may be the same requests."""
        return self.host, day_of(self.first), tuple(indicator.id for indicator, _ in self.candidates)


class RequestVerdict(msgspec.Struct, array_like=True, gc=False):
    """Verdict of network protection on a request."""

    at: Micros
    host: str
    port: int
    request: int
    """Transaction number + 1; 0 for a TLS name."""
    tunnel: bool
    """The verdict is on a CONNECT or on a name inside its tunnel."""
    flags: int
    """Bits of the verdicts' actions (`BLOCKED` and so on)."""
    url: str
    title: str
    category: str
    event_id: str
    evidence: int = 0
    """Number of verdicts that were merged."""
    last: Micros = 0
    """Time of the latest of these verdicts; `at` is the time of the earliest."""
    sent: int = 0
    """Version of the latest emitted row; 0 before the first."""
    category_group: str = ""
    confidence: Confidence = Confidence.NONE
    """NONE if the sensor names the connection; INFERRED if the connection is found by process and time."""
    candidates: list[tuple[Indicator, bool]] = []
    """Indicators that match the request, as in `Hit`."""
    sensor: str = ""
    """Kind of the network sensor that reported the verdict."""


def verdict_name(request: int, tunnel: bool, host: str) -> str:
    """Return the name of a request with a verdict, unique within its connection.

    The name contains `request`. For a TLS name or a plain request it also contains the host.
    """
    return f"{'t' if tunnel else 'r'}{request}" + ("" if tunnel and request else f" {host}")


class Counted(msgspec.Struct, array_like=True, gc=False):
    """Contribution of one finding of a connection to an alert."""

    alert: str
    """Key of the alert."""
    weight: int
    """Number of requests that the alert counts for the finding."""
    stamp: int
    """Number that grows with each new detail that the alert received about the finding."""
    number: int = 0
    """The alert's number (`AlertState.number`). A later alert with the same key has another number and does not include the
    contribution."""
    asker: int = 0
    """Checksum of the request's time and process as reported to the alert; 0 without a process."""


class UnattributedVerdict(msgspec.Struct, array_like=True, gc=False):
    """Process verdict: it names a process and a destination, and no connection."""

    at: Micros
    flags: int
    """Bits of the verdict's action, and `BYPASSED` once the user dismissed the warning."""
    process: Process
    verdict: RequestVerdict
    record: str
    """Id of the row."""
    due: int
    """The second of the device's clock at which the verdict is decided."""
    decided: bool = False
    """The join is final: to a connection, or to none."""
    follows: bool = False
    """Another verdict covers the same request (the warning that was bypassed, or another sensor's verdict). Alerts count the
    other one."""
    connection: str = ""
    """Id of the joined connection; "" without one."""
    why: str = ""
    """The reason why no connection was joined."""
    sent: int = 0
    """Version of the latest emitted row; 0 before the first."""
    counted: dict[str, Counted] = {}
    retracted: bool = False
    """The join was withdrawn because the connection requested something else."""


class AlertState(msgspec.Struct, array_like=True, gc=False):
    """Folded alert of one device, kind, domain and UTC day."""

    kind: str
    domain: str
    day: str
    version: int = 0
    """Number that grows with each change. The published version also depends on the mode history (`alert_evidence`)."""
    count: int = 0
    """Number of requests; 0 if the alert is withdrawn."""
    hosts: list[str] = []
    first: Micros = 0
    last: Micros = 0
    process_name: str = ""
    pid: int | None = None
    account: str = ""
    process_at: Micros = 0
    proxy_ip: str = ""
    proxy_port: int | None = None
    title: str = ""
    event_ids: list[str] = []
    proxy_name: str = ""
    port: int = 0
    outcome: Outcome = Outcome.UNKNOWN
    category: str = ""
    confidence: Confidence = Confidence.NONE
    path: str = ""
    command_line: str = ""
    sha256: str = ""
    indicator: Indicator | None = None
    partial: bool = False
    """The indicator was compared with the host only."""
    sent: int = 0
    """The latest published version."""
    sent_at: Micros = 0
    """Time of the latest publication on the device's clock; 0 before the first."""
    number: int = 0
    """Number among the device's alerts, in the order in which they began."""


class ModeEntry(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Mode that is valid from a time on."""

    at: Micros
    """0 if the start is unknown."""
    mode: ProtectionMode
    evidence: ModeEvidence
    event_id: str
    change_at: Micros = 0
    """Time of the change whose report named this mode as the previous one; 0 for all other entries. A report of an earlier
    change removes the entry."""


class Span(NamedTuple):
    """Period in which one mode was valid."""

    since: Micros
    """0 if the start is unknown."""
    until: Micros
    """0 while it lasts."""
    mode: ProtectionMode
    evidence: ModeEvidence
    event_id: str
