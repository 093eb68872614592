"""What the logs of all proxies have in common: addresses, counts and times as text, and the requested destination.

A request to a proxy is a CONNECT or has an absolute URI as its target (RFC 9112 section 3.2). Any other was made to the
machine itself, as to a web server, and names no destination.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

from schemas.address import REMEMBERED_LENGTH_MAX, canonical_ip, split_authority, without_userinfo
from schemas.clock import LATEST, MICROS, parse_micros
from schemas.dialect import Dates, Dialect, Framing, Sensor, SensorKind
from schemas.events import TEXT_CHARS_MAX, Ignored, Micros, Parsed, ProxyDecision, ProxyLogged, Reject
from schemas.logins import has_userinfo
from schemas.parsers.common.carriers import Carried, carried
from schemas.parsers.common.memoize import read_once
from schemas.parsers.common.rejects import FAULTS, reject_of
from schemas.parsers.common.values import PORT_MAX, STATUS_MAX

COUNT_DIGITS_MAX = 18
"""A larger number of bytes or milliseconds is none, and would not fit where rows and state keep it."""
ADDRESS_CHARS_MAX = 64
CONNECT = "CONNECT"
NO_TUNNEL = 300
"""From this status on a CONNECT made no tunnel (RFC 9110 section 9.3.6)."""
SIGN_IN = 407
GATEWAY_FAILED = frozenset({502, 503, 504})
"""Statuses of a gateway that got no answer (RFC 9110 section 15.6), be it the proxy or a server."""
METHOD_CHARS_MAX = 64
PAIRS_MAX = 32_768
"""Pairs of `key=value` that are read of a line. A client writes some of them itself: 64 KiB of header fields hold 21,845."""
PORTS = {"http": 80, "https": 443, "ftp": 21, "tunnel": 443, "ws": 80, "wss": 443}
"""Default ports of the schemes that proxies write; `tunnel` is Cisco's for CONNECT."""
INTERNAL = frozenset({"cache_object", "internal", "mgr"})
"""Schemes of requests to the proxy about itself."""
_NO_PORT = PORT_MAX + 1
"""Stands for a port that is not written. A port that is written is lower."""
_TARGET = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.\-]{0,19})://)?([^/?#\\]*)(\\?)")
SCHEME_CHARS_MAX = len("://") + 20
"""A scheme of so many characters with what follows it."""
SECONDS_DIGITS = 10
_AFTER_SECONDS = {"": 0, **{f".{millis:03d}": millis * 1_000 for millis in range(1_000)}}
"""Microseconds by what stands behind the seconds since 1970, of a time with milliseconds or none."""
_EPOCH = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?")
_CLF = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d)(?:(\.\d{1,6}))?(?: ([+-]\d{4}))?")
MONTHS = {
    name: f"{at:02d}"
    for at, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)
}


def proxy_dialect(
    name: str,
    parse: Callable[[bytes], Parsed],
    claims: Callable[[bytes], bool],
    *,
    title: str,
    gives: str,
    written_at: Callable[[bytes], Micros] | None = None,
    device_of: Callable[[bytes], str] | None = None,
    framing: Callable[[Dates], Framing] | None = None,
) -> Dialect:
    """Declare the log of a proxy, a dialect with one sensor of its name.

    Without `written_at` and `device_of` a line is parsed for its time and its client's address.
    """
    parse_once = read_once(parse)
    return Dialect(
        name,
        parse,
        written_at or (lambda raw: time_in(parse_once(raw))),
        device_of or (lambda raw: device_in(parse_once(raw))),
        title=title,
        gives=gives,
        claims=claims,
        sensors=(Sensor(name, SensorKind.PROXY_LOG, (ProxyLogged,)),),
        framing=framing,
    )


def uncarried_first(read: Callable[[Carried], Parsed]) -> Callable[[bytes], Parsed]:
    """Return a parser: `read` gets the line without its carrier; a line that it cannot read is rejected."""

    def parse(raw: bytes) -> Parsed:
        try:
            return read(carried(raw))
        except FAULTS as error:
            return reject_of(error, raw)

    return parse


def device_in(parsed: Parsed) -> str:
    """The device of what was read, "" of a reject."""
    return "" if isinstance(parsed, Reject) else parsed.device


