"""Makers of events: a call names only what its test is about. Times are seconds after `T0`; device and proxy have defaults."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import get_args

import msgspec

from schemas.address import split_authority
from schemas.clock import MICROS
from schemas.dialect import Dialect
from schemas.events import (
    Action,
    ConnectionOpened,
    Event,
    Flow,
    FlowSummary,
    HttpExchange,
    ModeChanged,
    ModeEvidence,
    Process,
    ProcessStarted,
    ProcessVerdict,
    ProtectionMode,
    ProxyDecision,
    ProxyLogged,
    TlsName,
    Verdict,
    flow_of,
)
from schemas.indicator_input import Given, Refused, indicator_of
from schemas.indicators import Indicator
from schemas.settings import CorrelationSettings, ProtectionSettings
from schemas.tables import AlertKind, DeviceEvent, NetworkEvent
from schemas.topics import TICK_DIALECT
from streams.alerts.policy import Policy
from streams.indicators.index import IndicatorSet
from streams.model.device import DEPARTED_TIMER, Device
from streams.model.evidence import absolute_target
from streams.pipeline import Message, Pipeline

T0 = 1_795_547_248
DEVICE = "dev-1"
CLIENT = "10.0.0.7"
PROXY = "10.9.9.9"
PROXY_PORT = 3128
PORT = 40_000
FLOW = "77"


def micros(seconds: float) -> int:
    """Return an event's time, from seconds after T0."""
    return T0 * MICROS + round(seconds * MICROS)


def tuple_of(port: int = PORT, flow: str = FLOW, remote: str = PROXY, remote_port: int = PROXY_PORT) -> Flow:
    """Make a 5-tuple, client first."""
    return flow_of(CLIENT, port, remote, remote_port, flow)


def sensor_of(flow: str) -> str:
    """Return the sensor whose flow ids look like this one."""
    return "zeek" if flow.startswith("C") else "sensor" if flow.startswith("u-") else "suricata"


def connection(
    at: float,
    *,
    port: int = PORT,
    pid: int = 4711,
    process: str = "curl",
    ended: float | None = None,
    failed: bool = False,
    remote: str = PROXY,
    remote_port: int = PROXY_PORT,
) -> ConnectionOpened:
    """Make the endpoint's record of a connection."""
    start = micros(at)
    return ConnectionOpened(
        DEVICE,
        start,
        tuple_of(port, "", remote, remote_port),
        start,
        0 if failed else start,
        micros(ended) if ended is not None else 0,
        failed,
        Process(pid, process),
        f"socket/{port}/{at}",
        "socket",
    )


def request(
    at: float,
    target: str = "www.example.com:443",
    *,
    method: str = "",
    status: int | None = 200,
    host: str = "",
    tx: int = 0,
    port: int = PORT,
    flow: str = FLOW,
    remote: str = PROXY,
    remote_port: int = PROXY_PORT,
) -> HttpExchange:
    """Make an HTTP request: CONNECT for `host:port`, GET for anything with a scheme or a leading slash."""
    method = method or ("GET" if "/" in target else "CONNECT")
    place = tuple_of(port, flow, remote, remote_port)
    return HttpExchange(
        DEVICE, micros(at), place, tx, method, target, host, status, f"http/{flow}/{tx}/{at}", sensor_of(flow)
    )


def name(
    at: float,
    sni: str,
    *,
    tunnelled: bool = True,
    port: int = PORT,
    flow: str = FLOW,
    remote: str = PROXY,
    remote_port: int = PROXY_PORT,
) -> TlsName:
    """Make a TLS server name."""
    return TlsName(
        DEVICE,
        micros(at),
        tuple_of(port, flow, remote, remote_port),
        sni,
        tunnelled,
        f"tls/{flow}/{at}",
        sensor_of(flow),
    )


def verdict(
    at: float,
    target: str = "bad.example:443",
    *,
    action: Action = Action.BLOCKED,
    method: str | None = None,
    host: str = "",
    tx: int = 0,
    title: str = "listed",
    port: int = PORT,
    flow: str = FLOW,
    remote: str = PROXY,
    remote_port: int = PROXY_PORT,
) -> Verdict:
    """Make a verdict on a request; with `method=""` on a TLS name, given as `host`."""
    method = ("GET" if "/" in target else "CONNECT") if method is None else method
    place = tuple_of(port, flow, remote, remote_port)
    return Verdict(
        DEVICE,
        micros(at),
        place,
        0,
        action,
        tx,
        method,
        target,
        host,
        None,
        title,
        "policy",
        f"alert/{flow}/{tx}/{at}",
        sensor_of(flow),
    )


