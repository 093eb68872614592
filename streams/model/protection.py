"""What is kept of protection: verdicts, indicators that matched, what alerts count, the history of the mode."""

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
    """The UTC day, counted since 1970: what alerts fold by."""
    return at // DAY


class Hit(msgspec.Struct, array_like=True, gc=False):
    """Requests to one host on one UTC day that the same indicators matched when they came."""

    candidates: list[tuple[Indicator, bool]]
    """Best first; only the last has no condition on the process. True where only the host could be compared."""
    host: str
    port: int
    first: Micros
    last: Micros
    count: int = 0
    event_ids: list[str] = []
    requests: list[int] = []
    """Of HTTP requests their transactions + 1."""
    sensor: str = ""
    """Kind of the network sensor that told of them: another one's hits may be the same requests."""

    @property
    def means(self) -> tuple[str, int, tuple[str, ...]]:
        """What hits of different sensors have in common if they may be the same requests."""
        return self.host, day_of(self.first), tuple(indicator.id for indicator, _ in self.candidates)


class Judged(msgspec.Struct, array_like=True, gc=False):
    """A request that network protection judged."""

    at: Micros
    host: str
    port: int
    request: int
    """Transaction + 1; 0 for a TLS name."""
    tunnel: bool
    flags: int
    url: str
    title: str
    category: str
    event_id: str
    evidence: int = 0
    last: Micros = 0
    sent: int = 0
    category_group: str = ""
    confidence: Confidence = Confidence.NONE
    """NONE: as sure as the sensor that names the connection; inferred where process and time do."""
    candidates: list[tuple[Indicator, bool]] = []
    """Indicators that match it, as in `Hit`."""
    sensor: str = ""
    """Kind of the network sensor that judged it."""


def judged_name(request: int, tunnel: bool, host: str) -> str:
    """What tells a judged request from the connection's others: its transaction; of a name and of a plain one the host, too."""
    return f"{'t' if tunnel else 'r'}{request}" + ("" if tunnel and request else f" {host}")


class Counted(msgspec.Struct, array_like=True, gc=False):
    """What an alert counts for one finding of a connection."""

    alert: str
    weight: int
    stamp: int
    """Grows with what the alert was told of it."""
    number: int = 0
    """The alert's: of one that was forgotten and began anew it is no part."""
    who: int = 0
    """Whose request it was, as the alert was told; 0 for nobody's."""


class UnattributedVerdict(msgspec.Struct, array_like=True, gc=False):
    """A verdict that names a process and no connection."""

    at: Micros
    flags: int
    process: Process
    judged: Judged
    record: str
    due: int
    """Second at which it is decided."""
    decided: bool = False
    """Whether it is known which connection it is about, or that none is."""
    follows: bool = False
    """Another verdict tells of the same request: a warning that was clicked away, or another sensor's. It is counted there."""
    connection: str = ""
    why: str = ""
    """Why it stands alone."""
    sent: int = 0
    counted: dict[str, Counted] = {}
    taken_back: bool = False
    """It was joined to a connection that asked for something else."""


class AlertState(msgspec.Struct, array_like=True, gc=False):
    """One folded alert: device + kind + domain + UTC day."""

    kind: str
    domain: str
    day: str
    version: int = 0
    count: int = 0
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
    """The indicator could only be compared with the host."""
    sent: int = 0
    """The version that was published."""
    sent_at: Micros = 0
    """The device's time then; 0 before the first."""
    number: int = 0
    """Which of the device's alerts, in the order in which they began."""


class ModeEntry(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """From a time on a mode is in force."""

    at: Micros
    """0 where nobody knows since when."""
    mode: ProtectionMode
    evidence: ModeEvidence
    event_id: str
    told_at: Micros = 0
    """Of what a change says of the time before it: the change's time. An earlier one knows better."""


class Span(NamedTuple):
    """A time in which one mode was in force."""

    since: Micros
    """0 where nobody knows since when."""
    until: Micros
    """0 while it lasts."""
    mode: ProtectionMode
    evidence: ModeEvidence
    event_id: str
