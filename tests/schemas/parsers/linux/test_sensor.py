"""The dialect of our own sensor: what a line needs, and what is refused. The golden lines are made, after the sensor's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.events import HttpExchange, ModeChanged, Reason, Reject, SocksRequest, TlsName, Verdict
from schemas.parsers.linux.sensor import DIALECT, parse

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
LINES = [json.loads(line) for line in (GOLDEN / "sensor.in.jsonl").read_text().splitlines()]
HTTP = next(line for line in LINES if line["kind"] == "http")
TLS = next(line for line in LINES if line["kind"] == "tls")
VERDICT = next(line for line in LINES if line["kind"] == "verdict")


def parsed(line: dict[str, object], **changes: object) -> object:
    """A line with some of its members changed, those given as None left out."""
    changed = {name: value for name, value in (line | changes).items() if value is not None}
    return parse(json.dumps(changed).encode())


@pytest.mark.parametrize(
    "name", ["device", "ts", "local_ip", "local_port", "remote_ip", "remote_port", "flow", "tx", "target"]
)
def test_what_a_request_needs(name: str) -> None:
    """Without one of these it is no one's, or of no connection."""
    rejected = parsed(HTTP, **{name: None})

    assert isinstance(rejected, Reject)
    assert rejected.reason is Reason.INCOMPLETE
    assert not DIALECT.claims(rejected.raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"device": ""},
        {"ts": "yesterday"},
        {"local_ip": "proxy"},
        {"local_port": 0},
        {"remote_port": 65_536},
        {"flow": ""},
        {"flow": "u" * 65},
        {"status": 7},
        {"tx": -1},
        {"method": ""},
    ],
)
def test_values_are_checked(changes: dict[str, object]) -> None:
    """What cannot be is refused, not guessed at."""
    rejected = parsed(HTTP, **changes)

    assert isinstance(rejected, Reject)
    assert rejected.reason is Reason.BAD_VALUE


def test_an_unknown_kind_is_refused() -> None:
    """A kind of a later version keeps its bytes until it can be read."""
    rejected = parsed(HTTP, kind="quic")

    assert isinstance(rejected, Reject)
    assert rejected.reason is Reason.BAD_VALUE
    assert not DIALECT.claims(rejected.raw)


def test_addresses_as_hosts() -> None:
    """A host may be an address of IPv6, which has colons and no port here."""
    request, name = parsed(HTTP, host="2001:DB8::0:1"), parsed(TLS, sni="WWW.Example.com.")

    assert isinstance(request, HttpExchange)
    assert request.host == "2001:db8::1"
    assert isinstance(name, TlsName)
    assert name.sni == "www.example.com"


def test_what_cannot_be_a_host_is_none() -> None:
    """A request without a usable Host is a request still; a verdict whose host is none is about nothing."""
    request, verdict = parsed(HTTP, host="a b"), parsed(VERDICT, host="a b")

    assert isinstance(request, HttpExchange)
    assert request.host == ""
    assert isinstance(verdict, Reject)


@pytest.mark.parametrize("changes", [{"action": "allowed"}, {"how": "asked_nicely"}])
def test_a_verdict_is_of_closed_sets(changes: dict[str, object]) -> None:
    """What was done, and how."""
    assert isinstance(parsed(VERDICT, **changes), Reject)


def test_how_a_verdict_was_carried_out_is_its_category() -> None:
    """Whether the request never got out, or its socket was destroyed at sight, stands on the row as its category."""
    verdict = parsed(VERDICT, how="socket_destroyed")

    assert isinstance(verdict, Verdict)
    assert verdict.category == "socket_destroyed"


SOCKS = {name: value for name, value in HTTP.items() if name not in ("method", "target", "status", "user_agent")} | {
    "kind": "socks", "version": 5, "host": "Bad.Example.", "port": 443, "granted": True,
}  # fmt: skip


def test_a_socks_request_names_its_target() -> None:
    """A host that cannot be one is none, and has no port; an answer may be missing."""
    asked, nothing = parsed(SOCKS), parsed(SOCKS, host="a b", granted=None)

    assert isinstance(asked, SocksRequest)
    assert (asked.host, asked.port, asked.granted) == ("bad.example", 443, True)
    assert asked.event_id == f"socks/{SOCKS['flow']}/{SOCKS['tx']}/{SOCKS['ts']}"
    assert isinstance(nothing, SocksRequest)
    assert (nothing.host, nothing.port, nothing.granted) == ("", 0, None)


@pytest.mark.parametrize("changes", [{"version": 6}, {"port": 65_536}, {"tx": -1}, {"granted": "yes"}])
def test_a_socks_request_is_checked(changes: dict[str, object]) -> None:
    """What cannot be is refused."""
    assert isinstance(parsed(SOCKS, **changes), Reject)


def test_a_hello_outside_a_tunnel_was_sent_to_a_proxy() -> None:
    """The sensor listens to proxies only; one in a tunnel, named or not, was sent to the tunnel's end."""
    outside, inside = parsed(TLS, sni="", tunnelled=False), parsed(TLS, sni="")

    assert isinstance(outside, TlsName)
    assert (outside.sni, outside.to_proxy) == ("", True)
    assert isinstance(inside, TlsName)
    assert not inside.to_proxy


@pytest.mark.parametrize("line", [HTTP, TLS, VERDICT, SOCKS], ids=["http", "tls", "verdict", "socks"])
def test_the_start_of_the_connection_is_optional(line: dict[str, object]) -> None:
    """Older sensors do not write it, and a sensor that did not see the SYN cannot."""
    without, with_it = parsed(line), parsed(line, ts_attempt="2026-11-27T18:00:01.000007Z")

    assert isinstance(without, HttpExchange | TlsName | Verdict | SocksRequest)
    assert isinstance(with_it, HttpExchange | TlsName | Verdict | SocksRequest)
    assert (without.started, with_it.started) == (0, 1_795_802_401_000_007)
    assert isinstance(parsed(line, ts_attempt="yesterday"), Reject)


def test_a_mode_needs_no_connection() -> None:
    """The mode is the device's; what was before may be unreported."""
    mode = parse(b'{"kind":"mode","device":"dev-a","ts":"2026-11-27T18:00:00Z","mode":"off"}')

    assert isinstance(mode, ModeChanged)
    assert (mode.device, mode.mode, mode.before) == ("dev-a", "off", None)


@pytest.mark.parametrize(
    ("target", "port", "expected"),
    [
        ("/a", 80, "http://bad.example/a"),
        ("/a", 8080, "http://bad.example:8080/a"),
        ("http://bad.example/a", 80, "http://bad.example/a"),
        ("?", 8443, "?"),
    ],
)
def test_a_verdict_on_a_target_without_a_host(target: str, port: int, expected: str) -> None:
    """The Host field named the host, so the URL has it; the proxy's port is in no URL."""
    verdict = parsed(VERDICT, method="GET", target=target, host="bad.example", port=port)

    assert isinstance(verdict, Verdict)
    assert (verdict.target, verdict.host, verdict.port) == (expected, "bad.example", port if target == "?" else 0)


def test_a_verdict_on_what_cannot_be_read() -> None:
    """It has no host; without a host every other verdict is about nothing."""
    verdict, other = (parsed(VERDICT, method="GET", target=target, host="") for target in ("?", "/a"))

    assert isinstance(verdict, Verdict)
    assert (verdict.target, verdict.host) == ("?", "")
    assert isinstance(other, Reject)
