"""Heads of HTTP requests and answers as they go to a proxy, and how much of them is told: pure, and safe against any bytes.

Sources: RFC 9112 sections 2, 3, 5 and 6 (request line, target, fields, framing), RFC 9110 section 9.3.6 (CONNECT). A head that
could be read in two ways is not read. Of what is read nothing is told but the method, the target without credentials and, unless
it is asked for, without its query, the host and the user agent.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from schemas.address import HOST_LENGTH_MAX, split_authority
from schemas.logins import without_logins

TARGET_CHARS_MAX = 2_048
USER_AGENT_CHARS_MAX = 256
CHUNKED, UNKNOWN = -1, -2
"""In place of a body's length: in chunks, or not to be told."""
LENGTH_MAX = 2**62
SCHEME_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
_REQUEST = re.compile(rb"([A-Z][A-Z0-9_-]{0,31}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
REQUEST_BEGINS = re.compile(_REQUEST.pattern + rb"\r?\n")
FOUND_REQUEST = re.compile(rb"(?=(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE) )" + REQUEST_BEGINS.pattern)
"""One that is found after a gap: its method is no other one's end, such as PATCH of PROPPATCH."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?:[ \r\n]|$)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r]*)")
_LINE_END = re.compile(rb"\r?\n")
_ABSOLUTE = re.compile(r"([A-Za-z]+)://([^/?#\\]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_ORIGIN = re.compile(r"(/[^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_BETWEEN = re.compile(r"([/?&=])")
_WANTED = frozenset({b"host", b"user-agent", b"content-length", b"transfer-encoding"})


class Urls(StrEnum):
    """How much of a URL is told."""

    FULL = "full"
    PATH = "path"
    HOST = "host"


class Request(NamedTuple):
    """What a request's head says."""

    method: str
    target: str
    host: str
    """Whom it is for: of the target, or of the Host field where the target names nobody; normalised, "" where it is not told."""
    port: int
    named: str
    """What the Host field says, normalised."""
    user_agent: str
    body: int
    """Bytes of the body, or CHUNKED or UNKNOWN."""


def status_of(answer: bytes) -> int | None:
    """The status of an answer that begins here; None where none does."""
    found = _STATUS.match(answer)
    return int(found[1]) if found else None


def request_of(head: bytes, urls: Urls) -> Request | None:
    """Read a head, without the empty line at its end; None where it is not well-formed."""
    first, *lines = _LINE_END.split(head)
    request = _REQUEST.fullmatch(first)
    fields = _fields(lines)
    if request is None or fields is None:
        return None
    method = request[1].decode("ascii")
    hosts = {_text(value).lower() for value in fields.get(b"host", ())}
    named, named_port = _authority(hosts.pop(), 80) if len(hosts) == 1 else ("", 0)
    read = _target(method, _text(request[2]), urls)
    if read is None:
        return None
    target, host, port = read
    agent = _text(fields.get(b"user-agent", [b""])[0])[:USER_AGENT_CHARS_MAX]
    if not host:
        host, port = named, named_port
    return Request(method, target, host, port, named, agent, _body(fields, is_1_0=request[3] == b"0"))


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]] | None:
    """Those fields that we read, names in lower case; None where one is not well-formed."""
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name = field[1].lower()
        if name in _WANTED:
            found.setdefault(name, []).append(field[2].strip(b" \t"))
    return found


def _target(method: str, text: str, urls: Urls) -> tuple[str, str, int] | None:
    """A target as it is told, and the host and port that it names, ("", 0) where it names none; None where it is no target."""
    if method == "CONNECT":
        host, port = _authority(text, 0)
        return (_spelled(host, port), host, port) if host else None
    if text == "*":
        return text, "", 0
    origin = _ORIGIN.fullmatch(text)
    if origin is not None:
        return _told(origin[1], origin[2], urls), "", 0
    absolute = _ABSOLUTE.fullmatch(text)
    scheme = absolute[1].lower() if absolute else ""
    usual = SCHEME_PORTS.get(scheme)
    if absolute is None or usual is None or (absolute[3] and not absolute[3].startswith("/")):
        return None
    host, port = _authority(absolute[2], usual)
    if not host:
        return None
    place = _spelled(host, 0 if port == usual else port)
    return f"{scheme}://{place}{_told(absolute[3] or '/', absolute[4], urls)}"[:TARGET_CHARS_MAX], host, port


def _told(path: str, query: str | None, urls: Urls) -> str:
    if urls is Urls.HOST:
        return "/"
    whole = without_logins(path + (query or "") if urls is Urls.FULL else path)
    return (_without_user_names(whole) if "@" in whole else whole)[:TARGET_CHARS_MAX]


def _without_user_names(path: str) -> str:
    """The path without what looks like a login and need not be one: `x//user@host/`, `/user:password@host/`."""
    parts = _BETWEEN.split(path)
    for place, part in enumerate(parts):
        login, at, host = part.rpartition("@")
        if at and (":" in login or parts[max(place - 2, 0) : place] == ["", "/"]):
            parts[place] = host
    return "".join(parts)


def _authority(text: str, port: int) -> tuple[str, int]:
    """Host and port of an authority that can be read in one way only, else ("", 0)."""
    if len(text) > 2 * HOST_LENGTH_MAX or text.count("@") > 1 or not text.isprintable() or set("/\\?# ") & set(text):
        return "", 0
    return split_authority(text.rpartition("@")[2], port)


def _spelled(host: str, port: int) -> str:
    place = f"[{host}]" if ":" in host else host
    return f"{place}:{port}" if port else place


def _body(fields: dict[bytes, list[bytes]], *, is_1_0: bool) -> int:
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        plain = len(codings) == 1 and codings[0].lower() == b"chunked"
        return CHUNKED if plain and lengths is None and not is_1_0 else UNKNOWN
    if lengths is None:
        return 0
    said = {part.strip() for value in lengths for part in value.split(b",")}
    digits = said.pop()
    if said or not digits.isdigit() or len(digits) > len(str(LENGTH_MAX)) or int(digits) > LENGTH_MAX:
        return UNKNOWN
    return int(digits)


def _text(raw: bytes) -> str:
    """Bytes of a head as text; what is no UTF-8, or cannot be seen, in escapes."""
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
