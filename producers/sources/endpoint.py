"""Network endpoints, as written in the path of a source.

kafka://broker-1:9092,broker-2:9092/topic    follow a topic of another Kafka cluster, or an Event Hub
https://0.0.0.0:8443/                        accept POSTed lines over TLS
http://127.0.0.1:8088/                       accept POSTed lines without TLS
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from schemas.address import split_authority

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""Kafka's rules for a topic name."""


class Scheme(StrEnum):
    """The scheme of a path, before `://`."""

    KAFKA = "kafka"
    HTTPS = "https"
    HTTP = "http"


EXAMPLES = {
    Scheme.KAFKA: "kafka://broker:9092/topic",
    Scheme.HTTPS: "https://0.0.0.0:8443/",
    Scheme.HTTP: "http://127.0.0.1:8088/",
}
_REMOVED = ("syslog+tcp", "syslog+udp")
"""Schemes of earlier versions, removed because their lines were lost when the producer was killed."""


class EndpointError(ValueError):
    """An invalid network endpoint in the path of a source; the message gives the correct form."""


class Endpoint(NamedTuple):
    """One network endpoint."""

    scheme: Scheme
    places: tuple[str, ...]
    """Addresses, each as host:port; several only for Kafka."""
    name: str
    """For Kafka the topic, for HTTP the path without its first slash."""

    def __str__(self) -> str:
        return f"{self.scheme}://{','.join(self.places)}/{self.name}"


def parse_endpoint(path: str) -> Endpoint | None:
    """Parse the path of a source; return None for a file. Raises EndpointError for an invalid endpoint or a removed scheme."""
    written, sign, rest = path.partition("://")
    if sign and written in _REMOVED:
        raise EndpointError(
            f'"{path}": syslog is not taken any more, as its senders cannot repeat what a crash loses; have rsyslog write'
            f" to a topic (deploy/shippers/rsyslog.conf) and follow it with {EXAMPLES[Scheme.KAFKA]}"
        )
    if not sign or written not in list(Scheme):
        return None
    scheme = Scheme(written)
    authority, _, name = rest.partition("/")
    places = tuple(authority.split(",")) if scheme is Scheme.KAFKA else (authority,)
    if not all(split_authority(place, 0)[0] for place in places) or "@" in authority:
        raise EndpointError(f'"{path}" needs a host and a port, as in {EXAMPLES[scheme]}')
    if scheme is Scheme.KAFKA and not _TOPIC.fullmatch(name):
        raise EndpointError(f'"{path}" names no topic; write {EXAMPLES[scheme]}')
    return Endpoint(scheme, places, name)
