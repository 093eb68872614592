"""The forwarder process, and the sample alert that tests a receiver."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from common.group_watch import Watch
from common.health import Looks
from schemas.clock import MICROS, iso_micros
from schemas.events import ProtectionMode
from schemas.indicators import Severity
from schemas.settings import ForwardSettings, Settings
from schemas.tables import Alert, AlertKind, Confidence, Outcome
from sinks.forward.alert import ForwardedAlert
from sinks.forward.loop import Forwarder
from sinks.forward.metrics import STANDING_SECS_MAX, served_pages
from sinks.forward.syslog import Syslog
from sinks.forward.target import Reply, Target
from sinks.forward.webhook import Webhook

log = logging.getLogger(__name__)


def run(settings: Settings, stop: threading.Event, started: Callable[[Forwarder], None] = lambda _: None) -> None:
    """Send alerts to the target of these settings until `stop` is set. Raises SettingsError and SinkRefused.

    `started` is called with the forwarder before it runs, so that another thread can read its counters.
    """
    target = open_target(settings.forward)
    try:
        forwarder = Forwarder(settings, target)
        looks = Looks(silent_since=time.monotonic())
        watch = Watch(settings.kafka, settings.forward.group, [forwarder.topic], looks, forwarder, STANDING_SECS_MAX)
        with served_pages(settings.forward, forwarder, looks):
            watch.start()
            try:
                started(forwarder)
                log.info("forwarding alerts", extra={"target": target.name, "group": settings.forward.group})
                forwarder.run(stop)
            finally:
                watch.stop()
    finally:
        target.close()


def try_out(settings: ForwardSettings, now: float) -> tuple[str, Reply]:
    """Send the sample alert once; return the target's name and its answer. Raises SettingsError.

    `now` is the time of the alert, in seconds since 1970.
    """
    target = open_target(settings)
    try:
        alert = sample(round(now * MICROS))
        raw = msgspec.json.encode(alert)
        return target.name, target.send(raw, msgspec.json.decode(raw, type=ForwardedAlert))
    finally:
        target.close()


def open_target(settings: ForwardSettings) -> Target:
    """Return the receiver that the settings name. Raises SettingsError."""
    if settings.target == "syslog":
        return Syslog(settings)
    webhook = Webhook(settings)
    if not webhook.signs:
        log.warning("alerts are not signed; set forward.secret_file", extra={"target": webhook.name})
    return webhook


def sample(at: int) -> Alert:
    """Return an alert that is marked as a test; `at` is its time, in microseconds since 1970."""
    when = iso_micros(at)
    return Alert(
        AlertId=f"test-{at}",
        Version=1,
        Kind=AlertKind.BLOCKED,
        Severity=Severity.INFORMATIONAL,
        DeviceId="unproxy-test",
        DeviceName="unproxy-test",
        DestinationDomain="unproxy.test",
        DestinationHosts=["www.unproxy.test"],
        DestinationPort=443,
        Count=1,
        FirstTime=when,
        LastTime=when,
        Outcome=Outcome.BLOCKED,
        ProtectionMode=ProtectionMode.BLOCK,
        InitiatingProcessFileName="unproxy",
        InitiatingProcessId=None,
        InitiatingProcessFolderPath="",
        InitiatingProcessCommandLine="unproxy forward --test",
        InitiatingProcessSHA256="",
        InitiatingProcessAccountName="",
        ProxyIP="",
        ProxyPort=None,
        ProxyName="",
        Title="This is a test",
        Category="",
        Confidence=Confidence.EXACT,
        IndicatorId="",
        IndicatorValue="",
        IndicatorAction="",
        IndicatorMatch="",
        RecommendedAction="Nothing: this is a test of the delivery of alerts",
        Techniques=[],
        EvidenceIds=[],
        SuppressedBy="",
        SuppressedReason="",
        SuppressedUntil=None,
        Query="",
    )