def flow_end(
    at: float,
    *,
    started: float,
    ended: float,
    port: int = PORT,
    flow: str = FLOW,
    midstream: bool = False,
    tls: bool = False,
    answered: bool = True,
    remote: str = PROXY,
    remote_port: int = PROXY_PORT,
    sent: int = 10,
    received: int = 20,
) -> FlowSummary:
    """Make the network sensor's flow summary."""
    return FlowSummary(
        DEVICE,
        micros(at),
        tuple_of(port, flow, remote, remote_port),
        micros(started),
        micros(ended),
        sent,
        received,
        answered,
        midstream,
        tls,
        f"flow/{flow}/{at}",
        sensor_of(flow),
    )


def process_verdict(
    at: float,
    host: str = "bad.example",
    *,
    action: Action = Action.BLOCKED,
    process: str = "curl",
    pid: int | None = None,
    port: int = 0,
    number: int = 0,
) -> ProcessVerdict:
    """Make a verdict of network protection that names the process and no connection."""
    return ProcessVerdict(
        DEVICE,
        micros(at),
        action,
        Process(pid, process),
        host,
        port,
        f"{host}/",
        "",
        "CustomBlockList",
        f"1126/{number}/{at}",
        "defender",
    )


def program(
    at: float,
    command_line: str = "curl -x proxy https://www.example.com",
    *,
    pid: int = 4711,
    process: str = "curl",
    path: str = "",
    guid: str = "",
    ended: float | None = None,
) -> ProcessStarted:
    """Make a process record: its start at that time, its GUID, and with `ended` its end."""
    start = micros(at)
    who = Process(
        pid, process, path, command_line, start, "jane", "CORP", parent_pid=1, parent_name="bash", sha256="ab" * 32,
        guid=guid,
    )  # fmt: skip
    over = micros(ended) if ended is not None else 0
    return ProcessStarted(DEVICE, over or start, who, over, f"sysmon/{5 if over else 1}/{pid}/{at}", "sysmon")


def program_end(at: float, *, guid: str, pid: int = 4711, process: str = "curl") -> ProcessStarted:
    """Make a record of a process's end, without its start."""
    return ProcessStarted(
        DEVICE, micros(at), Process(pid, process, guid=guid), micros(at), f"sysmon/5/{pid}/{at}", "sysmon"
    )


def proxy_line(
    at: float,
    target: str = "www.example.com:443",
    *,
    started: float | None = None,
    status: int | None = 200,
    decision: ProxyDecision = ProxyDecision.SERVED,
    upstream: str = "203.0.113.80",
    port: int = PORT,
    client: str = CLIENT,
    proxy: str = PROXY,
    proxy_port: int = PROXY_PORT,
    user: str = "jane",
    number: int = 0,
) -> ProxyLogged:
    """Make an access-log entry: CONNECT for `host:port`, GET for anything with a scheme."""
    method = "GET" if "/" in target else "CONNECT"
    host, target_port, _ = absolute_target(target) if method == "GET" else (*split_authority(target, 0), "")
    begun = micros(at if started is None else started)
    return ProxyLogged(
        DEVICE, micros(at), client, port, proxy, proxy_port, begun, method, target, host, target_port, status, decision,
        upstream, 443, 300, 4000, user, "squid1", f"squid/{number}/{at}", "squid",
    )  # fmt: skip


def mode(at: float, mode: ProtectionMode, before: ProtectionMode | None = None) -> ModeChanged:
    """Make a change of the device's protection mode."""
    return ModeChanged(DEVICE, micros(at), mode, f"5007/{at}", "defender", before, ModeEvidence.DEFENDER_SETTING)


def indicator(given: Given) -> Indicator:
    """Make an indicator from what a person gives, normalised."""
    made = indicator_of(given, 0)
    assert not isinstance(made, Refused), made.in_words()
    return made


def listing(*given: Given, modes: Sequence[str] = (), gap_secs: float = 0) -> Policy:
    """Make a policy from indicators, modes of the settings, and the seconds between two versions of an alert."""
    indicators = IndicatorSet()
    for one in given:
        indicators.put(indicator(one))
    return Policy(ProtectionSettings(modes=tuple(modes), alert_gap_secs=gap_secs), indicators)


Row = dict[str, object]


_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def line_of(event: Event) -> bytes:
    """Encode an event as a line of the dialect `EVENTS`: its class and its fields as JSON."""
    return type(event).__name__.encode() + b" " + msgspec.json.encode(event)


def _event_of(line: bytes) -> Event:
    kind, _, fields = line.partition(b" ")
    return msgspec.json.decode(fields, type=_KINDS[kind.decode()])


EVENTS = Dialect("events", _event_of, lambda _: 0, lambda _: DEVICE, "Events of tests", "Every event.", lambda _: False)
"""A dialect whose lines are events, so that events of a test pass through the pipeline like a sensor's lines."""


