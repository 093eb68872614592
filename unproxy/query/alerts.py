"""Alerts: a query of the table, a subscription to the topic, and alerts as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from common.throttle import Throttle
from unproxy.output import printable
from unproxy.query.client import OF_DEVICE, TIME, Client
from unproxy.query.screen import COLORS
from unproxy.query.times import readable

if TYPE_CHECKING:
    from schemas.settings import Settings

POLL_SECS = 0.2
NOTIFY_SECS = 10.0
HOSTS_SHOWN = 5
HOST_ONLY = "host_only"
COUNTS_CONNECTIONS = ("unconfirmed_proxy", "proxy_bypass")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of alerts; an empty field selects all."""

    device: str = ""
    kind: str = ""
    severities: tuple[str, ...] = ()
    suppressed: bool | None = None
    since: str = ""
    """Only alerts whose latest request is at this time, in the format of rows, or later."""
    until: str = ""
    """Only alerts whose first request is before this time, in the format of rows."""
    domain: str = ""
    """Only alerts about this name, names below it, or this address."""
    indicator: str = ""
    """Only alerts of the indicator with this ID or this value."""

    def has(self, alert: Row) -> bool:
        """Return whether an alert is selected."""
        named = alert.get("DeviceId"), alert.get("DeviceName")
        return (
            (not self.device or not {self.device, self.device.lower()}.isdisjoint(named))
            and (not self.kind or alert.get("Kind") == self.kind)
            and (not self.severities or alert.get("Severity") in self.severities)
            and (self.suppressed is None or bool(alert.get("SuppressedBy")) is self.suppressed)
            and (not self.since or alert["LastTime"] >= self.since)
            and (not self.until or alert["FirstTime"] < self.until)
            and (not self.domain or any(map(self._below, (alert["DestinationDomain"], *alert["DestinationHosts"]))))
            and (not self.indicator or self.indicator in (alert.get("IndicatorId"), alert.get("IndicatorValue")))
        )

    def _below(self, name: str) -> bool:
        return name == self.domain or name.endswith(f".{self.domain}")


_BELOW = "({name} = {{domain:String}} OR endsWith({name}, concat('.', {{domain:String}})))"
_CONDITIONS = {
    "device": OF_DEVICE,
    "kind": "Kind = {kind:String}",
    "severities": "has(splitByChar(' ', {severities:String}), Severity)",
    "since": f"LastTime >= {TIME % 'since'}",
    "until": f"FirstTime < {TIME % 'until'}",
    "domain": f"({_BELOW.format(name='DestinationDomain')} OR "
    f"arrayExists(name -> {_BELOW.format(name='name')}, DestinationHosts))",
    "indicator": "(IndicatorId = {indicator:String} OR IndicatorValue = {indicator:String})",
}
"""SQL conditions of the fields of `Wanted` that are parameters of the query."""


def stored(client: Client, wanted: Wanted, limit: int) -> Sequence[Row]:
    """Return the `limit` latest selected alerts of the table, in time order, without withdrawn ones."""
    asked = {name: getattr(wanted, name) for name in _CONDITIONS} | {"severities": " ".join(wanted.severities)}
    conditions = ["Count > 0", *(condition for name, condition in _CONDITIONS.items() if asked[name])]
    if wanted.suppressed is not None:
        conditions.append(f"SuppressedBy {'!=' if wanted.suppressed else '='} ''")
    return client.rows(
        f"SELECT * FROM (SELECT * FROM BlockAlerts WHERE {' AND '.join(conditions)} "
        "ORDER BY LastTime DESC, AlertId LIMIT {limit:UInt64}) ORDER BY LastTime, AlertId",
        {**asked, "limit": limit},
    )


