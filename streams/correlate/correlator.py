"""The correlator: events of one device in, knowledge of its connections out. Pure: time comes inside the events.

Why these rules settle a connection
-----------------------------------
A connection to a proxy says nothing of where it really goes. The HTTP-level events of the same flow do: CONNECT names the
end of a tunnel, an absolute URI the host of one request, a verdict the request that it stopped, and inside a tunnel SNI or
Host speak (`docs/design.md`). A flow is told by its 5-tuple and the sensor's flow id; the kernel's record of it,
which alone knows the process, by 5-tuple and time (`streams.correlate.matching`).

- A destination row leaves as soon as CONNECT, a SOCKS request, an absolute URI or a verdict names it.
- Weaker names (SNI, Host) wait until the connection settles, as the better one may be under way.
- The connection's own row leaves when its destination and its process are known. Without a kernel record it waits for one: for
  the patience where the device has a kernel sensor, else for the lateness. Unresolved it waits for the patience. Then it is
  settled; later evidence still replaces it.
- Timers run on the device's own clock, its latest event. They fire before an event that is later is taken in, so how the
  input was cut into batches makes no difference.
- Ended connections linger for late records and then leave; so do idle ones, and the oldest ones of a device that has too many.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from schemas.address import authority, split_authority
from schemas.clock import MICROS
from schemas.events import (
    UNNAMED_TARGET,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Flow,
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
from streams.alerts.folding import touch
from streams.alerts.policy import Policy, note_hit
from streams.assess.assessment import flow_name
from streams.assess.mode_history import hear
from streams.correlate.connections import LEAP, Settler, ends_of
from streams.correlate.departed import departed_flow, departed_kernel, forgotten_flow, is_departed, was_told
from streams.correlate.matching import began_after_close, flow_for_kernel, kernel_for_flow, wrongly_matched
from streams.correlate.process_verdicts import LooseVerdicts
from streams.correlate.processes import Processes
from streams.correlate.program_index import list_program
from streams.correlate.proxy_log import ProxyLines
from streams.correlate.sensor_merge import (
    add_witness,
    count_for_its_sensor,
    mark_of,
    may_have_twin,
    merged,
    of_same_speaker,
    other_witness,
    take_witness,
    told_by_another,
    witness_of_another,
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
    Group,
    Inner,
    Kernel,
)
from streams.model.device import PROXIES_MAX, Device
from streams.model.evidence import (
    APART,
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


class Correlator(Settler):
    """Takes events of devices. Rows are read off the devices by `streams.rows.emitter`."""

    def __init__(self, settings: CorrelationSettings, policy: Policy | None = None) -> None:
        super().__init__(settings, policy or Policy())
        self.loose = LooseVerdicts(self)
        self.wake_loose = self.loose.wake
        self.take_back_guess = self.loose.take_back
        self.lines = ProxyLines(self)
        self.wake_lines = self.lines.wake
        verdicts = Verdicts(self)
        self.handlers: dict[type, Callable[[Device, Any], None]] = {
            ConnectionOpened: self._opened,
            ConnectionClosed: self._closed,
            HttpExchange: self._http,
            TlsName: self._tls,
            SocksRequest: self._socks,
            Verdict: verdicts.take,
            ProcessVerdict: verdicts.take_of_process,
            ModeChanged: self._mode,
            ProxyLogged: self.lines.take,
            ProcessStarted: Processes(self).take,
        }

    def take(self, device: Device, event: Event) -> None:
        """Take one event in. Timers that are due before it fire first."""
        self.see_time(device, event.at, event.ended if isinstance(event, ConnectionOpened) else 0)
        self.handlers[event.__class__](device, event)

    def finish(self, device: Device) -> None:
        """Settle everything that waits, as at the end of a recording."""
        super().finish(device)
        self.loose.finish(device)
        self.lines.finish(device)

    def _opened(self, device: Device, event: ConnectionOpened) -> None:
        device.facts.kernel_seen = True
        key = event.flow.key
        group = device.group(key)
        if device.programs is not None:
            list_program(device, key, event.process)
        kernel = Kernel(
            event.started,
            event.established,
            event.ended,
            event.failed,
            event.process,
            event.event_id,
            -1 if event.bytes_sent is None else event.bytes_sent,
            -1 if event.bytes_received is None else event.bytes_received,
            event.exec_after,
        )
        if group is None:
            connection = self._new_kernel(device, key, None, kernel)
        else:
            for known in group:
                if known.kernel is None:
                    continue
                if of_same_speaker(known, kernel) is not None:
                    self._merge_kernel(device, key, known, kernel)
                    return
            seen_twice = other_witness(group, kernel)
            better = None if seen_twice is not None else witness_of_another(group, kernel)
            if better is not None:
                connection = self.new(device, key, group, event.started, self.patience)
                connection.kernel, connection.last = kernel, device.facts.now
                add_witness(connection, take_witness(better, kernel))
                self.changed(device, key)
                return
            if seen_twice is not None:
                self._merge_kernel(device, key, seen_twice, kernel)
                return
            better = wrongly_matched(group, kernel)
            if better is not None:
                connection = self.new(device, key, group, event.started, self.patience)
                connection.kernel, connection.last = kernel, device.facts.now
                self.swap(device, key, connection, better)
                return
            found = flow_for_kernel(group, kernel)
            connection = found or self._new_kernel(device, key, group, kernel)
            if found is not None and not found.settled:
                # As if the kernel's record had come first.
                due = min(event.started, device.facts.now) + self.patience
                self.wake_at(device, key, found, max(found.due, -(-due // MICROS)))
        connection.kernel = kernel
        connection.last = max(connection.last, device.facts.now)
        self.changed(device, key)
        if kernel.ended:
            self.ended(device, key, connection)

    def _new_kernel(self, device: Device, key: str, group: Group | None, kernel: Kernel) -> Connection:
        """A connection that only an endpoint's record tells of, maybe late."""
        connection = self.new(device, key, group, kernel.started, self.patience)
        left = departed_kernel(device, key, kernel) if device.departed else None
        if left is not None:
            self.mark_late(device, connection, left)
        return connection

    def _merge_kernel(self, device: Device, key: str, connection: Connection, more: Kernel) -> None:
        """A further record of a connection, of the same sensor or of another one."""
        kernel = connection.kernel
        assert kernel is not None, "only called for a connection with a kernel record"
        if connection.witnesses or of_same_speaker(connection, more) is None:
            is_new = add_witness(connection, more)
        else:
            connection.kernel = merged(kernel, more)
            is_new = connection.kernel != kernel
        if is_new:
            connection.last = max(connection.last, device.facts.now)
            self.changed(device, key)
            self.ended(device, key, connection)
            if began_after_close(connection):
                self.join_late(device, key, connection)

    def _closed(self, device: Device, event: ConnectionClosed) -> None:
        started = 0 if event.midstream else event.started
        key, connection = self.locate(device, event.flow, event.at, started, event.started, event.ended)
        if not self.is_new(device, connection, event.flow, evidence_key(SUMMARY, event.at)):
            return
        if not connection.summarised and (kind := kind_of_flow(event.flow.id)) not in device.facts.summary_kinds:
            device.facts.summary_kinds.append(kind)
        connection.summarised += 1
        if event.started and not event.midstream:
            connection.flow_started = min(connection.flow_started or event.started, event.started)
        connection.flow_ended = max(connection.flow_ended, event.ended)
        sent, received = event.bytes_sent, event.bytes_received
        if self._turned(key, event.flow):
            sent, received = received, sent
        connection.bytes_sent = max(connection.bytes_sent, sent)
        connection.bytes_received = max(connection.bytes_received, received)
        connection.answered |= event.answered
        connection.midstream |= event.midstream
        connection.tls |= event.tls
        self.ended(device, key, connection)
        if not connection.held:
            self.join_late(device, key, connection, surely=not connection.settled)
        self.changed(device, key)

    def _http(self, device: Device, event: HttpExchange) -> None:
        key, connection = self.locate(device, event.flow, event.at, event.started)
        if event.started and not connection.flow_started:
            self._match_by_start(device, key, connection, event.started)
        self.http_seen(device, event.at)
        tunnel = event.method == "CONNECT"
        if not self.is_new(device, connection, event.flow, evidence_key(REQUEST, event.at, event.tx << 1 | tunnel)):
            return
        evidence = (event.at, event.event_id)
        if tunnel:
            connection.connect = connection.asked = True
            host, port = split_authority(event.target, 0)
            flags = flags_of_status(event.status, connect=True)
            answered = flags == REACHED or event.status == 407
            if device.facts.proxies.get(ends_of(key)[4]) is not True:
                self.learn(device, key, answered=answered)
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
                add_name(connection, Inner(event.at, host, False, False, event.event_id))
                self._compare_name(device, key, connection, host, event, path=path_of(event.target))
            elif host:
                connection.asked = True
                flags = flags_of_status(event.status, connect=False)
                self.learn(device, key, answered=event.status == 407)
                asked = add_destination(
                    connection, BY_URI, host, port, url, flags, evidence, event.status, tunnel=False
                )
                self._compare(device, connection, asked, host, port, url, event, encrypted=False)
            elif event.target.startswith(("/", "*")) and event.host:
                add_name(connection, Inner(event.at, event.host, False, False, event.event_id))
                self._compare_name(device, key, connection, event.host, event, path=event.target)
            else:
                connection.unreadable += 1
                if event.target == UNNAMED_TARGET:
                    self.learn(device, key, answered=event.status == 407)
                    connection.asked |= ends_of(key)[4] not in device.facts.proxies
        self.after_names(device, key, connection)

    def _tls(self, device: Device, event: TlsName) -> None:
        key, connection = self.locate(device, event.flow, event.at, event.started)
        if event.started and not connection.flow_started:
            self._match_by_start(device, key, connection, event.started)
        self.http_seen(device, event.at)
        if self.is_new(device, connection, event.flow, evidence_key(NAME, event.at, zlib.crc32(event.sni.encode()))):
            if event.to_proxy:
                self.learn(device, key, answered=False)
                # Where too many are known, it is a proxy for this connection only.
                connection.asked |= ends_of(key)[4] not in device.facts.proxies
            inner = Inner(event.at, event.sni, True, not event.tunnelled, event.event_id)
            if (event.sni or event.to_proxy) and add_name(connection, inner):
                if event.sni:
                    self._compare_name(device, key, connection, event.sni, event, path="")
                self.after_names(device, key, connection)
            else:
                device.touched[key] = None

    def _socks(self, device: Device, event: SocksRequest) -> None:
        key, connection = self.locate(device, event.flow, event.at, event.started)
        if event.started and not connection.flow_started:
            self._match_by_start(device, key, connection, event.started)
        self.http_seen(device, event.at)
        if not self.is_new(device, connection, event.flow, evidence_key(REQUEST, event.at, event.tx << 1 | True)):
            return
        connection.connect = connection.asked = True
        # Other ports of a SOCKS server, often the device itself, are no proxies.
        self.learn(device, key, answered=False)
        if event.host:
            flags = ASKED if event.granted is None else REACHED if event.granted else FAILED
            evidence, target = (event.at, event.event_id), authority(event.host, event.port)
            asked = add_destination(
                connection, BY_SOCKS, event.host, event.port, target, flags, evidence, None, tunnel=True
            )
            self._compare(device, connection, asked, event.host, event.port, "", event, encrypted=True)
        else:
            connection.unreadable += 1
        self.after_names(device, key, connection)

    def _mode(self, device: Device, event: ModeChanged) -> None:
        if hear(device, event):
            self.mode_known_anew(device)

    def heed_settings(self, device: Device, at: Micros) -> None:
        """What the settings say of a device's mode: since ever for a new device, from now on where they say it anew."""
        mode = self.policy.mode_of(device)
        facts = device.facts
        if (mode or "") == facts.settings_mode:
            return
        since = at if facts.settings_mode or facts.now else 0
        facts.settings_mode = mode or ""
        if mode is not None:
            self._mode(device, ModeChanged(device.name, since, mode, "", evidence=ModeEvidence.SETTINGS))

    def mode_known_anew(self, device: Device) -> None:
        """The history of the mode is another one: whatever tells of it may change."""
        self.recheck(device)
        device.loose_changed = True
        for key, state in device.alerts.items():
            state.sent = min(state.sent, max(state.version - 1, 0))
            touch(device, key)

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
        """Does an indicator match what was asked of a proxy?"""
        if connection.flow_ids:
            count_for_its_sensor(connection, asked, event.flow.id)
        matches = self.policy.match(device, host, port, url, "", event.at, encrypted=encrypted)
        late = connection.late
        if matches and asked is not None and not (late is not None and was_told(late, host, port)):
            sensor = kind_of_flow(event.flow.id)
            note_hit(asked.hits, matches, host, port, event.at, event.event_id, event.tx + 1, sensor)

    def _compare_name(
        self, device: Device, key: str, connection: Connection, host: str, event: HttpExchange | TlsName, *, path: str
    ) -> None:
        """Does an indicator match a name spoken on a connection itself? Directly, the address counts, too.

        A sensor that tells that a name was inside a tunnel has seen its CONNECT, read here or not.
        """
        tls = isinstance(event, TlsName)
        place = self.place(device, key, connection)
        proxied = place.proxied or (isinstance(event, TlsName) and event.tunnelled)
        port = (443 if tls else 80) if proxied else place.remote_port
        ip = "" if proxied else place.remote_ip
        url = "" if tls else f"http://{host}{'' if port == 80 else f':{port}'}{path.partition('?')[0]}"
        matches = self.policy.match(device, host, port, url, ip, event.at, encrypted=tls)
        if matches and connection.late is None:
            request = 0 if isinstance(event, TlsName) else event.tx + 1
            sensor = kind_of_flow(event.flow.id)
            note_hit(connection.hits, matches, host, port, event.at, event.event_id, request, sensor)

    def after_names(self, device: Device, key: str, connection: Connection) -> None:
        """Something was asked for or named on it."""
        if connection.settled:
            self.promote(device, key, connection)
        self.changed(device, key)

    def _match_by_start(self, device: Device, key: str, connection: Connection, started: Micros) -> None:
        """Match a known flow again, as its start becomes known."""
        connection.flow_started = started
        if not connection.held:
            self.join_late(device, key, connection, surely=not connection.settled)

    def locate(
        self, device: Device, flow: Flow, at: Micros, started: Micros, since: Micros = 0, until: Micros = 0
    ) -> tuple[str, Connection]:
        """The connection that a sensor's evidence belongs to, and its 5-tuple, client first.

        `started` is the flow's start, 0 where the evidence does not tell. A summary tells from when until when it was seen.
        """
        facts = device.facts
        if at < facts.sensor_first or not facts.sensor_first:
            self.see_sensor(device, at)
        key, flow_id = flow.key, flow.id
        group = device.group(key)
        if group is None:
            turned = f"{flow.remote_ip} {flow.remote_port} {flow.local_ip} {flow.local_port}"
            other = device.group(turned)
            sender = f"{flow.local_ip} {flow.local_port}"
            left = not is_departed(device, key) and is_departed(device, turned) if device.departed else False
            if other is not None or left or sender in facts.proxies or sender in self.proxies:
                key, group = turned, other
        connection = None
        if group is not None:
            for known in group:
                if known.flow_id == flow_id and (flow_id or (known.kernel is None and known.late is None)):
                    connection = known
                    break
        if connection is None and group is not None:
            connection = next((c for c in group if flow_id in c.flow_ids and (flow_id or _only_it(group, c, at))), None)
            if connection is not None:
                flow_id = connection.flow_id  # Another sensor's name of the flow.
        if connection is None:
            if group is not None:
                connection = kernel_for_flow(group, at, started, flow_id)
            if connection is None:
                connection = self.new(device, key, group, at, self.lateness)
                if device.departed or facts.forgotten_until:
                    since, until = since or at, until or at
                    gone = departed_flow(device, key, flow_id, started, since, until)
                    if gone is None and facts.forgotten_until:
                        since = started or since
                        gone = forgotten_flow(device, group or [], flow_id, since, until, self.linger)
                    if gone is not None:
                        connection.flow_id, connection.first = flow_id, min(at, facts.now)
                        self.mark_late(device, connection, gone)
                        return key, connection
            if connection.sent and flow_id and any(d.sent for d in connection.destinations):
                connection.row_name = flow_name(connection)  # Rows left without it: they keep their name.
            if flow_id and connection.first:
                told_by_another(connection)
            connection.flow_id = flow_id
            if started:
                connection.flow_started = connection.flow_started or started
        at = min(at, facts.now)  # a time far ahead is not believed
        if not connection.first or (at < connection.first and not connection.settled):
            connection.first = at
        if group is not None and len(group) > 1 and not connection.settled and not connection.held:
            connection.held = not connection.rows_left and may_have_twin(group, connection)
        return key, connection

    @staticmethod
    def is_new(device: Device, connection: Connection, flow: Flow, evidence: int) -> bool:
        """Whether this was not here before; a repeat changes nothing, so it does not keep the connection longer either."""
        if connection.flow_ids and flow.id != connection.flow_id:
            evidence ^= mark_of(flow.id)
        if not connection.is_new(evidence):
            return False
        connection.last = max(connection.last, device.facts.now)
        return True

    @staticmethod
    def _turned(key: str, flow: Flow) -> bool:
        return not key.startswith(f"{flow.local_ip} {flow.local_port} ")

    def http_seen(self, device: Device, at: Micros) -> None:
        """The device shows an HTTP-level event of that time."""
        facts = device.facts
        if (not facts.http_first or at < facts.http_first) and at >= facts.now - LEAP:
            facts.http_first = at

    def is_a_proxy(self, device: Device, key: str, connection: Connection) -> None:
        """The proxy's own log says that this connection came to it."""
        connection.asked = True
        self.learn(device, key, answered=False)

    def learn(self, device: Device, key: str, *, answered: bool) -> None:
        """Whatever is asked as a proxy is one; whatever answered as only a proxy does may be one on other ports, too.

        An origin server answers an absolute-form request (RFC 9112 section 3.2.2), so that answer proves nothing.
        """
        _, _, remote_ip, _, remote = ends_of(key)
        proxies = device.facts.proxies
        known = proxies.get(remote)
        if known is None and len(proxies) >= PROXIES_MAX:
            self.count(device, "proxies_not_learnt")
        elif known is None or (answered and not known):
            proxies[remote] = answered or bool(known)
            self.recheck(device, remote_ip)


def _only_it(group: Group, connection: Connection, at: Micros) -> bool:
    """A sensor without names for flows can mean no other connection of the 5-tuple."""
    return len(group) == 1 and (not connection.ended or at <= connection.ended + APART)
