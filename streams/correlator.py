"""The correlator: events of one device in, knowledge of its connections out. Pure: time comes inside the events.

Why these rules settle a connection
-----------------------------------
A connection to a proxy says nothing of where it really goes. The HTTP-level events of the same flow do: CONNECT names the
end of a tunnel, an absolute URI the host of one request, a verdict the request that it stopped, and inside a tunnel SNI or
Host speak (`docs/design.md`, section 4). A flow is told by its 5-tuple and the sensor's flow id; the kernel's record of it,
which alone knows the process, by 5-tuple and time (`streams.matching`).

- A destination row leaves as soon as CONNECT, an absolute URI or a verdict names it.
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
from functools import lru_cache
from typing import Any

from schemas.address import split_authority
from schemas.clock import MICROS
from schemas.events import (
    Action,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Flow,
    HttpExchange,
    Micros,
    ModeChanged,
    ProtectionMode,
    TlsName,
    Verdict,
)
from schemas.settings import CorrelationSettings, proxy_address
from streams.matching import better_kernel, flow_for_kernel, kernel_for_flow, only_kernel_left, wrongly_matched
from streams.rows import Place, speaks_tls_to_proxy
from streams.state import (
    ASKED,
    AUDITED,
    BLOCKED,
    BY_CONNECT,
    BY_HOST,
    BY_SNI,
    BY_URI,
    BY_VERDICT,
    DESTINATIONS_MAX,
    EVENT_IDS_MAX,
    FAILED,
    INNER_MAX,
    JUDGED_MAX,
    PROXIES_MAX,
    REACHED,
    Connection,
    Destination,
    Device,
    Group,
    Inner,
    Judged,
    Kernel,
)

LEAP: Micros = 3_600 * MICROS
"""A time further away than this needs a second event that agrees before the device's clock follows."""
URL_LENGTH_MAX = 256
REST_SECS = 16
SCHEME_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}


SUMMARY, REQUEST, NAME, JUDGEMENT = range(4)


def evidence_key(kind: int, at: Micros, more: int = 0) -> int:
    """A piece of evidence as a number: the same content, the same number, in every process."""
    return at << 10 | (more & 255) << 2 | kind


def absolute_target(target: str) -> tuple[str, int, str]:
    """Host, port and URL without query of an absolute-form target (RFC 9112 section 3.2.2); ("", 0, "") for another form."""
    scheme, mark, rest = target.partition("://")
    default_port = SCHEME_PORTS.get(scheme.lower(), 0) if mark else 0
    if not default_port:
        return "", 0, ""
    authority = rest.partition("/")[0]
    if "?" in authority or "#" in authority:
        authority = authority.partition("?")[0].partition("#")[0]
    host, port = split_authority(authority, default_port)
    return host, port, target.partition("?")[0][:URL_LENGTH_MAX]


def flags_of_status(status: int | None, *, connect: bool) -> int:
    """What an answer says: a proxy's refusal (403, 407, 5xx) is no success, and no answer is none."""
    if status is None:
        return ASKED
    if connect:
        return REACHED if 200 <= status < 300 else FAILED
    if status in (400, 408):
        return ASKED
    return FAILED if status in (403, 407) or status >= 500 else REACHED


@lru_cache(maxsize=16_384)
def _ends(key: str) -> tuple[str, int, str, int, str]:
    """A 5-tuple's parts, and its remote end as settings and facts spell it."""
    local_ip, local_port, remote_ip, remote_port = key.split(" ")
    return local_ip, int(local_port), remote_ip, int(remote_port), f"{remote_ip} {remote_port}"