def followed(
    settings: Settings, wanted: Wanted, from_start: bool, notify: Callable[[str], None]
) -> Iterator[Row | None]:
    """Yield each change of a selected alert as it is published, and None at intervals, so that the caller can end.

    With `from_start`, the alerts that are on the topic already come first. While Kafka is unreachable, the function
    waits, and calls `notify` at a limited rate. Raises Fixable if the topic does not exist.
    """
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition

    from schemas.topics import BLOCK_ALERTS, topic_name
    from unproxy.errors import KafkaAway
    from unproxy.kafka.cluster import kafka_client_config, partitions_of

    topic = topic_name(settings, BLOCK_ALERTS)
    start = OFFSET_BEGINNING if from_start else OFFSET_END
    bootstrap = settings.kafka.bootstrap
    throttle = Throttle(NOTIFY_SECS)

    def notify_seldom(message: str) -> None:
        if throttle.due():
            notify(message)

    def on_error(error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            notify_seldom(f"{bootstrap}: Kafka went away ({error.str()}); waiting for it to come back")

    partitions: list[int] = []
    while not partitions:
        try:
            partitions = partitions_of(settings, topic, secs_max=0)
        except KafkaAway as error:
            notify_seldom(f"waiting for Kafka: {error}")
            yield None
    # The client requires a group. No offset is committed in it, and each caller reads all partitions.
    consumer = Consumer(
        {
            **kafka_client_config(settings),
            "group.id": "unproxy-alerts",
            "enable.auto.commit": False,
            "error_cb": on_error,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition in partitions])
        while True:
            message = consumer.poll(POLL_SECS)
            if message is None or message.error():
                yield None
                continue
            alert = json.loads(message.value() or b"{}")
            if wanted.has(alert):
                yield alert
    finally:
        consumer.close()


def destination(alert: Row) -> str:
    """Return the destination of an alert, with the proxy, unless the alert is about the proxy itself."""
    domain, hosts, proxy = alert["DestinationDomain"], alert["DestinationHosts"][:HOSTS_SHOWN], alert["ProxyIP"]
    asked = f" ({', '.join(hosts)})" if hosts and hosts != [domain] else ""
    return f"{domain}{asked}" + (f" through {proxy}" if proxy and proxy != domain else "")


def line(alert: Row, *, color: bool = False) -> str:
    """Return an alert as one line, everything escaped; with `color` the severity has the color of a terminal."""
    process = alert["InitiatingProcessFileName"] or "unknown process"
    pid = f" ({alert['InitiatingProcessId']})" if alert["InitiatingProcessId"] is not None else ""
    severity = alert.get("Severity", "")
    head = f"{readable(alert['LastTime'])}  {alert['Kind']:12}"
    parts = [
        alert["DeviceName"],
        f"{process}{pid}",
        destination(alert),
        counted(alert),
        outcome(alert),
        indicator(alert),
        alert["Title"],
        suppression(alert),
        f"[{alert['AlertId'][:12]}]",
    ]
    shown = printable(f"{severity:6}")
    if color and severity in COLORS:
        shown = typer.style(shown, fg=COLORS[severity])
    return "  ".join([printable(head), shown, printable("  ".join(part for part in parts if part))])


def counted(alert: Row) -> str:
    """Return the number of an alert's requests as text; of its connections, if it is about a route; or "withdrawn"."""
    count, what = alert["Count"], "connection" if alert["Kind"] in COUNTS_CONNECTIONS else "request"
    return f"{count:,} {what}{'' if count == 1 else 's'}" if count else "withdrawn"


def outcome(alert: Row) -> str:
    """Return the outcome of the latest request and the protection mode; "" for alerts of older versions without them."""
    return f"{alert['Outcome']}, mode {alert['ProtectionMode']}" if alert.get("Outcome") else ""


def indicator(alert: Row) -> str:
    """Return the indicator of an alert as text; "" if it has none."""
    if not alert.get("IndicatorId"):
        return ""
    partly = " (only its host is seen)" if alert["IndicatorMatch"] == HOST_ONLY else ""
    return f"indicator: {alert['IndicatorAction']} {alert['IndicatorValue']}{partly}"


def suppression(alert: Row) -> str:
    """Return who suppresses an alert, until when and why; "" if it is not suppressed."""
    if not alert.get("SuppressedBy"):
        return ""
    until = readable(alert["SuppressedUntil"], 19)
    return f"(suppressed by {alert['SuppressedBy']} until {until}: {alert['SuppressedReason']})"
