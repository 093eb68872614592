"""The contents of a world: proxies, sites, programs and devices. Names and addresses are reserved or private ones.

kinds of proxies   confirmed   of the company, named in `correlation.proxies` (`confirmed_proxies`)
                   learnt      of the company, not named in the settings; the worker learns them from their requests
                   unknown     not of the company, used on few devices
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random
from typing import NamedTuple

from producers.simulation.outages import Outage, outages_of
from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros, ProtectionMode


class Remote(NamedTuple):
    """An address and port, with the address in both formats: Suricata writes IPv6 addresses in full."""

    ip: str
    port: int
    full_ip: str
    packed_ip: bytes
    kind: str = ""
    """`confirmed`, `learnt` or `unknown` for a proxy, `resolver` for the DNS server, "" for other hosts."""


class Program(NamedTuple):
    """A program that opens connections on a device."""

    name: str
    agent: str
    stays: bool
    """Whether it runs all the time and keeps its process id; others are started for each connection."""


class Listed(NamedTuple):
    """A domain on the deny list, and the actions of its rules in protection mode `block`."""

    host: str
    word: str
    number: int
    connect: str
    inside: str
    plain: str
    """The action (`drop`, `reject` or `alert`) on a plain request. `connect` is that on a CONNECT, `inside` that on a TLS server
    name in a tunnel."""


def remote(ip: str, port: int, kind: str = "") -> Remote:
    """Return a Remote with the address in all formats."""
    address = ip_address(ip)
    return Remote(str(address), port, address.exploded, address.packed, kind)


PROXY_NAME = "proxy.corp.test"
RESOLVER = remote("203.0.113.53", 53, "resolver")
PROXIES = (
    remote("10.250.0.10", 3128, "confirmed"),
    remote("10.250.0.11", 3128, "confirmed"),
    remote("10.250.0.20", 8080, "learnt"),
    remote("10.250.1.30", 8888, "learnt"),
)
PROXIES_V6 = (
    remote("2001:db8:51::10", 3128, "confirmed"),
    remote("2001:db8:51::20", 8080, "learnt"),
)
STRANGERS = (remote("198.51.100.77", 8443, "unknown"), remote("192.0.2.201", 1080, "unknown"))
TLS_PROXY = remote("10.250.0.10", 3129, "confirmed")

SITES = tuple(
    f"{label}.{domain}"
    for domain in (
        *(f"good{number}.example" for number in range(1, 40)),
        *(f"shop{number}.test" for number in range(1, 20)),
        "cdn.test",
        "xn--bcher-kva.example",
    )
    for label in ("www", "api", "img", "static", "login", "files", "mail")
)
SERVERS = tuple(remote(f"203.0.113.{last}", 443) for last in range(60, 220))
LISTED = (
    Listed("bad1.example", "bad1_example", 9000000, "drop", "drop", "drop"),
    Listed("login.bad2.example", "bad2_example", 9000010, "reject", "reject", "reject"),
    Listed("files.bad3.test", "bad3_test", 9000020, "reject", "reject", "reject"),
    Listed("cdn.bad4.example", "bad4_example", 9000030, "alert", "drop", "drop"),
    Listed("track.bad5.example", "bad5_example", 9000040, "alert", "alert", "alert"),
)
_CHROMIUM = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.8078.79 Safari/537.36"
)
BROWSERS = (
    Program("chromium", _CHROMIUM, True),
    Program("firefox", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", True),
)
TOOLS = (
    Program("curl", "curl/8.14.1", False),
    Program("wget", "Wget/1.25.0", False),
    Program("python3", "python-requests/2.34.2", False),
    Program("apt-get", "Debian APT-HTTP/1.3 (3.0.3)", False),
)
AGENT = Program("backup-agent", "backup-agent/4.2", True)
PATHS = (
    ("/index.html", "text/html"),
    ("/img/0.png", "image/png"),
    ("/img/7.png", "image/png"),
    ("/data.json", "application/json"),
    ("/api", "text/plain"),
    ("/big.bin", "application/octet-stream"),
    ("/status/204", "text/html"),
)


def device_name(number: int) -> str:
    """Return the name of a device; devices are numbered from 0."""
    return f"ws-{number:05d}"


def confirmed_proxies() -> tuple[str, ...]:
    """Return the confirmed proxies in the format of `correlation.proxies`."""
    known = [*PROXIES, *PROXIES_V6]
    return tuple(
        f"proxy-{number}={f'[{one.ip}]' if ':' in one.ip else one.ip}:{one.port}"
        for number, one in enumerate(known, 1)
        if one.kind == "confirmed"
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """The properties of a device, which are constant. Times are by its own clock."""

    name: str
    local: tuple[Remote, Remote | None]
    """Its addresses, IPv4 and IPv6 (port 0)."""
    user: str
    skew: Micros
    """Microseconds by which its clock is ahead of a correct clock."""
    activity: float
    inline: bool
    """Whether its network sensor is in the path of the packets and can block them."""
    knows_stranger: bool
    """Whether a program on it uses an unknown proxy."""
    modes: tuple[tuple[Micros, ProtectionMode], ...]
    """Its protection modes in order, each with the time from which it applies."""
    outages: tuple[Outage, ...] = field(default=())

    def mode_at(self, at: Micros) -> ProtectionMode:
        """Return the protection mode at a time."""
        held = self.modes[0][1]
        for since, mode in self.modes:
            if since <= at:
                held = mode
        return held


_FIRST_MODES = (ProtectionMode.BLOCK, ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF)


def profile_of(world: WorldSettings, number: int, chance: Random) -> Profile:
    """Draw the properties of a device from the random numbers `chance`."""
    draw = chance.random
    skew = round((2 * draw() - 1) * world.skew_secs_max * MICROS)
    if draw() < world.astray_share:
        skew += round((1 + 5 * draw()) * 3_600 * MICROS) * (1 if draw() < 0.5 else -1)
    v6 = remote(f"2001:db8:51:1::{number >> 16:x}:{number & 0xFFFF:x}", 0) if draw() < 0.15 else None
    modes = [(0, _FIRST_MODES[int(draw() * 4)])]
    for _ in range(2):
        if draw() < 0.2:
            since = world.begin + skew + int((0.1 + 0.8 * draw()) * (world.end - world.begin))
            modes.append((since, _FIRST_MODES[int(draw() * 4)]))
    return Profile(
        device_name(number),
        (remote(f"10.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}", 0), v6),
        f"user{int(draw() * 10_000):04d}",
        skew,
        0.5 + draw(),
        any(mode is ProtectionMode.BLOCK for _, mode in modes),
        draw() < 0.1,
        tuple(sorted(modes, key=lambda one: one[0])),
        outages_of(world, skew, chance) if world.gaps else (),
    )
