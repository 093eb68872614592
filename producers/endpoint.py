"""Where on the network lines come from, as a source's path spells it.

kafka://broker-1:9092,broker-2:9092/topic    follow a topic of another Kafka, or an Event Hub
http://0.0.0.0:8088/                         take POSTed lines
syslog+tcp://0.0.0.0:5514                    take syslog over TCP
syslog+udp://0.0.0.0:5514                    take syslog over UDP
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from schemas.address import split_authority

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""What Kafka allows as a topic's name."""


class Scheme(StrEnum):
    """What a path begins with, before `://`."""

    KAFKA = "kafka"
    HTTP = "http"
    SYSLOG_TCP = "syslog+tcp"
    SYSLOG_UDP = "syslog+udp"


EXAMPLES = {
    Scheme.KAFKA: "kafka://broker:9092/topic",
    Scheme.HTTP: "http://0.0.0.0:8088/",
    Scheme.SYSLOG_TCP: "syslog+tcp://0.0.0.0:5514/",
    Scheme.SYSLOG_UDP: "syslog+udp://0.0.0.0:5514/",
}


class EndpointError(ValueError):
    """A path is spelled like an endpoint, but is none; the message says what to write."""


class Endpoint(NamedTuple):
    """One place on the network."""

    scheme: Scheme
    places: tuple[str, ...]
    """host:port; of Kafka as many as were given."""
    name: str
    """Of Kafka the topic, of HTTP the path without its first slash."""

    def __str__(self) -> str:
        return f"{self.scheme}://{','.join(self.places)}/{self.name}"


def parse_endpoint(path: str) -> Endpoint | None:
    """Read a source's path; None where it is one of a file. Raises EndpointError."""
    written, sign, rest = path.partition("://")
    if not sign or written not in list(Scheme):
        return None
    scheme = Scheme(written)
    authority, _, name = rest.partition("/")
    places = tuple(authority.split(",")) if scheme is Scheme.KAFKA else (authority,)
    if not all(split_authority(place, 0)[0] for place in places) or "@" in authority:
        raise EndpointError(f'"{path}" needs a host and a port, as in {EXAMPLES[scheme]}')
    if scheme is Scheme.KAFKA and not _TOPIC.fullmatch(name):
        raise EndpointError(f'"{path}" names no topic; write {EXAMPLES[scheme]}')
    if scheme in (Scheme.SYSLOG_TCP, Scheme.SYSLOG_UDP) and name:
        raise EndpointError(f'"{path}" has more than a host and a port; write {EXAMPLES[scheme]}')
    return Endpoint(scheme, places, name)
