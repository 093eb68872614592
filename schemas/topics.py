"""The topics by name, and their configuration in `deploy/topics.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from schemas.settings import Settings

TELEMETRY = "telemetry"
NETWORK_EVENTS = "network-events"
DEVICE_EVENTS = "device-events"
BLOCK_ALERTS = "block-alerts"
INDICATORS = "indicators"
REJECTS = "rejects"
SENSOR_GAPS = "sensor-gaps"
DEVICE_COVERAGE = "device-coverage"
PROTECTION_MODES = "protection-modes"
STATE_CHANGELOG = "state-changelog"

TABLE_OF_TOPIC = {
    NETWORK_EVENTS: "DeviceNetworkEvents",
    DEVICE_EVENTS: "DeviceEvents",
    BLOCK_ALERTS: "BlockAlerts",
    REJECTS: "Rejects",
    SENSOR_GAPS: "SensorGaps",
    DEVICE_COVERAGE: "DeviceCoverage",
    PROTECTION_MODES: "ProtectionModes",
}
"""Table into which the sink writes a topic's messages."""

DEVICE_FROM = "device_from"
FROM_KEY = "key"
"""Value of the header `device_from` if every line is about the device in the message's key, whatever device a line names."""
CLAIMS = "claims"
"""Header with what the sender may report besides connections and requests, by its grant (`producers/sources/grants.py`)."""
CLAIMS_NONE = "none"
"""Value of the header `claims`: verdicts and protection modes in the message are refused. Unknown values have the same effect."""
CLAIMS_VERDICTS = "verdicts"
"""Value of the header `claims`: verdicts and protection modes are accepted. Without the header `protection.verdict_sensors`
decides."""
CLOCK = "clock"
"""Header (value CLOCK_LOG) of a sender that reports on several devices. The times in its lines advance the clock of a device at
most to the time of Kafka's log."""
CLOCK_LOG = "log"
TICK_DIALECT = "tick"
"""Value of the header `dialect` of a message without lines that only carries the time of Kafka's log."""
END = b"end"
"""Value of a tick at the end of a recording: alerts whose next version is still delayed are published at once."""


TELEMETRY_HEADERS = {
    "dialect": "How the lines are written",
    "sensor": "The sensor that wrote them; lines are numbered by device, dialect and sensor",
    "seq": "Number of the message's first line",
    "lines": "Number of lines that the message counts for",
    DEVICE_FROM: f"`{FROM_KEY}`: every line is about the device in the key, whatever name it has",
    CLAIMS: f"`{CLAIMS_VERDICTS}`: verdicts and protection modes count; `{CLAIMS_NONE}`, or anything else: they are refused; "
    "without it `protection.verdict_sensors` decides",
    CLOCK: f"`{CLOCK_LOG}`: the sender reports on several devices, so the times it writes move a device's clock no further "
    "than the log's own time",
}
"""Meaning of the headers of a message on the topic telemetry; all except `dialect` are optional."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Declaration of a topic."""

    name: str
    about: str
    partitions: int
    config: dict[str, str]


@cache
def _declared() -> dict[str, Topic]:
    text = resources.files("deploy").joinpath("topics.toml").read_text(encoding="utf-8")
    return {
        name: Topic(name, part["about"], part["partitions"], part["config"])
        for name, part in tomllib.loads(text).items()
    }


def topic_name(settings: Settings, name: str) -> str:
    """Return a topic's full name on the cluster of these settings."""
    if name == STATE_CHANGELOG:
        return f"{settings.worker.group}-state-changelog"
    return settings.kafka.topic_prefix + name


def topics(settings: Settings) -> tuple[Topic, ...]:
    """Return all topics with their full names."""
    return tuple(
        Topic(topic_name(settings, topic.name), topic.about, topic.partitions, topic.config)
        for topic in _declared().values()
    )
