"""Verdicts of network protection: evidence about a connection, the request with the verdict, and the device's mode."""

from __future__ import annotations

import zlib

from schemas.address import split_authority
from schemas.events import UNNAMED_TARGET, Action, ProcessVerdict, Verdict
from streams.assess.mode_history import prove
from streams.correlate.connections import ConnectionTable
from streams.correlate.device_clock import LEAP
from streams.correlate.process_verdicts import ProcessVerdicts
from streams.correlate.routes import ends_of
from streams.correlate.sensor_merge import count_for_its_sensor
from streams.model.connection import (
    AUDITED,
    BLOCKED,
    BY_VERDICT,
    BYPASSED,
    WARNED,
    Connection,
    Destination,
    ObservedName,
)
from streams.model.device import Device
from streams.model.evidence import (
    VERDICT,
    absolute_target,
    add_destination,
    add_name,
    add_verdict,
    evidence_key,
    kind_of_flow,
)

_BITS = {Action.BLOCKED: BLOCKED, Action.AUDITED: AUDITED, Action.WARNED: WARNED, Action.BYPASSED: BYPASSED}


class Verdicts:
    """Handler of verdicts."""

    def __init__(self, table: ConnectionTable, process_verdicts: ProcessVerdicts) -> None:
        self._table = table
        self._process_verdicts = process_verdicts

    def take(self, device: Device, event: Verdict) -> None:
        """Apply a verdict that names the connection; a repeat changes nothing."""
        table = self._table
        key, connection = table.locate(device, event, event.started)
        table.http_seen(device, event.at)
        self._prove_mode(device, event)
        content = f"{event.tx} {event.title} {event.host} {event.target}"
        if not table.is_new(device, connection, event, evidence_key(VERDICT, event.at, zlib.crc32(content.encode()))):
            return
        if event.started:
            connection.flow_started = min(connection.flow_started or event.started, event.started)
        bits = _BITS[event.action]
        evidence = (event.at, event.event_id)
        host, port, url, tunnel = event.host, 0, "", False
        if event.target == UNNAMED_TARGET:
            table.learn(device, key, answered=False)
            connection.asked |= ends_of(key)[4] not in device.state.proxies
            connection.unreadable += 1
            connection.name_flags |= bits
            port = event.port
        elif event.method == "CONNECT":
            connection.connect = connection.asked = tunnel = True
            table.learn(device, key, answered=False)
            host, port = split_authority(event.target, 0)
            url = f"{host}:{port}"
            if host:
                again = _was_stopped(connection, event, host)
                asked = add_destination(
                    connection, BY_VERDICT, host, port, url, bits, evidence, event.status, tunnel=True
                )
                _count_once(connection, asked, event, again=again)
            else:
                connection.name_flags |= bits
        elif event.method:
            named, port, url = absolute_target(event.target)
            host = named or host
            if named:
                connection.asked = True
                table.learn(device, key, answered=False)
                again = _was_stopped(connection, event, named)
                asked = add_destination(
                    connection, BY_VERDICT, named, port, url, bits, evidence, event.status, tunnel=False
                )
                _count_once(connection, asked, event, again=again)
            else:
                connection.name_flags |= bits
                add_name(connection, ObservedName(event.at, host, False, False, event.event_id, True))
        else:
            tunnel = True
            connection.name_flags |= bits
            add_name(connection, ObservedName(event.at, host, True, False, event.event_id, True))
        candidates = table.policy.match(
            device, host, port or event.flow.remote_port, "" if tunnel else url, "", event.at, encrypted=tunnel
        )
        add_verdict(connection, event, host, port, url, tunnel, bits, candidates)
        table.after_names(device, key, connection)
        if event.started and not connection.held:
            table.join_late(device, key, connection, surely=not connection.decided)

    def take_of_process(self, device: Device, event: ProcessVerdict) -> None:
        """Apply a verdict that names a process and a destination but no connection."""
        self._table.http_seen(device, event.at)
        self._prove_mode(device, event)
        self._process_verdicts.take(device, event, _BITS[event.action])

    def _prove_mode(self, device: Device, event: Verdict | ProcessVerdict) -> None:
        if event.at >= device.state.event_time - LEAP and prove(device, event.at, event.action, event.event_id):
            self._table.mode_history_changed(device)


def _was_stopped(connection: Connection, event: Verdict, host: str) -> bool:
    """Return whether a previous verdict of the same sensor, by another rule, stopped the same request."""
    sensor = kind_of_flow(event)
    return any(
        (verdict.request, verdict.host, verdict.sensor) == (event.tx + 1, host, sensor)
        and verdict.flags & (BLOCKED | WARNED)
        for verdict in connection.verdicts
    )


def _count_once(connection: Connection, asked: Destination | None, event: Verdict, *, again: bool) -> None:
    """Count a stopped request once, with its first verdict, for the sensor of that verdict.

    A stopped request has no record of its own.
    """
    if asked is None or event.action not in (Action.BLOCKED, Action.WARNED):
        return
    if again:
        asked.requests -= 1
    elif connection.flow_ids:
        count_for_its_sensor(connection, asked, event)
