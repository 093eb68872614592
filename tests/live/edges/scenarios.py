"""The requests of the edge lab as data: what is sent, to which proxies, and which host a row must name.

Each request asks for a host of its own, with an address of its own, so the origin's log shows which requests were carried out.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from schemas.events import ProtectionMode

HTTP = ("squid", "tinyproxy", "privoxy", "apache", "nginx", "haproxy", "proxy.py", "goproxy")
SOCKS = ("dante", "microsocks")
PLAIN, LISTED = IPv4Address("100.64.0.0"), IPv4Address("100.65.0.0")
"""Addresses of the hosts, one for each request; the listed ones are in a network of their own."""
AUDIT_PORTS, BLOCK_PORTS = 12_000, 22_000
REQUESTS_MAX = BLOCK_PORTS - AUDIT_PORTS
DOMAIN, LISTED_DOMAIN = "edge.example", "listed.example"
LIST = (LISTED_DOMAIN, f"{LISTED}/16")

WHOLE, BYTES, URGENT, EXEC, REUSE = "whole", "bytes", "urgent", "exec", "reuse"
FEW_PORTS, TLS, SOCKET = "few ports", "tls", "socks"
"""How it is sent: at once, byte by byte, with an urgent byte at the mark, after another program took over the process, from a
port that was used just before, from one of a few ports as the kernel gives them, inside TLS without a server name, after a SOCKS
greeting."""
MARK = "\u00a7"

ORDINARY = "absolute target"
"""Every proxy carries it out."""
GET = "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
CLOSED = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
CONNECT = "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"


@dataclass(frozen=True)
class Scenario:
    """One shape of a request, in latin-1."""

    name: str
    words: str
    sent: str = WHOLE
    proxies: tuple[str, ...] = HTTP
    is_address: bool = False
    """The row must name the address: the request does."""
    names: bool = True
    """A row may name the host; else the connection must stay without a destination."""
    hello: bool = False
    """A TLS client hello for the host follows in the same packet."""
    times: int = 1
    short: bool = False
    """Also in the short run."""


def _get(name: str, target: str, *, is_address: bool = False, names: bool = True, short: bool = False) -> Scenario:
    return _line(name, f"GET {target} HTTP/1.1", is_address=is_address, names=names, short=short)


def _line(
    name: str,
    line: str,
    headers: str = "Host: {host}\r\n",
    *,
    is_address: bool = False,
    names: bool = True,
    short: bool = False,
) -> Scenario:
    return Scenario(name, f"{line}\r\n{headers}\r\n", is_address=is_address, names=names, short=short)


SCENARIOS = (
    Scenario(ORDINARY, GET, times=3, short=True),
    Scenario("connect", CONNECT, times=3, short=True),
    Scenario("byte by byte", CONNECT, BYTES, short=True),
    Scenario("origin form", "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n", short=True),
    Scenario("line feeds only", "GET http://{host}/ HTTP/1.1\nHost: {host}\n\n"),
    _line("empty line first", "\r\nGET http://{host}/ HTTP/1.1"),
    _line("http 1.0", "GET http://{host}/ HTTP/1.0", ""),
    _line("http 1.2", "GET http://{host}/ HTTP/1.2", short=True),
    Scenario("http 0.9", "GET http://{host}/\r\n", short=True),
    _line("double space", "GET  http://{host}/  HTTP/1.1", short=True),
    _line("tab", "GET\thttp://{host}/\tHTTP/1.1", short=True),
    _line("folded header", "GET http://{host}/ HTTP/1.1", "Host: {host}\r\nX-Folded: one\r\n two\r\n", short=True),
    _line("header name not ascii", "GET http://{host}/ HTTP/1.1", "Host: {host}\r\nX-\xe9: 1\r\n", short=True),
    _line("space before colon", "GET http://{host}/ HTTP/1.1", "Host : {host}\r\n"),
    _line("lower-case connect", "connect {host}:443 HTTP/1.1", names=False, short=True),
    _line("lower-case get", "get http://{host}/ HTTP/1.1"),
    _line("connect without port", "CONNECT {host} HTTP/1.1", names=False, short=True),
    _line("connect with a scheme", "CONNECT http://{host}:443/ HTTP/1.1"),
    _line("connect with two hosts", "CONNECT {host}:443@{other}:443 HTTP/1.1", names=False, short=True),
    _get("login in the target", "http://user:word@{host}/"),
    _get("upper-case scheme", "HTTP://{host}/"),
    _get("upper-case host", "http://{upper}/"),
    _get("trailing dot", "http://{host}./"),
    _get("no path", "http://{host}"),
    _get("query without path", "http://{host}?a=b"),
    _get("dotted address", "http://{ip}/", is_address=True),
    _get("decimal address", "http://{decimal}/", is_address=True, short=True),
    _get("hexadecimal address", "http://{hexadecimal}/", is_address=True, short=True),
    _get("octal address", "http://{octal}/", is_address=True, names=False, short=True),
    _get("short address", "http://{short}/", is_address=True, short=True),
    _line("connect to a decimal address", "CONNECT {decimal}:443 HTTP/1.1", is_address=True),
    Scenario("urgent byte", GET.replace("{host}/", "r{mark}{rest}/"), URGENT, short=True),
    Scenario("connect and hello at once", CONNECT.replace("{host}", "{other}"), hello=True, short=True),
    Scenario("port used again", GET, REUSE, times=10, short=True),
    Scenario("few ports", CLOSED, FEW_PORTS, ("squid", "tinyproxy"), times=40, short=True),
    Scenario("connect, then exec", GET, EXEC, ("squid", "tinyproxy"), times=20, short=True),
    Scenario("answers at once, get", GET, proxies=("instant",), times=20, short=True),
    Scenario("answers at once, connect", CONNECT, proxies=("instant",), times=20, short=True),
    Scenario("tls to the proxy", GET, TLS, ("nginx tls",), names=False, times=3, short=True),
    Scenario("socks 4", "\x04\x01\x01\xbb{packed}\x00", SOCKET, ("dante",), is_address=True, short=True),
    Scenario("socks 5", "\x05\x01\x00\x03{length}{host}\x01\xbb", SOCKET, SOCKS, short=True),
    Scenario("socks 5 address", "\x05\x01\x00\x01{packed}\x01\xbb", SOCKET, SOCKS, is_address=True),
)


@dataclass(frozen=True)
class Request:
    """One request of a scenario to one proxy."""

    number: int
    scenario: Scenario
    proxy: str
    mode: ProtectionMode

    @property
    def is_listed(self) -> bool:
        """In `block` every host is on the list."""
        return self.mode is ProtectionMode.BLOCK

    @property
    def address(self) -> IPv4Address:
        """Where the host is."""
        return (LISTED if self.is_listed else PLAIN) + self.number

    @property
    def local_port(self) -> int:
        """The client's port: each request has one of its own, below those that the kernel gives."""
        return (BLOCK_PORTS if self.is_listed else AUDIT_PORTS) + self.number

    @property
    def host(self) -> str:
        """The host that it asks for."""
        return f"r{self.number}.{LISTED_DOMAIN if self.is_listed else DOMAIN}"

    @property
    def other(self) -> str:
        """A second, unlisted host of its own, at the next address."""
        return f"r{self.number + 1}.{DOMAIN}"

    @property
    def named(self) -> str:
        """What a row must call the destination."""
        return self.other if self.scenario.hello else str(self.address) if self.scenario.is_address else self.host

    def words(self) -> bytes:
        """What is sent."""
        quad, value = self.address.packed, int(self.address)
        text = self.scenario.words.format(
            host=self.host, other=self.other, upper=self.host.upper(), mark=MARK, rest=self.host[1:],
            ip=self.address, decimal=value, hexadecimal=hex(value),
            octal=".".join(f"0{part:o}" for part in quad), short=f"{quad[0]}.{value & 0xFFFFFF}",
            packed=quad.decode("latin-1"), length=chr(len(self.host)),
        )  # fmt: skip
        return text.encode("latin-1") + (client_hello(self.host) if self.scenario.hello else b"")