def time_in(parsed: Parsed) -> Micros:
    """The time of what was read, 0 of a reject."""
    return 0 if isinstance(parsed, Reject) else parsed.at


def address(text: str, what: str) -> str:
    """Canonical address; raises ValueError on what is none."""
    if len(text) > ADDRESS_CHARS_MAX:
        raise ValueError(f"{what} of {len(text)} characters")
    try:
        return canonical_ip(text.strip("[]"))
    except ValueError:
        raise ValueError(f"{what} is {text!r}, not an address") from None


def maybe_address(text: str) -> str:
    """Canonical address, "" for anything else: a name, a dash, a masked address."""
    return _maybe_address(text) if len(text) <= ADDRESS_CHARS_MAX else ""


@lru_cache(maxsize=16_384)
def _maybe_address(text: str) -> str:
    try:
        return address(text, "address")
    except ValueError:
        return ""


def endpoint(text: str, what: str) -> tuple[str, int]:
    """Address and port of `1.2.3.4:5`, `[::1]:5` or `::1:5`."""
    host, _, number = text.rpartition(":")
    return address(host, what), port(number, what)


def port(text: str, what: str) -> int:
    """A port from 0 to 65535; a dash is 0."""
    found = count(text, what) if text else None
    if found is None:
        return 0
    if found > PORT_MAX:
        raise ValueError(f"{what} has port {text[:20]!r}")
    return found


def count(text: str, what: str) -> int | None:
    """A whole number; None for a dash or nothing."""
    if text.isdigit() and text.isascii() and len(text) <= COUNT_DIGITS_MAX:
        return int(text)
    if not text or text == "-":
        return None
    raise ValueError(f"{what} is {text[:20]!r}, not a number")


@lru_cache(maxsize=1_024)  # what raises is not kept, and what does not is short
def status(text: str) -> int | None:
    """An HTTP status; None where there was no answer (`-`, 0, 000, -1)."""
    if text in ("-1", "0"):
        return None
    found = count(text, "status")
    if found is not None and found > STATUS_MAX:
        raise ValueError(f"status is {found}")
    return found or None


def millis(text: str, what: str = "elapsed") -> Micros:
    """Milliseconds as microseconds; 0 for a dash and for less than nothing, as clocks are set back."""
    if not text or text[0] == "-":
        return 0
    return 1_000 * (count(text, what) or 0)


def earlier(at: Micros, by: Micros) -> Micros:
    """So much earlier, but not before 1970."""
    if by > at:
        raise ValueError(f"it took {by // MICROS} seconds, which is longer than since 1970")
    return at - by


def later(at: Micros, by: Micros) -> Micros:
    """So much later, but not after 2200."""
    if at + by > LATEST:
        raise ValueError(f"it took {by // MICROS} seconds, which is until after 2200")
    return at + by


def epoch(text: str) -> Micros:
    """Seconds since 1970, with or without decimals."""
    after = _AFTER_SECONDS.get(text[SECONDS_DIGITS:])
    if after is not None and (whole := _whole_second(text[:SECONDS_DIGITS])) is not None:
        return whole + after  # nearly always, and fast
    found = _EPOCH.fullmatch(text)
    if found is None:
        raise ValueError(f"time is {text[:30]!r}, not seconds since 1970")
    micros = int(found[1]) * MICROS + int((found[2] or "0")[:6].ljust(6, "0"))
    if micros > LATEST:
        raise ValueError(f"time {text[:30]} is after 2200")
    return micros


@lru_cache(maxsize=8_192)
def _whole_second(text: str) -> Micros | None:
    """Return at most SECONDS_DIGITS digits as a time before 2200; None for anything else."""
    micros = int(text) * MICROS if text.isdigit() and text.isascii() else LATEST
    return micros if micros < LATEST else None


@lru_cache(maxsize=8_192)
def clf_time(text: str) -> Micros:
    """A time as web servers write it, `12/Sep/2024:12:38:20 +0530`; without a zone it is taken for UTC."""
    found = _CLF.fullmatch(text)
    if found is None or found[2] not in MONTHS:
        raise ValueError(f"time is {text[:40]!r}")
    day, month, year, clock, decimals, zone = found.groups()
    return parse_micros(f"{year}-{MONTHS[month]}-{day}T{clock}{decimals or ''}{zone or 'Z'}")


