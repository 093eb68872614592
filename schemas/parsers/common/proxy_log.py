"""Common parts of all proxy logs: addresses, counts and times as text, and the requested destination.

A request to a proxy is a CONNECT or has an absolute URI as its target (RFC 9112 section 3.2). Any other request was made to the
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
"""Maximum number of digits of a count of bytes or milliseconds; rows and state could not hold a larger number."""
ADDRESS_CHARS_MAX = 64
CONNECT = "CONNECT"
NO_TUNNEL = 300
"""Lowest status with which a CONNECT made no tunnel (RFC 9110 section 9.3.6)."""
SIGN_IN = 407
GATEWAY_FAILED = frozenset({502, 503, 504})
"""Statuses of a gateway (the proxy or a server) that received no answer (RFC 9110 section 15.6)."""
METHOD_CHARS_MAX = 64
PAIRS_MAX = 32_768
"""Maximum number of `key=value` pairs that are read from a line. A client writes some of them: 64 KiB of header fields hold
21,845."""
PORTS = {"http": 80, "https": 443, "ftp": 21, "tunnel": 443, "ws": 80, "wss": 443}
"""Default ports of the schemes that proxies write; `tunnel` is Cisco's for CONNECT."""
INTERNAL = frozenset({"cache_object", "internal", "mgr"})
"""Schemes of requests for the proxy itself."""
_NO_PORT = PORT_MAX + 1
"""Stands for a missing port; it is higher than every valid port."""
_TARGET = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.\-]{0,19})://)?([^/?#\\]*)(\\?)")
SCHEME_CHARS_MAX = len("://") + 20
"""Number of characters within which a scheme ends, including `://`."""
SECONDS_DIGITS = 10
_AFTER_SECONDS = {"": 0, **{f".{millis:03d}": millis * 1_000 for millis in range(1_000)}}
"""Microseconds by the text after the whole seconds: three decimals or nothing."""
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
    """Return the dialect of a proxy log, with one sensor of the same name.

    Without `written_at` and `device_of` a line is parsed to get its time and its client's address.
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
    """Return a parser that removes the carrier, calls `read`, and rejects a line that `read` cannot read."""

    def parse(raw: bytes) -> Parsed:
        try:
            return read(carried(raw))
        except FAULTS as error:
            return reject_of(error, raw)

    return parse


def device_in(parsed: Parsed) -> str:
    """Return the device of a parsed line; "" for a reject."""
    return "" if isinstance(parsed, Reject) else parsed.device


def time_in(parsed: Parsed) -> Micros:
    """Return the time of a parsed line; 0 for a reject."""
    return 0 if isinstance(parsed, Reject) else parsed.at


def address(text: str, what: str) -> str:
    """Return the canonical form of an IP address. Raises ValueError for any other text; `what` names the field in the error."""
    if len(text) > ADDRESS_CHARS_MAX:
        raise ValueError(f"{what} of {len(text)} characters")
    try:
        return canonical_ip(text.strip("[]"))
    except ValueError:
        raise ValueError(f"{what} is {text!r}, not an address") from None


def maybe_address(text: str) -> str:
    """Return the canonical form of an IP address; "" for any other text, such as a name, a dash or a masked address."""
    return _maybe_address(text) if len(text) <= ADDRESS_CHARS_MAX else ""


@lru_cache(maxsize=16_384)
def _maybe_address(text: str) -> str:
    try:
        return address(text, "address")
    except ValueError:
        return ""


def endpoint(text: str, what: str) -> tuple[str, int]:
    """Parse `1.2.3.4:5`, `[::1]:5` or `::1:5` to address and port. Raises ValueError."""
    host, _, number = text.rpartition(":")
    return address(host, what), port(number, what)


def port(text: str, what: str) -> int:
    """Parse a port from 0 to 65535; a dash means 0. Raises ValueError."""
    found = count(text, what) if text else None
    if found is None:
        return 0
    if found > PORT_MAX:
        raise ValueError(f"{what} has port {text[:20]!r}")
    return found


def count(text: str, what: str) -> int | None:
    """Parse a whole number; None for a dash or an empty text. Raises ValueError."""
    if text.isdigit() and text.isascii() and len(text) <= COUNT_DIGITS_MAX:
        return int(text)
    if not text or text == "-":
        return None
    raise ValueError(f"{what} is {text[:20]!r}, not a number")


@lru_cache(maxsize=1_024)  # errors are not cached, and valid texts are short
def status(text: str) -> int | None:
    """Parse an HTTP status; None if there was no response (`-`, 0, 000, -1)."""
    if text in ("-1", "0"):
        return None
    found = count(text, "status")
    if found is not None and found > STATUS_MAX:
        raise ValueError(f"status is {found}")
    return found or None


def millis(text: str, what: str = "elapsed") -> Micros:
    """Convert milliseconds to microseconds; 0 for a dash and for a negative number, which occurs when a clock is set back."""
    if not text or text[0] == "-":
        return 0
    return 1_000 * (count(text, what) or 0)


def earlier(at: Micros, by: Micros) -> Micros:
    """Return `at` minus `by`, but not a time before 1970."""
    if by > at:
        raise ValueError(f"it took {by // MICROS} seconds, which is longer than since 1970")
    return at - by


def later(at: Micros, by: Micros) -> Micros:
    """Return `at` plus `by`, but not a time after 2200."""
    if at + by > LATEST:
        raise ValueError(f"it took {by // MICROS} seconds, which is until after 2200")
    return at + by


def epoch(text: str) -> Micros:
    """Parse seconds since 1970, with or without decimals, to microseconds. Raises ValueError."""
    after = _AFTER_SECONDS.get(text[SECONDS_DIGITS:])
    if after is not None and (whole := _whole_second(text[:SECONDS_DIGITS])) is not None:
        return whole + after  # the fast path
    found = _EPOCH.fullmatch(text)
    if found is None:
        raise ValueError(f"time is {text[:30]!r}, not seconds since 1970")
    micros = int(found[1]) * MICROS + int((found[2] or "0")[:6].ljust(6, "0"))
    if micros > LATEST:
        raise ValueError(f"time {text[:30]} is after 2200")
    return micros


@lru_cache(maxsize=8_192)
def _whole_second(text: str) -> Micros | None:
    """Parse at most SECONDS_DIGITS digits as seconds; None for any other text and for a time after 2200."""
    micros = int(text) * MICROS if text.isdigit() and text.isascii() else LATEST
    return micros if micros < LATEST else None


@lru_cache(maxsize=8_192)
def clf_time(text: str) -> Micros:
    """Parse a time in the format of web servers, `12/Sep/2024:12:38:20 +0530`; without a zone it is taken as UTC."""
    found = _CLF.fullmatch(text)
    if found is None or found[2] not in MONTHS:
        raise ValueError(f"time is {text[:40]!r}")
    day, month, year, clock, decimals, zone = found.groups()
    return parse_micros(f"{year}-{MONTHS[month]}-{day}T{clock}{decimals or ''}{zone or 'Z'}")


def destination(method: str, target: str, default_port: int = 0) -> tuple[str, int]:
    """Return host and port of a request's target: an authority, a URL, or a URL without scheme; ("", 0) if they are uncertain.

    A CONNECT target with userinfo has no certain host (`schemas.logins.has_userinfo`). A scheme counts only at the beginning of
    the target, as the query may contain another URL. Programs disagree on a backslash before the path, so it makes the host
    uncertain.
    """
    if "@" in target and has_userinfo(method, target):
        return "", 0
    if "/" in target:  # the part after the authority differs between requests, so it is not part of the cache's key
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
    """Return the host from a field that contains only a host; an IPv6 address may have brackets. "" if there is none."""
    return destination(CONNECT, f"[{name}]" if ":" in name and name.count(":") > 1 and name[0] != "[" else name)[0]


def ignored_kind(method: str, target: str) -> str:
    """Return the kind under which a request without a destination is ignored; "" if it may name a destination."""
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
    """Return the event of an entry, or an Ignored or Reject.

    `line` is the entry without its carrier; `asked` is the destination, used if the target does not contain it.
    """
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