def _rest_until(until: Micros) -> int:
    """The second at which a settled connection is looked at again: rounded up, so that many share one timer."""
    return -(-until // (REST_SECS * MICROS)) * REST_SECS


def _nothing(_device: Device, _key: str) -> None:
    """What happens before connections leave when nobody asked to be told."""


class Correlator:
    """Takes events of devices, and fires their timers. Rows are read off the devices by `streams.emitter`."""

    def __init__(self, settings: CorrelationSettings) -> None:
        self.lateness = int(settings.lateness_secs * MICROS)
        self.patience = int(settings.patience_secs * MICROS)
        self.linger = int(settings.linger_secs * MICROS)
        self.idle = int(settings.idle_secs * MICROS)
        self.connections_max = settings.connections_max
        self.proxies: dict[str, str] = {}
        for entry in settings.proxies:
            ip, port, name = proxy_address(entry)
            self.proxies[f"{ip} {port}"] = name
        self.denied = {f"{ip} {port}" for ip, port, _ in map(proxy_address, settings.not_proxies)}
        self.before_leaving: Callable[[Device, str], None] = _nothing
        """Called before connections of a 5-tuple leave the state: the last chance for their rows."""
        self.handlers: dict[type, Callable[[Device, Any], None]] = {
            ConnectionOpened: self._opened,
            ConnectionClosed: self._closed,
            HttpExchange: self._http,
            TlsName: self._tls,
            Verdict: self._verdict,
            ModeChanged: self._mode,
        }

    def take(self, device: Device, event: Event) -> None:
        """Take one event in. Timers that are due before it fire first."""
        self.see_time(device, event.at)
        self.handlers[event.__class__](device, event)

    def see_time(self, device: Device, at: Micros) -> None:
        """Move the device's clock to an event's time.

        An hour or more away, ahead or behind, takes a second event that agrees: one broken time moves nothing, a clock that
        was set right is followed.
        """
        facts = device.facts
        if facts.now and abs(at - facts.now) > LEAP:
            if not facts.leap or abs(at - facts.leap) > LEAP:
                facts.leap = at
                return
            facts.now = at
        elif at > facts.now:
            facts.now = at
        facts.leap = 0
        if facts.now // MICROS >= device.next_due:
            self._fire(device, facts.now // MICROS)

    @staticmethod
    def see_sensor(device: Device, at: Micros) -> None:
        """Note since when a network sensor speaks for the device."""
        if not device.facts.sensor_first or at < device.facts.sensor_first:
            device.facts.sensor_first = at

    def move_on(self, device: Device, by: Micros) -> None:
        """Let time pass on a quiet device."""
        if device.facts.now and by > 0:
            device.facts.now += by
            if device.facts.now // MICROS >= device.next_due:
                self._fire(device, device.facts.now // MICROS)

    def finish(self, device: Device) -> None:
        """Settle everything that waits, as at the end of a recording."""
        for key in list(device.groups):
            for connection in list(device.group(key) or ()):
                if not connection.settled:
                    self._settle(device, key, connection)

    def place(self, device: Device, key: str, connection: Connection) -> Place:
        """Where a connection goes and what it is taken for."""
        local_ip, local_port, remote_ip, remote_port, remote = _ends(key)
        name = self.proxies.get(remote)
        proxies = device.facts.proxies
        learnt = name is None and (
            remote in proxies
            or (bool(proxies) and self._speaks_as_proxy(device, remote_ip) and speaks_tls_to_proxy(connection))
        )
        proxied = (connection.asked or name is not None or learnt) and remote not in self.denied
        return Place(device.name, key, local_ip, local_port, remote_ip, remote_port, proxied, name or "", learnt)

    # Evidence

    def _opened(self, device: Device, event: ConnectionOpened) -> None:
        device.facts.kernel_seen = True
        key = event.flow.key
        group = device.group(key)
        kernel = Kernel(event.started, event.established, event.ended, event.failed, event.process, event.event_id)
        if group is None:
            connection = self._new(device, key, None, event.started + self.patience)
        else:
            for known in group:
                if known.kernel is not None and known.kernel.started == event.started:
                    self._merge_kernel(device, key, known, event)
                    return
            better = wrongly_matched(group, kernel)
            if better is not None:
                connection = self._new(device, key, group, event.started + self.patience)
                connection.kernel, connection.last = kernel, max(event.at, event.ended)
                self._swap(device, key, connection, better)
                return
            connection = flow_for_kernel(group, kernel) or self._new(device, key, group, event.started + self.patience)
        connection.kernel = kernel
        connection.last = max(connection.last, event.at, event.ended)
        self._changed(device, key)
        if kernel.ended:
            self._ended(device, key, connection)

    def _merge_kernel(self, device: Device, key: str, connection: Connection, event: ConnectionOpened) -> None:
        kernel = connection.kernel
        assert kernel is not None, "only called for a connection with a kernel record"
        merged = Kernel(
            kernel.started,
            max(kernel.established, event.established),
            max(kernel.ended, event.ended),
            kernel.failed or event.failed,
            kernel.process if kernel.process.name else event.process,
            kernel.event_id,
        )
        if merged != kernel:
            connection.kernel = merged
            connection.last = max(connection.last, event.at, event.ended)
            self._changed(device, key)
            self._ended(device, key, connection)

    def _closed(self, device: Device, event: ConnectionClosed) -> None:
        key, connection = self._locate(device, event.flow, event.at, 0 if event.midstream else event.started)
        if not connection.is_new(evidence_key(SUMMARY, event.at)):
            return
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
        self._join_late(device, key, connection, surely=not connection.settled)
        self._ended(device, key, connection)
        self._changed(device, key)

    def _http(self, device: Device, event: HttpExchange) -> None:
        key, connection = self._locate(device, event.flow, event.at, 0)
        self._http_seen(device, event.at)
        tunnel = event.method == "CONNECT"
        if not connection.is_new(evidence_key(REQUEST, event.at, event.tx << 1 | tunnel)):
            return
        evidence = (event.at, event.event_id)
        if tunnel:
            connection.connect = connection.asked = True
            host, port = split_authority(event.target, 0)
            flags = flags_of_status(event.status, connect=True)
            answered = flags == REACHED or event.status == 407
            if device.facts.proxies.get(_ends(key)[4]) is not True:
                self._learn(device, event.flow, answered=answered)
            if host:
                self._destination(connection, BY_CONNECT, host, port, f"{host}:{port}", flags, evidence, event.status)
            else:
                connection.unreadable += 1
        else:
            host, port, url = absolute_target(event.target)
            if host == event.flow.remote_ip and port == event.flow.remote_port:
                self._inner(connection, Inner(event.at, host, False, False, event.event_id))
            elif host:
                connection.asked = True
                flags = flags_of_status(event.status, connect=False)
                self._learn(device, event.flow, answered=event.status == 407)
                self._destination(connection, BY_URI, host, port, url, flags, evidence, event.status)
            elif event.target.startswith(("/", "*")) and event.host:
                self._inner(connection, Inner(event.at, event.host, False, False, event.event_id))
            else:
                connection.unreadable += 1
        self._after_names(device, key, connection)

    def _tls(self, device: Device, event: TlsName) -> None:
        key, connection = self._locate(device, event.flow, event.at, 0)
        self._http_seen(device, event.at)
        if connection.is_new(evidence_key(NAME, event.at)):
            self._inner(connection, Inner(event.at, event.sni, True, not event.tunnelled, event.event_id))
            self._after_names(device, key, connection)

    def _verdict(self, device: Device, event: Verdict) -> None:
        key, connection = self._locate(device, event.flow, event.at, event.started)
        self._http_seen(device, event.at)
        self._mode_from(device, event.at, event.action)
        if not connection.is_new(evidence_key(JUDGEMENT, event.at, zlib.crc32(f"{event.tx} {event.title}".encode()))):
            return
        if event.started:
            connection.flow_started = min(connection.flow_started or event.started, event.started)
            self._join_late(device, key, connection, surely=True)
        bits = BLOCKED if event.action is Action.BLOCKED else AUDITED
        evidence = (event.at, event.event_id)
        host, port, url, tunnel = event.host, 0, "", False
        if event.method == "CONNECT":
            connection.connect = connection.asked = tunnel = True
            self._learn(device, event.flow, answered=False)
            host, port = split_authority(event.target, 0)
            url = f"{host}:{port}"
            if host:
                self._destination(connection, BY_VERDICT, host, port, url, bits, evidence, event.status)
            else:
                connection.inner_flags |= bits
        elif event.method:
            named, port, url = absolute_target(event.target)
            host = named or host
            if named:
                connection.asked = True
                self._learn(device, event.flow, answered=False)
                self._destination(connection, BY_VERDICT, named, port, url, bits, evidence, event.status)
            else:
                connection.inner_flags |= bits
                self._inner(connection, Inner(event.at, host, False, False, event.event_id, True))
        else:
            tunnel = True
            connection.inner_flags |= bits
            self._inner(connection, Inner(event.at, host, True, False, event.event_id, True))
        self._judge(connection, event, host, port, url, tunnel, bits)
        self._after_names(device, key, connection)

    def _mode(self, device: Device, event: ModeChanged) -> None:
        if event.mode is not ProtectionMode.OFF:
            self._mode_from(device, event.at, Action.BLOCKED if event.mode is ProtectionMode.BLOCK else Action.AUDITED)

    # What evidence does to a connection

    def _destination(
        self,
        connection: Connection,
        by: int,
        host: str,
        port: int,
        url: str,
        flags: int,
        evidence: tuple[Micros, str],
        status: int | None,
    ) -> None:
        for found in connection.destinations:
            if found.port == port and found.host == host:
                break
        else:
            if len(connection.destinations) >= DESTINATIONS_MAX:
                connection.unreadable += 1
                return
            found = Destination(host, port, by, evidence[0], url)
            connection.destinations.append(found)
        found.superseded = False
        found.by = min(found.by, by)
        if (evidence[0], url) < (found.first, found.url):
            found.first, found.url = evidence[0], url
        found.flags |= flags
        found.evidence += 1
        found.requests += by != BY_VERDICT or flags == BLOCKED
        if status is not None and (evidence[0], status) > (found.status_at, found.status):
            found.status_at, found.status = evidence[0], status
        ids = found.event_ids
        if not ids:
            ids.append(evidence)
        elif len(ids) < EVENT_IDS_MAX or evidence < ids[-1]:
            ids.append(evidence)
            ids.sort()
            del ids[EVENT_IDS_MAX:]
        if by == BY_CONNECT and connection.inner:
            connection.inner = [i for i in connection.inner if i.name != host]

    def _inner(self, connection: Connection, inner: Inner) -> None:
        if not inner.name or any(d.host == inner.name and d.by == BY_CONNECT for d in connection.destinations):
            return
        for known in connection.inner:
            if known.name == inner.name and known.tls == inner.tls:
                known.at, known.event_id = min((known.at, known.event_id), (inner.at, inner.event_id))
                known.judged |= inner.judged
                known.outer |= inner.outer
                return
        if len(connection.inner) < INNER_MAX:
            connection.inner.append(inner)

    def _judge(
        self, connection: Connection, event: Verdict, host: str, port: int, url: str, tunnel: bool, bits: int
    ) -> None:
        request = event.tx + 1 if event.method else 0
        for judged in connection.judged:
            if judged.request == request and judged.tunnel == tunnel and judged.host == host:
                break
        else:
            judged = Judged(event.at, host, port, request, tunnel, 0, url, event.title, event.category, event.event_id)
            if tunnel and request:
                self._take_over(connection, judged)
            if len(connection.judged) >= JUDGED_MAX:
                del connection.judged[0]
            connection.judged.append(judged)
        judged.flags |= bits
        judged.evidence += 1
        judged.last = max(judged.last, event.at)
        if (event.at, event.event_id, event.title) < (judged.at, judged.event_id, judged.title):
            judged.at, judged.event_id = event.at, event.event_id
            judged.title, judged.category = event.title, event.category

    @staticmethod
    def _take_over(connection: Connection, tunnel: Judged) -> None:
        """The first CONNECT of a tunnel stands for the server name inside it, which may have been counted before."""
        if any(j.tunnel and j.request for j in connection.judged):
            return
        for name in connection.judged:
            if name.tunnel:
                tunnel.sent, tunnel.counted, tunnel.folded, tunnel.named = (
                    name.sent,
                    name.counted,
                    name.folded,
                    name.named,
                )
                name.sent = name.counted = name.folded = 0

    def _after_names(self, device: Device, key: str, connection: Connection) -> None:
        if connection.settled:
            self._promote(device, key, connection)
        self._changed(device, key)

    def _promote(self, device: Device, key: str, connection: Connection) -> None:
        """Take a weaker name for the destination where no better one came; take it back where one did."""
        best = min((d.by for d in connection.destinations), default=0)
        if best and best <= BY_VERDICT:
            for weak in connection.destinations:
                if weak.by > BY_VERDICT and not weak.superseded:
                    weak.superseded = True
                    weak.evidence += 1
            return
        if connection.destinations or not connection.inner:
            return
        place = self.place(device, key, connection)
        if not place.proxied or speaks_tls_to_proxy(connection):
            return
        inside = sorted((not i.tls, i.at, i.name, i.event_id, i.judged) for i in connection.inner if i.name)
        for not_tls, at, name, event_id, judged in inside[:1]:
            if not_tls and (connection.connect or name in (place.remote_ip, place.proxy_name)):
                return
            by = BY_VERDICT if judged else BY_HOST if not_tls else BY_SNI
            port = 80 if not_tls else 443
            self._destination(
                connection, by, name, port, f"{name}:{port}", ASKED if not_tls else REACHED, (at, event_id), None
            )

    # Finding the connection

    def _locate(self, device: Device, flow: Flow, at: Micros, started: Micros) -> tuple[str, Connection]:
        """The connection that a sensor's evidence belongs to, and its 5-tuple, client first."""
        facts = device.facts
        if at < facts.sensor_first or not facts.sensor_first:
            facts.sensor_first = at
        key, flow_id = flow.key, flow.id
        group = device.group(key)
        if group is None:
            turned = f"{flow.remote_ip} {flow.remote_port} {flow.local_ip} {flow.local_port}"
            other = device.group(turned)
            sender = f"{flow.local_ip} {flow.local_port}"
            if other is not None or sender in facts.proxies or sender in self.proxies:
                key, group = turned, other
        connection = None
        if group is not None:
            for known in group:
                if known.flow_id == flow_id and (flow_id or known.kernel is None):
                    connection = known
                    break
        if connection is None:
            if group is not None:
                connection = kernel_for_flow(group, at, started)
            if connection is None:
                connection = self._new(device, key, group, at + self.lateness)
            connection.flow_id = flow_id
        if not connection.first or at < connection.first:
            connection.first = at
        if at > connection.last:
            connection.last = at
        return key, connection

    @staticmethod
    def _turned(key: str, flow: Flow) -> bool:
        return not key.startswith(f"{flow.local_ip} {flow.local_port} ")

    def _new(self, device: Device, key: str, group: Group | None, due: Micros) -> Connection:
        connection = Connection()
        if group is None:
            if len(device.groups) >= self.connections_max:
                self._leave(device, next(iter(device.groups)), "left:too_many")
            device.groups[key] = [connection]
        else:
            group.append(connection)
        connection.due = -(-due // MICROS)
        device.wake_at(connection.due, key)
        self._count(device, "connections")
        return connection

    def _swap(self, device: Device, key: str, one: Connection, other: Connection) -> None:
        one.swap_flow(other)
        for connection in (one, other):
            self._ended(device, key, connection)
        self._changed(device, key)

    def _join_late(self, device: Device, key: str, connection: Connection, *, surely: bool = False) -> None:
        """A flow that found no kernel record at first, or the wrong one, may know better now (rules 1 and 3)."""
        group = device.group(key)
        if not group or len(group) < 2:
            return
        if connection.kernel is not None:
            better = better_kernel(group, connection)
            if better is not None:
                self._swap(device, key, connection, better)
            return
        if surely:
            other = (
                kernel_for_flow(group, connection.first, connection.flow_started) if connection.flow_started else None
            )
        else:
            other = only_kernel_left(group, connection)
        if other is None or (other.sent and connection.sent):
            return
        connection.kernel = other.kernel
        if other.sent:
            connection.sent, connection.identity = other.sent, other.identity
            connection.bump, connection.moved = other.bump, True
        connection.settled |= other.settled
        connection.last = max(connection.last, other.last)
        group.remove(other)
        self._count(device, "connections", -1)
        if other.booked:
            self._count(device, other.booked, -1)
        self._changed(device, key)

    # Facts of the device

    def _http_seen(self, device: Device, at: Micros) -> None:
        facts = device.facts
        if not facts.http_first or at < facts.http_first:
            facts.http_first = at

    def _mode_from(self, device: Device, at: Micros, action: Action) -> None:
        facts = device.facts
        known = facts.block_from if action is Action.BLOCKED else facts.audit_from
        if known and known <= at:
            return
        if action is Action.BLOCKED:
            facts.block_from = at
        else:
            facts.audit_from = at
        self._recheck(device)
        device.dirty_alerts.update(dict.fromkeys(device.alerts))

    def _learn(self, device: Device, flow: Flow, *, answered: bool) -> None:
        """Whatever is asked as a proxy is one; whatever answered as only a proxy does may be one on other ports, too.

        An origin server answers an absolute-form request (RFC 9112 section 3.2.2), so that answer proves nothing.
        """
        remote = f"{flow.remote_ip} {flow.remote_port}"
        proxies = device.facts.proxies
        known = proxies.get(remote)
        if known is None and len(proxies) >= PROXIES_MAX:
            self._count(device, "proxies_not_learnt")
        elif known is None or (answered and not known):
            proxies[remote] = answered or bool(known)
            self._recheck(device, flow.remote_ip)

    def _speaks_as_proxy(self, device: Device, ip: str) -> bool:
        return any(answered and remote.startswith(f"{ip} ") for remote, answered in device.facts.proxies.items())

    def _recheck(self, device: Device, remote_ip: str = "") -> None:
        """A fact changed: the rows of live connections may, too. Rare, so a walk over all is cheap enough."""
        for key in list(device.groups):
            if not remote_ip or _ends(key)[2] == remote_ip:
                self._changed(device, key)

    # Time

    def _ended(self, device: Device, key: str, connection: Connection) -> None:
        """Once the end is known, the idle timer is too far away."""
        due = _rest_until(max(connection.last, connection.ended) + self.linger)
        if connection.settled and connection.ended and due < connection.due:
            connection.due = due
            device.wake_at(due, key)

    def _fire(self, device: Device, second: int) -> None:
        while (due := device.due_until(second)) is not None:
            for key in due[1]:
                if key in device.groups:
                    self._wake(device, key, due[0])

    def _wake(self, device: Device, key: str, second: int) -> None:
        group = device.group(key)
        assert group, "a group is never empty"
        now = second * MICROS
        for connection in list(group):
            if connection.due > second or connection not in group:
                continue
            if not connection.settled:
                waits_until = connection.first + self.patience
                waits = not connection.live or device.facts.kernel_seen
                if connection.kernel is None and waits and now < waits_until:
                    self._sleep(device, key, connection, waits_until)
                    continue
                self._settle(device, key, connection)
                if connection not in group:
                    continue  # it was the other half of a flow
            rests_until = max(connection.last, connection.ended) + (self.linger if connection.ended else self.idle)
            if now >= rests_until:
                self.before_leaving(device, key)
                group.remove(connection)
                self._count(device, "left:ended" if connection.ended else "left:idle")
            else:
                connection.due = _rest_until(rests_until)
                device.wake_at(connection.due, key)
        if not group:
            del device.groups[key]
        elif key not in device.dirty:
            device.rest(key)
        device.touched[key] = None

    def _sleep(self, device: Device, key: str, connection: Connection, until: Micros) -> None:
        connection.due = -(-until // MICROS)
        device.wake_at(connection.due, key)

    def _settle(self, device: Device, key: str, connection: Connection) -> None:
        connection.settled = True
        for flow in list(device.group(key) or ()):
            if flow is connection or (connection.kernel is not None and flow.kernel is None):
                self._join_late(device, key, flow)
        for left in device.group(key) or ():
            if left.settled:
                self._promote(device, key, left)
        self._changed(device, key)

    def _leave(self, device: Device, key: str, why: str) -> None:
        for connection in list(device.group(key) or ()):
            if not connection.settled:
                self._settle(device, key, connection)
        self.before_leaving(device, key)
        self._count(device, why, len(device.group(key) or ()))
        del device.groups[key]
        device.touched[key] = None

    def _changed(self, device: Device, key: str) -> None:
        device.dirty[key] = None
        device.touched[key] = None

    @staticmethod
    def _count(device: Device, what: str, by: int = 1) -> None:
        counts = device.facts.counts
        counts[what] = counts.get(what, 0) + by
