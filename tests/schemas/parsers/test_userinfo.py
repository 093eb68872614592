"""A CONNECT target with userinfo names no destination, in every dialect; a URL's userinfo is removed and its host stays."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from schemas.address import split_authority, split_url
from schemas.events import HttpExchange, Ignored, Parsed, ProxyLogged, Verdict
from schemas.parsers import dialects
from tests.factories import PROXY, connection, verdict, world_of
from tests.factories import request as exchange
from tests.schemas.parsers.elastic.ecs_events import line as packetbeats
from tests.schemas.parsers.parsed_as import request
from tests.schemas.parsers.proxies.proxy_log_lines import (
    FORCEPOINT,
    HAPROXY,
    JSON,
    PROXYSG,
    SOPHOS,
    WSA,
    envoy,
    native,
    zscaler,
)
from tests.schemas.parsers.proxies.tinyproxy_log import A, Log, requests
from tests.schemas.parsers.reading import read
from tests.schemas.parsers.windows import defender_rows

FIRST, SECOND, SECRET = "first.example", "second.example", "s3cret"
TARGETS = (
    f"{FIRST}:443@{SECOND}:443",
    f"user:{SECRET}@{SECOND}:443",
    f"{SECRET}@{SECOND}:443",
    f"@{SECOND}:443",
    f"{FIRST}:443@x:443@{SECOND}:443",
    f"{FIRST}:443/@{SECOND}:443",
    f"{FIRST}:443?{SECRET}@{SECOND}:443",
    f"[2001:db8::1]:443@{SECOND}:443",
)
"""Proxies connect to the first host or to the second."""


def eve(kind: str, target: str) -> str:
    """A record of Suricata about this CONNECT; libhtp takes the second host for the name."""
    return json.dumps({
        "timestamp": "2025-03-04T09:15:22.003111+0000", "event_type": kind, "proto": "TCP", "src_ip": "198.51.100.11",
        "src_port": 52817, "dest_ip": PROXY, "dest_port": 3128, "alert": {"action": "blocked", "signature": "listed"},
        "http": {"hostname": SECOND, "url": target, "http_method": "CONNECT", "status": 200},
    })  # fmt: skip


def sensors(kind: str, target: str) -> str:
    """A line of our sensor about this CONNECT."""
    more = {"action": "blocked", "host": SECOND} if kind == "verdict" else {"host": SECOND, "status": 200}
    return json.dumps({
        "kind": kind, "device": "dev-1", "ts": "2026-11-24T19:07:28.000000Z", "local_ip": "198.51.100.11", "local_port": 52817,
        "remote_ip": PROXY, "remote_port": 3128, "flow": "77", "tx": 0, "method": "CONNECT", "target": target, **more,
    })  # fmt: skip


def zeeks(target: str) -> str:
    """A record of Zeek's http log about this CONNECT."""
    return json.dumps({
        "_path": "http", "ts": 1741079722.5, "uid": "CAa1", "id.orig_h": "10.0.0.1", "id.orig_p": 4000, "id.resp_h": PROXY,
        "id.resp_p": 3128, "trans_depth": 1, "method": "CONNECT", "host": SECOND, "uri": target, "status_code": 200,
    })  # fmt: skip


def combined(target: str) -> str:
    """A line of squid's combined format."""
    return (
        f'192.0.2.7 - - [12/Sep/2024:12:38:20 +0000] "CONNECT {target} HTTP/1.1" 200 39 "-" "-" TCP_TUNNEL:HIER_DIRECT'
    )


def squids(target: str) -> str:
    """A line of squid's documented JSON."""
    return json.dumps({
        "ts_end": 1570784654.5, "client_ip": "192.0.2.7", "method": "CONNECT", "url": target, "tag": "TCP_TUNNEL",
        "hier": "HIER_DIRECT", "status": 200, "server_ip": "203.0.113.9",
    })  # fmt: skip


