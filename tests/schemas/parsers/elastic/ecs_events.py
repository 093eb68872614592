"""Events in the Elastic Common Schema for the tests, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

from schemas.events import Reject
from schemas.parsers.elastic.ecs import claims, device_of, parse

AT = 1_741_079_722_001_000
CURL = {"pid": 7412, "name": "curl", "executable": "/usr/bin/curl", "args": ["curl", "https://bad1.example/"]}
SQUID = {"pid": 611, "name": "squid"}
BEGAN, ENDED, REPORTED = "2025-03-04T09:15:21.998Z", "2025-03-04T09:15:29.101Z", "2025-03-04T09:16:10.004Z"


def line(**parts: object) -> dict[str, Any]:
    """An event of Packetbeat on the device dev-a, which goes to a proxy; a part that is None is left out."""
    whole: dict[str, Any] = {
        "@timestamp": "2025-03-04T09:15:22.001Z",
        "event": {"category": ["network"], "dataset": "http", "type": ["connection", "protocol"]},
        "source": {"ip": "198.51.100.11", "port": 52817},
        "destination": {"ip": "198.51.100.80", "port": 3128},
        "network": {"transport": "tcp"},
        "agent": {"type": "packetbeat", "name": "tap-1"},
        "host": {"name": "dev-a", "ip": ["198.51.100.11", "fe80::1"]},
    }
    whole.update(parts)
    return {name: value for name, value in whole.items() if value is not None}


def flow(*, final: bool = True, **parts: object) -> dict[str, Any]:
    """Packetbeat's report of a flow."""
    event = {"category": ["network"], "dataset": "flow", "start": BEGAN, "end": ENDED}
    source = {"ip": "198.51.100.11", "port": 52817, "packets": 18, "bytes": 3216}
    destination = {"ip": "198.51.100.80", "port": 3128, "packets": 46, "bytes": 56401}
    whole = {"event": event, "source": source, "destination": destination, "flow": {"id": "EAT", "final": final}}
    return line(**{"@timestamp": REPORTED, **whole, **parts})


def request(method: str | None, url: dict[str, Any], headers: dict[str, Any] | None = None, **parts: object) -> Any:
    """What becomes of an HTTP event."""
    return reported(line(http={"request": {"method": method, "headers": headers}}, url=url, **parts))


def endpoint(action: str, kinds: list[str], **parts: object) -> Any:
    """What becomes of an event of Elastic Defend."""
    event = {
        "category": ["network"],
        "module": "endpoint",
        "dataset": "endpoint.events.network",
        "action": action,
        "type": kinds,
    }
    whole = {
        "event": event,
        "agent": {"type": "endpoint"},
        "network": {"transport": "tcp", "direction": "egress"},
        "process": {"pid": 7412, "name": "chrome.exe", "executable": "C:\\chrome.exe"},
        "user": {"name": "a.meyer", "domain": "CORP", "id": "S-1-5-21-1"},
    }
    return reported(line(**{**whole, **parts}))


def reported(event: dict[str, Any]) -> Any:
    """What becomes of an event; its device is reported before it is parsed, too."""
    raw = json.dumps(event).encode()
    parsed = parse(raw)
    assert isinstance(parsed, Reject) or device_of(raw) == parsed.device
    assert claims(raw)
    return parsed