def destination(method: str, target: str, default_port: int = 0) -> tuple[str, int]:
    """Return host and port of a request's target: an authority, a URL, or a URL without scheme; ("", 0) if none is certain.

    A CONNECT target with userinfo has none (`schemas.logins.has_userinfo`). Only a scheme at the very beginning counts:
    another URL may be in the query. A backslash before the path is read differently by different programs.
    """
    if "@" in target and has_userinfo(method, target):
        return "", 0
    if "/" in target:  # what is behind the authority differs from request to request
        behind_scheme = target.find("://", 0, SCHEME_CHARS_MAX) + 3
        end = target.find("/", behind_scheme if behind_scheme > 2 else 0)
        target = target[:end] if end >= 0 else target
    is_short = len(target) <= REMEMBERED_LENGTH_MAX
    return _remembered(target, default_port) if is_short else _destination(target, default_port)


def _destination(target: str, default_port: int) -> tuple[str, int]:
    found = _TARGET.match(target)
    assert found is not None, "every part may be empty"
    scheme, authority, backslash = found.groups()
    if backslash or not authority:
        return "", 0
    written = PORTS.get(scheme.lower(), 0) if scheme else default_port
    host, number = split_authority(without_userinfo(authority), written or _NO_PORT)
    return (host, 0 if number == _NO_PORT else number) if host != "-" else ("", 0)


_remembered = lru_cache(maxsize=16_384)(_destination)


def host_of(name: str) -> str:
    """Return the host that a field names which holds a host alone, an IPv6 address with or without brackets; "" if none."""
    return destination(CONNECT, f"[{name}]" if ":" in name and name.count(":") > 1 and name[0] != "[" else name)[0]


def ignored_kind(method: str, target: str) -> str:
    """Return the kind as which a request without a destination is ignored; "" if it may name one."""
    if method in ("-", "") or target[:6] in ("-", "", "error:"):
        return "no_request"
    if method == CONNECT:
        return ""
    if target[0] in "/*":
        return "not_proxied"
    scheme, separator, _ = target[:24].partition("://")
    if not separator:
        return "no_destination"
    return "internal" if scheme.lower() in INTERNAL else ""


def logged(
    dialect: str,
    proxy: str,
    line: bytes,
    client: str,
    at: Micros,
    started: Micros,
    method: str,
    target: str,
    answer: int | None,
    decision: ProxyDecision,
    *,
    client_port: int = 0,
    proxy_ip: str = "",
    proxy_port: int = 0,
    asked: tuple[str, int] | None = None,
    upstream_ip: str = "",
    upstream_port: int = 0,
    sent: int | None = None,
    received: int | None = None,
    user: str = "",
) -> ProxyLogged | Ignored:
    """Return the event, or why there is none. `line`: without its carrier; `asked`: the destination if the target lacks it."""
    if asked is None:
        kind = ignored_kind(method, target)
        if kind:
            return Ignored(client, at, kind)
        asked = destination(method, target)
    elif "@" in target and has_userinfo(method, target):
        asked = "", 0
    host, number = asked
    if not host:
        return Ignored(client, at, "no_destination")
    if answer == SIGN_IN:
        decision = ProxyDecision.SIGN_IN
    elif method == CONNECT and answer is not None and answer >= NO_TUNNEL:
        if decision is ProxyDecision.SERVED:
            decision = ProxyDecision.FAILED
        upstream_ip, upstream_port = "", 0
    return ProxyLogged(
        client,
        at,
        client,
        client_port,
        proxy_ip,
        proxy_port,
        started,
        method[:METHOD_CHARS_MAX],
        target[:TEXT_CHARS_MAX],
        host,
        number,
        answer,
        decision,
        upstream_ip,
        upstream_port if upstream_ip else 0,
        sent,
        received,
        "" if user == "-" else user[:TEXT_CHARS_MAX],
        proxy,
        f"{dialect}/{client}/{at}/{crc32(line).to_bytes(4).hex()}",
        dialect,
    )
