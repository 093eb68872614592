"""Correlator: applies the events of a device to the evidence of its connections.

The module is pure: time comes from the events.

Rules for deciding a connection
-------------------------------

A connection to a proxy does not show its real destination. HTTP-level events of the same flow do (`docs/design/connections.md`):
a CONNECT names the end of a tunnel, an absolute URI names the host of one request, and a verdict contains the request that it
is about. Inside a tunnel, SNI or Host name the destination. A flow is identified by its 5-tuple and the sensor's flow id. The
endpoint record is the only source of the process. It is matched to a flow by 5-tuple and time (`streams.correlate.matching`).

- A destination row is emitted as soon as CONNECT, a SOCKS request, an absolute URI or a verdict names the destination.
- Weaker names (SNI, Host) wait until the connection is decided, as a better name may still arrive.
- The connection's own row is emitted when its destination and its process are known, or when the connection is decided. It is
  decided after `patience_secs`, or after `lateness_secs` if it has a destination and the device has no endpoint sensor. Later
  evidence still replaces its row.
- Timers run on the device's own clock, the time of its latest event. They fire before a later event is applied, so the way the
  input is cut into batches does not change the result.
- An ended connection stays in the state for late records and then leaves. An idle connection leaves as well. If a device has
  too many connections, the oldest one leaves.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from schemas.address import authority, split_authority
from schemas.clock import MICROS
from schemas.events import (
    UNNAMED_TARGET,
    ConnectionOpened,
    Flow,
    FlowSummary,
    HttpExchange,
    Micros,
    ModeChanged,
    ModeEvidence,
    ProcessStarted,
    ProcessVerdict,
    ProxyLogged,
    SocksRequest,
    TlsName,
    Verdict,
)
from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy, note_hit
from streams.assess.mode_history import apply_mode
from streams.correlate.connections import ConnectionTable
from streams.correlate.departed import departed_endpoint, was_emitted
from streams.correlate.device_clock import DeviceClock
from streams.correlate.matching import began_after_close, flow_for_endpoint, wrongly_matched
from streams.correlate.process_verdicts import ProcessVerdicts
from streams.correlate.processes import Processes
from streams.correlate.program_index import list_program
from streams.correlate.proxy_log import ProxyLog
from streams.correlate.routes import ends_of
from streams.correlate.sensor_merge import (
    add_sensor_record,
    count_for_its_sensor,
    merged,
    of_same_sensor,
    same_connection,
    same_of_another,
    to_sensor_record,
)
from streams.correlate.verdicts import Verdicts
from streams.model.connection import (
    ASKED,
    BY_CONNECT,
    BY_SOCKS,
    BY_URI,
    FAILED,
    REACHED,
    Connection,
    Destination,
    EndpointRecord,
    ObservedName,
    TupleConnections,
)
from streams.model.device import Device
from streams.model.evidence import (
    NAME,
    REQUEST,
    SUMMARY,
    absolute_target,
    add_destination,
    add_name,
    evidence_key,
    flags_of_status,
    kind_of_flow,
    path_of,
)


class Correlator:
    """Correlator for the events of all devices of a partition. `streams.rows.emitter` derives the rows from the devices."""

    def __init__(self, settings: CorrelationSettings, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.table = ConnectionTable(settings, self.policy, self)
        self.clock = DeviceClock(self.table, self)
        self.on_leaving: Callable[[Device, str, Connection], None] = lambda *_: None
        """Called with device, 5-tuple and connection before the connection leaves the state."""
        self._process_verdicts = ProcessVerdicts(self.table)
        self._proxy_log = ProxyLog(self.table)
        verdicts = Verdicts(self.table, self._process_verdicts)
        self.handlers: dict[type, Callable[[Device, Any], None]] = {
            ConnectionOpened: self._opened,
            FlowSummary: self._closed,
            HttpExchange: self._http,
            TlsName: self._tls,
            SocksRequest: self._socks,
            Verdict: verdicts.take,
            ProcessVerdict: verdicts.take_of_process,
            ModeChanged: self._mode,
            ProxyLogged: self._proxy_log.take,
            ProcessStarted: Processes(self.table).take,
        }

    def finish(self, device: Device) -> None:
        """Decide everything that waits, as at the end of a recording."""
        self.table.finish(device)
        self._process_verdicts.finish(device)
        self._proxy_log.finish(device)

    def process_verdicts_due(self, device: Device, second: int) -> None:
        """Decide process verdicts that are due by this second of the device's clock."""
        self._process_verdicts.wake(device, second)

    def proxy_log_due(self, device: Device, second: int) -> None:
        """Join access-log entries that are due by this second of the device's clock."""
        self._proxy_log.wake(device, second)

    def guess_refuted(self, device: Device, key: str, connection: Connection, host: str) -> None:
        """Retract process verdicts on `host` that were joined to this connection, as the connection asked for another host."""
        self._process_verdicts.retract(device, key, connection, host)

    def before_leaving(self, device: Device, key: str, connection: Connection) -> None:
        """Emit the last rows of a connection."""
        self.on_leaving(device, key, connection)

    def _opened(self, device: Device, event: ConnectionOpened) -> None:
        device.state.endpoint_seen = True
        key, endpoint = event.flow.key, _record_of(event)
        connections = device.connections_of(key)
        if device.programs is not None:
            list_program(device, key, event.process)
        if connections is not None and self._is_taken(device, key, connections, endpoint):
            return
        found = None if connections is None else flow_for_endpoint(connections, endpoint)
        connection = found or self._new_endpoint(device, key, connections, endpoint)
        if found is not None and not found.decided:
            # The connection gets the timer that it would have if the endpoint record had arrived first.
            due = min(endpoint.started, device.state.event_time) + self.table.patience
            self.table.wake_at(device, key, found, max(found.due, -(-due // MICROS)))
        connection.endpoint = endpoint
        connection.last = max(connection.last, device.state.event_time)
        self.table.changed(device, key)
        if endpoint.ended:
            self.table.ended(device, key, connection)

    def _is_taken(self, device: Device, key: str, connections: TupleConnections, endpoint: EndpointRecord) -> bool:
        """Apply an endpoint record if its connection has an endpoint record already; return False if none has.

        The record is merged with an earlier one of the same connection, or replaces a record that was matched wrongly.
        """
        for known in connections:
            if known.endpoint is not None and of_same_sensor(known, endpoint) is not None:
                self._merge_endpoint(device, key, known, endpoint)
                return True
        same = same_connection(connections, endpoint)
        better = None if same is not None else same_of_another(connections, endpoint)
        if better is not None:
            connection = self._with_endpoint(device, key, connections, endpoint)
            add_sensor_record(connection, to_sensor_record(better, endpoint))
            self.table.changed(device, key)
        elif same is not None:
            self._merge_endpoint(device, key, same, endpoint)
        elif (wrong := wrongly_matched(connections, endpoint)) is not None:
            self.table.swap(device, key, self._with_endpoint(device, key, connections, endpoint), wrong)
        else:
            return False
        return True

    def _with_endpoint(
        self, device: Device, key: str, connections: TupleConnections, endpoint: EndpointRecord
    ) -> Connection:
        """Create a connection with this endpoint record."""
        connection = self.table.new(device, key, connections, endpoint.started, self.table.patience)
        connection.endpoint, connection.last = endpoint, device.state.event_time
        return connection

    def _new_endpoint(
        self, device: Device, key: str, connections: TupleConnections | None, endpoint: EndpointRecord
    ) -> Connection:
        """Create a connection for an endpoint record without a flow; mark it late if it fits a departed connection."""
        connection = self.table.new(device, key, connections, endpoint.started, self.table.patience)
        left = departed_endpoint(device, key, endpoint) if device.departed else None
        if left is not None:
            self.table.mark_late(device, connection, left)
        return connection

    def _merge_endpoint(self, device: Device, key: str, connection: Connection, more: EndpointRecord) -> None:
        """Merge a further endpoint record of a connection, from the same sensor or from another one."""
        endpoint = connection.endpoint
        assert endpoint is not None, "only called for a connection with an endpoint record"
        if connection.sensor_records or of_same_sensor(connection, more) is None:
            is_new = add_sensor_record(connection, more)
        else:
            connection.endpoint = merged(endpoint, more)
            is_new = connection.endpoint != endpoint
        if is_new:
            connection.last = max(connection.last, device.state.event_time)
            self.table.changed(device, key)
            self.table.ended(device, key, connection)
            if began_after_close(connection):
                self.table.join_late(device, key, connection)

    def _closed(self, device: Device, event: FlowSummary) -> None:
        started = 0 if event.midstream else event.started
        key, connection = self.table.locate(device, event, started, event.started, event.ended)
        if not self.table.is_new(device, connection, event, evidence_key(SUMMARY, event.at)):
            return
        if not connection.summarised and (kind := kind_of_flow(event)) not in device.state.summary_kinds:
            device.state.summary_kinds.append(kind)
        connection.summarised += 1
        if event.started and not event.midstream:
            connection.flow_started = min(connection.flow_started or event.started, event.started)
        connection.flow_ended = max(connection.flow_ended, event.ended)
        sent, received = event.bytes_sent, event.bytes_received
        if _turned(key, event.flow):
            sent, received = received, sent
        connection.bytes_sent = max(connection.bytes_sent, sent)
        connection.bytes_received = max(connection.bytes_received, received)
        connection.answered |= event.answered
        connection.midstream |= event.midstream
        connection.tls |= event.tls
        self.table.ended(device, key, connection)
        if not connection.held:
            self.table.join_late(device, key, connection, surely=not connection.decided)
        self.table.changed(device, key)

    def _http(self, device: Device, event: HttpExchange) -> None:
        key, connection = self.table.locate(device, event, event.started)
        if event.started and not connection.flow_started:
            self.table.match_by_start(device, key, connection, event.started)
        self.table.http_seen(device, event.at)
        tunnel = event.method == "CONNECT"
        if not self.table.is_new(device, connection, event, evidence_key(REQUEST, event.at, event.tx << 1 | tunnel)):
            return
        evidence = (event.at, event.event_id)
        if tunnel:
            connection.connect = connection.asked = True
            host, port = split_authority(event.target, 0)
            flags = flags_of_status(event.status, connect=True)
            answered = flags == REACHED or event.status == 407
            if device.state.proxies.get(ends_of(key)[4]) is not True:
                self.table.learn(device, key, answered=answered)
            if host:
                target = f"{host}:{port}"
                asked = add_destination(
                    connection, BY_CONNECT, host, port, target, flags, evidence, event.status, tunnel=True
                )
                self._compare(device, connection, asked, host, port, "", event, encrypted=True)
            else:
                connection.unreadable += 1
        else:
            host, port, url = absolute_target(event.target)
            if host == event.flow.remote_ip and port == event.flow.remote_port:
                add_name(connection, ObservedName(event.at, host, False, False, event.event_id))
                self._compare_name(device, key, connection, host, event, path=path_of(event.target))
            elif host:
                connection.asked = True
                flags = flags_of_status(event.status, connect=False)
                self.table.learn(device, key, answered=event.status == 407)
                asked = add_destination(
                    connection, BY_URI, host, port, url, flags, evidence, event.status, tunnel=False
                )
                self._compare(device, connection, asked, host, port, url, event, encrypted=False)
            elif event.target.startswith(("/", "*")) and event.host:
                add_name(connection, ObservedName(event.at, event.host, False, False, event.event_id))
                self._compare_name(device, key, connection, event.host, event, path=event.target)
            else:
                connection.unreadable += 1
                if event.target == UNNAMED_TARGET:
                    self.table.learn(device, key, answered=event.status == 407)
                    connection.asked |= ends_of(key)[4] not in device.state.proxies
        self.table.after_names(device, key, connection)

    def _tls(self, device: Device, event: TlsName) -> None:
        key, connection = self.table.locate(device, event, event.started)
        if event.started and not connection.flow_started:
            self.table.match_by_start(device, key, connection, event.started)
        self.table.http_seen(device, event.at)
        if self.table.is_new(device, connection, event, evidence_key(NAME, event.at, zlib.crc32(event.sni.encode()))):
            if event.to_proxy:
                self.table.learn(device, key, answered=False)
                # At the bound on learnt proxies, the remote end is a proxy for this connection only.
                connection.asked |= ends_of(key)[4] not in device.state.proxies
            observed = ObservedName(event.at, event.sni, True, not event.tunnelled, event.event_id)
            if (event.sni or event.to_proxy) and add_name(connection, observed):
                if event.sni:
                    self._compare_name(device, key, connection, event.sni, event, path="")
                self.table.after_names(device, key, connection)
            else:
                device.touched[key] = None

    def _socks(self, device: Device, event: SocksRequest) -> None:
        key, connection = self.table.locate(device, event, event.started)
        if event.started and not connection.flow_started:
            self.table.match_by_start(device, key, connection, event.started)
        self.table.http_seen(device, event.at)
        if not self.table.is_new(device, connection, event, evidence_key(REQUEST, event.at, event.tx << 1 | True)):
            return
        connection.connect = connection.asked = True
        # Do not infer other ports: a SOCKS server is often the device itself, and its other ports are not proxies.
        self.table.learn(device, key, answered=False)
        if event.host:
            flags = ASKED if event.granted is None else REACHED if event.granted else FAILED
            evidence, target = (event.at, event.event_id), authority(event.host, event.port)
            asked = add_destination(
                connection, BY_SOCKS, event.host, event.port, target, flags, evidence, None, tunnel=True
            )
            self._compare(device, connection, asked, event.host, event.port, "", event, encrypted=True)
        else:
            connection.unreadable += 1
        self.table.after_names(device, key, connection)

    def _mode(self, device: Device, event: ModeChanged) -> None:
        if apply_mode(device, event):
            self.table.mode_history_changed(device)

    def apply_mode_setting(self, device: Device, at: Micros) -> None:
        """Apply the configured mode of a device if it changed.

        The mode is valid since time 0 for a new device, else from `at` (microseconds) on.
        """
        mode = self.policy.mode_of(device)
        state = device.state
        if (mode or "") == state.settings_mode:
            return
        since = at if state.settings_mode or state.event_time else 0
        state.settings_mode = mode or ""
        if mode is not None:
            self._mode(device, ModeChanged(device.name, since, mode, "", "", evidence=ModeEvidence.SETTINGS))

    def _compare(
        self,
        device: Device,
        connection: Connection,
        asked: Destination | None,
        host: str,
        port: int,
        url: str,
        event: HttpExchange | SocksRequest,
        *,
        encrypted: bool,
    ) -> None:
        """Match indicators against a destination that the client asked a proxy for, and record the hits.

        `url` is "" if unknown. `encrypted` means that only host and port are known. On a late connection, no hit is recorded for
        a destination whose row was emitted before the connection departed.
        """
        if connection.flow_ids:
            count_for_its_sensor(connection, asked, event)
        matches = self.policy.match(device, host, port, url, "", event.at, encrypted=encrypted)
        late = connection.late
        if matches and asked is not None and not (late is not None and was_emitted(late, host, port)):
            sensor = kind_of_flow(event)
            note_hit(asked.hits, matches, host, port, event.at, event.event_id, event.tx + 1, sensor)

    def _compare_name(
        self, device: Device, key: str, connection: Connection, host: str, event: HttpExchange | TlsName, *, path: str
    ) -> None:
        """Match indicators against a name observed on a connection, and record the hits.

        `path` is the path of the request; "" for a TLS name. On a direct connection the remote address is matched too.
        `event.tunnelled` means that the sensor saw the tunnel's CONNECT, so the connection goes through a proxy even if the
        event of that CONNECT is missing.
        """
        tls = isinstance(event, TlsName)
        route = self.table.route(device, key, connection)
        proxied = route.proxied or (isinstance(event, TlsName) and event.tunnelled)
        port = (443 if tls else 80) if proxied else route.remote_port
        ip = "" if proxied else route.remote_ip
        url = "" if tls else f"http://{host}{'' if port == 80 else f':{port}'}{path.partition('?')[0]}"
        matches = self.policy.match(device, host, port, url, ip, event.at, encrypted=tls)
        if matches and connection.late is None:
            request = 0 if isinstance(event, TlsName) else event.tx + 1
            sensor = kind_of_flow(event)
            note_hit(connection.hits, matches, host, port, event.at, event.event_id, request, sensor)


def _turned(key: str, flow: Flow) -> bool:
    """Return whether the flow names the server first, as its local end is not the one in the 5-tuple `key`."""
    return not key.startswith(f"{flow.local_ip} {flow.local_port} ")


def _record_of(event: ConnectionOpened) -> EndpointRecord:
    return EndpointRecord(
        event.started,
        event.established,
        event.ended,
        event.failed,
        event.process,
        event.event_id,
        -1 if event.bytes_sent is None else event.bytes_sent,
        -1 if event.bytes_received is None else event.bytes_received,
        event.exec_after,
        event.sensor,
    )