def host_of(address: IPv4Address) -> str:
    """The name of a host by its address; "" for no host's."""
    for base, domain in ((PLAIN, DOMAIN), (LISTED, LISTED_DOMAIN)):
        if 0 <= int(address) - int(base) < REQUESTS_MAX:
            return f"r{int(address) - int(base)}.{domain}"
    return ""


def address_of(host: str) -> IPv4Address | None:
    """The address of a host by its name, as the name server answers."""
    name, _, domain = host.lower().rstrip(".").partition(".")
    base = {DOMAIN: PLAIN, LISTED_DOMAIN: LISTED}.get(domain)
    known = base is not None and name[:1] == "r" and name[1:].isdigit() and int(name[1:]) < REQUESTS_MAX
    return base + int(name[1:]) if known and base is not None else None


def requests(mode: ProtectionMode, proxies: tuple[str, ...], *, short: bool, only: str = "") -> Iterator[Request]:
    """All requests of a run, or those of scenarios with `only` in their name; each has two numbers of its own."""
    number = 0
    for scenario in (one for one in SCENARIOS if only in one.name):
        for proxy in scenario.proxies:
            if proxy in proxies and (scenario.short or not short):
                for _ in range(scenario.times):
                    number += 2
                    yield Request(number, scenario, proxy, mode)
    assert number + 1 < REQUESTS_MAX, "each request has addresses of its own"


def client_hello(name: str) -> bytes:
    """A TLS client hello; without a server name for ""."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    with_name = context.wrap_bio(coming, going, server_hostname=name or None)
    try:
        with_name.do_handshake()
    except ssl.SSLWantReadError:
        return going.read()
    raise AssertionError("a handshake needs an answer")