class World:
    """One device and its pipeline: events in, the latest version of each row out.

    The log's time is the latest event's, plus the seconds that the device was quiet.
    """

    def __init__(self, policy: Policy | None = None, **settings: object) -> None:
        # Each version of an alert is published: tests of its delay give a policy with a gap.
        self._policy = policy or listing()
        self._settings = CorrelationSettings.model_validate(settings)
        self.pipeline = self._new_pipeline()
        self._entries: dict[bytes, bytes] = {}
        self._offset = self._log_ms = 0
        self.versions: list[Row] = []
        self.verdicts: list[Row] = []
        self.alerts: list[Row] = []
        self.unconfirmed: list[Row] = []
        """Alerts `unconfirmed_proxy`, kept apart because the proxy of these tests is not in the settings."""
        self.modes: list[Row] = []

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self._settings, self._policy, {EVENTS.name: EVENTS})

    def see(self, *events: Event) -> World:
        """Send each event as a message of its own."""
        for event in events:
            self.see_together(event)
        return self

    def see_together(self, *events: Event) -> World:
        """Send events as one message."""
        self._log_ms = max(self._log_ms, *(-(-event.at // 1000) for event in events))
        return self._take(b"\n".join(map(line_of, events)), EVENTS.name)

    def wait(self, seconds: float) -> World:
        """Advance the log by `seconds` while the device is silent."""
        self._log_ms += round(seconds * 1000)
        return self._take(b"", TICK_DIALECT)

    def wait_until(self, at: float) -> World:
        """Advance the log to a time while the device is silent."""
        return self.wait(at - (self._log_ms - T0 * 1000) / 1000)

    def finish(self) -> World:
        """End the recording: decide all that waits."""
        self.pipeline.finish()
        return self._keep()

    def restart(self) -> World:
        """Continue with a new pipeline from the stored state, as another worker does."""
        self._entries.update(self.pipeline.checkpoint())
        self.pipeline = self._new_pipeline()
        self.pipeline.restore(self._entries.items())
        return self

    def _take(self, value: bytes, dialect: str) -> World:
        self._offset += 1
        self.pipeline.take(Message(self._offset, self._log_ms, DEVICE.encode(), value, dialect))
        return self._keep()

    def _keep(self) -> World:
        output = self.pipeline.drain()
        assert not output.rejects, "events of tests are valid"
        self.versions += (as_row(row, NetworkEvent) for row in output.network_events)
        self.verdicts += (as_row(row, DeviceEvent) for row in output.device_events)
        for _, encoded in output.alerts:
            alert = json.loads(encoded)
            (self.unconfirmed if alert["Kind"] == AlertKind.UNCONFIRMED_PROXY else self.alerts).append(alert)
        self.modes += (json.loads(row) for row in output.modes)
        return self

    @property
    def device(self) -> Device:
        """Return the state of the only named device."""
        (device,) = (device for name, device in self.pipeline.devices.items() if name)
        return device

    @property
    def timers(self) -> int:
        """Return how many 5-tuples have a timer on the device's clock."""
        waiting = (keys if isinstance(keys, dict) else {keys: None} for keys in self.device.timers.values())
        return sum(bool(key) and key != DEPARTED_TIMER for keys in waiting for key in keys)

    @property
    def rows(self) -> list[Row]:
        """Return the latest versions, in the order of the first ones."""
        return latest(self.versions)

    @property
    def connections(self) -> list[Row]:
        """Return the latest connection rows."""
        return [row for row in self.rows if row["Layer"] == "connection"]

    @property
    def destinations(self) -> list[Row]:
        """Return the latest destination rows."""
        return [row for row in self.rows if row["Layer"] == "destination"]

    @property
    def counts(self) -> dict[str, int]:
        """Return the device's counts, without zeros and without lines read."""
        return {what: n for what, n in self.device.state.counts.items() if n and what not in ("read", "parsed")}


def as_row(encoded: bytes, kind: type[msgspec.Struct]) -> Row:
    """Decode a row with all its columns, defaults included. Raises on an unknown column."""
    unknown = json.loads(encoded).keys() - set(kind.__struct_fields__)
    assert not unknown, f"not columns of {kind.__name__}: {unknown}"
    row: Row = msgspec.to_builtins(msgspec.json.decode(encoded, type=kind))
    return _defaults(kind) | row


@cache
def _defaults(kind: type[msgspec.Struct]) -> Row:
    return {
        f.name: f.default for f in msgspec.structs.fields(kind) if not f.required and f.default is not msgspec.NODEFAULT
    }


def latest(rows: Iterable[Row], key: str = "RecordId") -> list[Row]:
    """Return for each identity the row with the highest version. Rows that differ must not share a version."""
    found: dict[object, Row] = {}
    for row in rows:
        old = found.get(row[key])
        assert old is None or old == row or old["Version"] != row["Version"], f"one version, two contents: {old} {row}"
        if old is None or int(str(row["Version"])) >= int(str(old["Version"])):
            found[row[key]] = row
    return list(found.values())


def world_of(events: Sequence[Event], **settings: object) -> World:
    """Return the world after these events, each in a message of its own, with everything decided."""
    return World(None, **settings).see(*events).finish()