def w3c(field: str, target: str) -> str:
    """A row of ProxySG under `#Fields`."""
    return json.dumps(json.loads(JSON["w3c"]) | {"cs-method": "CONNECT", "cs-uri-scheme": "tcp", field: target})


def w3cs_uri(target: str) -> str:
    """A row that has the whole URL in one field."""
    row = json.loads(w3c("cs-uri", f"tcp://{target}/"))
    return json.dumps({key: value for key, value in row.items() if key not in ("cs-host", "cs-uri-scheme")})


PROXY_LOGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "squid, native": ("squid", lambda target: native(request=f"CONNECT {target}")),
    "squid, combined": ("squid", combined),
    "squid, JSON": ("squid", squids),
    "haproxy": ("haproxy", lambda target: HAPROXY % (200, "----", f"CONNECT {target} HTTP/1.1")),
    "envoy": ("envoy", lambda target: envoy(**{":authority": target})),
    "wsa": ("wsa", lambda target: WSA % ("TCP_MISS/200 5", f"CONNECT tunnel://{target}/", "ALLOW_X")),
    "w3c, host": ("w3c", lambda target: w3c("cs-host", target)),
    "w3c, URL": ("w3c", w3cs_uri),
    "w3c, main": (
        "w3c",
        lambda target: (PROXYSG % ("-", "OBSERVED", 200, "TCP_TUNNELED"))
        .replace("GET - http a.example 80", f"CONNECT - tcp {target} 443"),
    ),
    "zscaler": ("zscaler", lambda target: zscaler(requestmethod="CONNECT", url=target)),
    "zscaler, lower case": ("zscaler", lambda target: zscaler(requestmethod="connect", url=target)),
    "sophos": ("sophos", lambda target: SOPHOS.replace("GET http://a.example/", f"CONNECT {target}")),
    "forcepoint": (
        "forcepoint",
        lambda target: FORCEPOINT.replace("http_method=GET", "http_method=CONNECT")
        .replace("dst_host=a.example", f"dst_host={SECOND}").replace("url=https://a.example/?u=", f"url={target}"),
    ),
}  # fmt: skip
SENSORS: dict[str, tuple[str, Callable[[str], str]]] = {
    "suricata": ("suricata", lambda target: eve("http", target)),
    "suricata, verdict": ("suricata", lambda target: eve("alert", target)),
    "sensor": ("sensor", lambda target: sensors("http", target)),
    "sensor, verdict": ("sensor", lambda target: sensors("verdict", target)),
    "zeek": ("zeek", zeeks),
    "mde": ("mde", lambda target: defender_rows.row("HttpConnectionInspected", {
        "direction": "Out", "method": "CONNECT", "host": SECOND, "uri": target, "status_code": "200",
    }).decode()),
    "ecs": ("ecs", lambda target: json.dumps(
        packetbeats(http={"request": {"method": "CONNECT", "headers": {"host": target}}}, url={})
    )),
}  # fmt: skip


def outcome(writers: tuple[str, Callable[[str], str]], target: str) -> Parsed:
    """What becomes of the line that this writer has about a CONNECT with this target."""
    dialect, line = writers
    return read(dialect, line(target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("writer", PROXY_LOGS.values(), ids=PROXY_LOGS)
def test_a_proxys_log_gives_no_destination(writer: tuple[str, Callable[[str], str]], target: str) -> None:
    """The log states what was asked for, not which of the hosts the proxy connected to."""
    found = outcome(writer, target)

    assert isinstance(found, Ignored), found
    assert found.kind == "no_destination"


@pytest.mark.parametrize("writer", PROXY_LOGS.values(), ids=PROXY_LOGS)
def test_the_same_line_without_userinfo_has_one(writer: tuple[str, Callable[[str], str]]) -> None:
    """So the lines above are rejected for their userinfo and nothing else."""
    found = outcome(writer, f"{SECOND}:443")

    assert isinstance(found, ProxyLogged), found
    assert found.host == SECOND


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("writer", SENSORS.values(), ids=SENSORS)
def test_a_sensors_request_has_no_target(writer: tuple[str, Callable[[str], str]], target: str) -> None:
    """Neither of the hosts is left, nor the login."""
    found = outcome(writer, target)

    assert isinstance(found, HttpExchange | Verdict), found
    assert (found.method, found.target) == ("CONNECT", "")
    assert SECRET.encode() not in msgspec.json.encode(found)


@pytest.mark.parametrize("writer", SENSORS.values(), ids=SENSORS)
def test_a_sensors_request_without_userinfo_keeps_its_target(writer: tuple[str, Callable[[str], str]]) -> None:
    """So the targets above are removed for their userinfo and nothing else."""
    found = outcome(writer, f"{SECOND}:443")

    assert isinstance(found, HttpExchange | Verdict), found
    assert found.target == f"{SECOND}:443"


@pytest.mark.parametrize("target", TARGETS)
def test_the_connection_stays_unresolved(target: str) -> None:
    """Its only row states that the request could not be used."""
    world = world_of([connection(0), exchange(0.1, target, method="CONNECT")])

    assert world.destinations == []
    assert [row["UnresolvedReason"] for row in world.connections] == ["no_usable_request"]
    assert SECRET not in json.dumps(world.connections)


@pytest.mark.parametrize("target", TARGETS)
def test_a_verdict_on_it_names_neither_host(target: str) -> None:
    """The connection was stopped; what it would have reached is not known."""
    world = world_of([connection(0), verdict(0.1, target, method="CONNECT", host=SECOND)])
    reported = json.dumps([*world.connections, *world.verdicts, *world.alerts])

    assert world.destinations == []
    assert [(row["Outcome"], row["UnresolvedReason"]) for row in world.connections] == [
        ("blocked", "no_usable_request")
    ]
    assert not [text for text in (FIRST, SECOND, SECRET) if text in reported]


@pytest.mark.parametrize("target", TARGETS)
def test_tinyproxys_request_is_not_joined(target: str) -> None:
    """Tinyproxy itself connects to the host behind the first `@`; what a client wrote before it may be one as well."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, target), log.established(7, SECOND), log.closed(6, 7)]

    assert requests(lines) == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", f"http://user:{SECRET}@{SECOND}/x?a=b@c"),
        ("GET", f"http://{FIRST}:80@{SECOND}/"),
        ("GET", f"http://u@{SECRET}@{SECOND}:80/"),
        ("POST", f"HTTP://{SECRET}@{SECOND}/"),
    ],
)
def test_a_urls_userinfo_is_removed(method: str, target: str) -> None:
    """Absolute form may have it (RFC 3986 section 3.2.1): the host is the one behind the last `@`, as squid reads it."""
    by_proxy = read("squid", native(request=f"{method} {target}"))
    by_sensor = request(read("sensor", sensors("http", target).replace("CONNECT", method)))

    assert isinstance(by_proxy, ProxyLogged)
    assert (by_proxy.host, by_proxy.port) == (SECOND, 80)
    assert SECRET not in by_proxy.target + by_sensor.target
    assert split_url(by_sensor.target)[0] == SECOND


def test_only_a_url_has_userinfo() -> None:
    """An authority (CONNECT, Host) with one is no host; a text is a URL if it begins with a scheme."""
    assert split_authority(f"{FIRST}:443@{SECOND}:443", 0) == ("", 0)
    assert split_authority(f"u:p@{SECOND}", 80) == ("", 0)
    assert split_url(f"u:p@{SECOND}")[0] == ""
    assert split_url(f"https://u:p@{SECOND}") == (SECOND, 0)
    assert split_url(f"{SECOND}/redirect?to=https://{FIRST}/") == (SECOND, 0)


def test_every_dialect_with_requests_is_here() -> None:
    """A new dialect that carries CONNECT targets needs a line above."""
    covered = {dialect for dialect, _ in (PROXY_LOGS | SENSORS).values()} | {"tinyproxy"}
    others = {"auditd", "osquery", "sockets", "tetragon", "winlog"}

    assert covered | others == set(dialects())
