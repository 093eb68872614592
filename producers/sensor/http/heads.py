"""Heads of HTTP requests and responses to and from proxies, and which fields are reported: pure, and safe against any bytes.

Sources: RFC 9112 sections 2, 3, 5 and 6 (request line, target, fields, framing), RFC 9110 section 9.3.6 (CONNECT), RFC 1945
section 4.1 (simple requests of HTTP/0.9). Proxies accept more than these allow, so the parser is as lenient as proxies are. A
host is reported only if proxies agree on it. A head that two proxies parse differently has no host, and `others` contains each
possible host. The only reported parts of a head are the method, the target, the host and the user agent. The target has no
credentials, and no query unless configured.
"""

from __future__ import annotations

import re
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from producers.sensor.http.hosts import Authority, authorities_in, authority_of
from schemas.address import authority
from schemas.events import UNNAMED_TARGET
from schemas.logins import without_logins

TARGET_CHARS_MAX = 2_048
USER_AGENT_CHARS_MAX = 256
CHUNKED, UNKNOWN = -1, -2
"""Values in place of a body's length: chunked, or unknown."""
LENGTH_MAX = 2**62
SCHEME_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
TUNNEL_PORTS = (443, 80)
"""Ports for a CONNECT without a port: squid, tinyproxy, privoxy and proxy.py use the first one, goproxy the second one."""
NO_METHOD = "?"
"""Value in place of a method, for bytes that are no request."""
HTTP_2_PREFACE_METHOD = b"PRI"
"""RFC 9113 section 3.4: the following bytes are HTTP/2, which is not parsed."""
_REQUEST = re.compile(rb"([A-Z][A-Z0-9_-]{0,31}) ([!-~\x80-\xff]+) (HTTP/1\.[0-9])")
REQUEST_BEGINS = re.compile(_REQUEST.pattern + rb"\r?\n")
FOUND_REQUEST = re.compile(rb"(?=(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE) )" + REQUEST_BEGINS.pattern)
"""A request line found after a gap, of which the first bytes may be missing. No method in this pattern is the end of another
method, as PATCH is the end of PROPPATCH."""
MAY_BEGIN = re.compile(rb"[\t\x0b\x0c\r -~]")
"""The first bytes that at least one proxy accepts at the beginning of a request."""
_METHOD = re.compile(rb"[A-Za-z][A-Za-z0-9_-]{0,31}")
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_VERSION = re.compile(rb"HTTP/[!-~]{0,16}", re.IGNORECASE)
_VERSION_1 = re.compile(rb"HTTP/1\.[0-9]{1,9}", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?:[ \r\n]|$)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r]*)")
_LINE_END = re.compile(rb"\r?\n")
_ABSOLUTE = re.compile(r"([A-Za-z]+)://([^/?#\\]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_ORIGIN = re.compile(r"(/[^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]+|[/\\]{2,}")
_TUNNEL = re.compile(r"(?:https?://)?([^/?#\\]+)(?:/[^@]*)?", re.IGNORECASE | re.DOTALL)
_BETWEEN = re.compile(r"([/?&=])")
_HOST, _LENGTH, _CODING = b"host", b"content-length", b"transfer-encoding"
_WANTED = frozenset({_HOST, b"user-agent", _LENGTH, _CODING})
_DOUBTFUL = b""
"""Value of a field that proxies parse in several ways. It is not a valid host, length or coding."""


class Urls(StrEnum):
    """The reported part of a URL."""

    FULL = "full"
    PATH = "path"
    HOST = "host"


class Request(NamedTuple):
    """The parsed head of a request."""

    method: str
    target: str
    """The target as reported; `UNNAMED_TARGET` if proxies do not agree on the host."""
    host: str
    """The destination host, normalised: of the target, or of the Host field if the target has none. "" if proxies do not agree on
    it, or there is none."""
    port: int
    named: str
    """The host in the Host field, normalised."""
    user_agent: str
    body: int
    """Length of the body in bytes, or CHUNKED or UNKNOWN."""
    others: tuple[Authority, ...] = ()
    """Other hosts that a proxy may connect to."""
    is_readable: bool = True
    """False if the request line, the host or the length of the body is ambiguous or unparseable."""

    def in_doubt(self) -> Request:
        """Return the request as unreadable, for use when the proxy may have received other bytes than were read."""
        others = ((self.host, self.port), *self.others) if self.host else self.others
        return self._replace(target=UNNAMED_TARGET, host="", port=0, others=others, is_readable=False)


class First(Enum):
    """The kind of the first line that a client sends."""

    HEAD = auto()
    """The first line of a head, which ends with an empty line."""
    ALONE = auto()
    """A request without further head lines; proxies act on it at once."""
    FOREIGN = auto()
    """No request."""


class _Line(NamedTuple):
    method: bytes
    target: bytes
    version: bytes
    """b"" if the line has no version."""


class _Target(NamedTuple):
    text: str
    host: str
    port: int
    others: tuple[Authority, ...] = ()
    is_readable: bool = True


def status_of(answer: bytes) -> int | None:
    """Return the status of a response that begins here, or None."""
    found = _STATUS.match(answer)
    return int(found[1]) if found else None


def first_of(line: bytes, *, in_tunnel: bool = False) -> First:
    """Classify a client's first line, passed without its newline. If `in_tunnel`, it may be of another protocol than HTTP."""
    read = _line_of(line)
    if read is None or read.method == HTTP_2_PREFACE_METHOD:
        return First.FOREIGN
    if _VERSION_1.fullmatch(read.version):
        return First.HEAD
    is_request = read.version or b"://" in read.target or (not in_tunnel and read.method.upper() in _METHODS)
    return First.ALONE if is_request else First.FOREIGN


def request_of(head: bytes, urls: Urls) -> Request:
    """Parse a head, passed without its final empty line."""
    first, *lines = _LINE_END.split(head)
    usual = _REQUEST.fullmatch(first)
    line = _Line(*usual.groups()) if usual else _line_of(first)
    if line is None:
        return foreign(head)
    fields = _fields(lines)
    named = _named(fields[_HOST]) if _HOST in fields else ("", 0)
    method = line.method.upper().decode("ascii", "replace")
    is_method = usual is not None or _METHOD.fullmatch(line.method) is not None
    if is_method:
        target = _target(method, line.target, named, urls, is_usual=usual is not None or line.method.isupper())
    else:
        target = _unnamed(line.target, named)
    if not target.host and _HOST in fields and not named[0]:
        others = (one for host in fields[_HOST] for one in authorities_in(_text(host), 80))
        target = _Target(UNNAMED_TARGET, "", 0, (*target.others, *others), is_readable=False)
    body = _body(fields, is_1_0=line.version.endswith(b"/1.0"))
    return Request(
        method if is_method else NO_METHOD,
        target.text,
        target.host,
        target.port,
        named[0] if target.host or target.text == UNNAMED_TARGET else "",
        _text(fields.get(b"user-agent", [b""])[0])[:USER_AGENT_CHARS_MAX],
        body,
        target.others,
        target.is_readable and body != UNKNOWN,
    )


def foreign(begin: bytes) -> Request:
    """Return a placeholder for bytes that are no request, or for a head that is too long.

    `others` contains the hosts that the first line may name.
    """
    line = begin.partition(b"\n")[0]
    read = _line_of(line)
    method = NO_METHOD
    others: tuple[Authority, ...] = ()
    if read is not None and (first_of(line) is not First.FOREIGN or read.method == HTTP_2_PREFACE_METHOD):
        method = read.method.upper().decode("ascii") if _METHOD.fullmatch(read.method) else NO_METHOD
        others = _unnamed(read.target, ("", 0)).others
    return Request(method, UNNAMED_TARGET, "", 0, "", "", UNKNOWN, others, is_readable=False)


def _named(hosts: list[bytes]) -> Authority:
    """Parse the Host fields; ("", 0) if they differ or contain user information, which RFC 9110 section 7.2 excludes."""
    host = _text(hosts[0]).lower()
    if "@" in host or any(_text(other).lower() != host for other in hosts[1:]):
        return "", 0
    return authority_of(host, 80)


def _line_of(line: bytes) -> _Line | None:
    """Split a request line at any white space; None if there is no target."""
    words = line.split(None, 1)
    if len(words) != 2:
        return None
    method, rest = words[0], words[1].rstrip()
    target, *last = rest.rsplit(None, 1)
    if last and _VERSION.fullmatch(last[0]):
        return _Line(method, target, last[0])
    return _Line(method, rest, b"")


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    """Return the values of the wanted fields by lower-case name. A malformed line that may be such a field makes it ambiguous."""
    found: dict[bytes, list[bytes]] = {}
    name = b""
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            _doubt(found, name if line[:1] in (b" ", b"\t") else b"", line.lower())
            continue
        name = field[1].lower()
        if name in _WANTED:
            found.setdefault(name, []).append(field[2].strip(b" \t"))
    return found


def _doubt(found: dict[bytes, list[bytes]], continued: bytes, line: bytes) -> None:
    """Mark the fields made ambiguous by a malformed line, which proxies may take for a field or for a continuation.

    Source: RFC 9112 section 5.2 (line folding).
    """
    for name in (_HOST, _LENGTH, _CODING):
        if name == continued or name in line or (name is _LENGTH and not line.strip()):
            found.setdefault(name, []).append(_DOUBTFUL)


def _target(method: str, raw: bytes, named: Authority, urls: Urls, *, is_usual: bool) -> _Target:
    """Parse a target. `is_usual` states whether the method is in upper case.

    Some proxies do not recognise a method in lower case and use the Host field.
    """
    text = _text(raw)
    if method == "CONNECT":
        return _tunnel(text, raw, named, is_usual=is_usual)
    if text == "*":
        return _Target(text, *named)
    origin = _ORIGIN.fullmatch(text)
    if origin is not None:
        shown = _shown(origin[1], origin[2], urls)
        if not text.startswith("//"):
            return _Target(shown, *named)
        # Some proxies parse the text after `//` as an authority. Keep the target: ordinary servers get this form too.
        return _unnamed(raw, named)._replace(text=shown)
    absolute = _ABSOLUTE.fullmatch(text)
    scheme = absolute[1].lower() if absolute else ""
    usual = SCHEME_PORTS.get(scheme, 0)
    if absolute is None or not usual or (absolute[3] and not absolute[3].startswith("/")):
        return _unnamed(raw, named)
    host, port = authority_of(absolute[2], usual)
    if not host or (not absolute[3] and "@" in text[absolute.end(2) :].partition("/")[0]):
        # Some proxies parse an authority up to the first slash: http://a.example?@b.example/
        return _unnamed(raw, named)
    place = _spelled(host, 0 if port == usual else port)
    shown = f"{scheme}://{place}{_shown(absolute[3] or '/', absolute[4], urls)}"[:TARGET_CHARS_MAX]
    if named[0] == host or not named[0]:
        return _Target(shown, host, port)
    if scheme != "http":
        # tinyproxy uses the Host field if it does not know the scheme.
        return _Target(UNNAMED_TARGET, "", 0, ((host, port), named))
    # By RFC 9112 section 3.2.2 the target decides; nginx can be configured to use the Host field instead.
    return _Target(shown, host, port, (named,))


def _tunnel(text: str, raw: bytes, named: Authority, *, is_usual: bool) -> _Target:
    """Parse the target of a CONNECT."""
    host, port = authority_of(text, 0)
    if not host and is_usual and (found := _TUNNEL.fullmatch(text)):
        host, port = authority_of(found[1], 0)
    if not host or "@" in text or not (is_usual or named in (("", 0), (host, port))):
        return _unnamed(raw, named, TUNNEL_PORTS)
    return _Target(authority(host, port), host, port)


def _unnamed(raw: bytes, named: Authority, default_ports: tuple[int, ...] = (80,)) -> _Target:
    """Return an unnamed target with each host that proxies may find in an ambiguous target or in the Host field."""
    region = raw[:TARGET_CHARS_MAX].decode("utf-8", "replace")
    scheme = _SCHEME.match(region)
    place = (region[scheme.end() :] if scheme else region).partition("/")[0]
    others = tuple(dict.fromkeys(one for port in default_ports for one in authorities_in(place, port)))
    return _Target(UNNAMED_TARGET, "", 0, (*others, named) if named[0] else others, is_readable=False)


def _shown(path: str, query: str | None, urls: Urls) -> str:
    if urls is Urls.HOST:
        return "/"
    whole = without_logins(path + (query or "") if urls is Urls.FULL else path)
    return (_without_user_names(whole) if "@" in whole else whole)[:TARGET_CHARS_MAX]


def _without_user_names(path: str) -> str:
    """Remove possible logins from a path: `x//user@host/`, `/user:password@host/`."""
    parts = _BETWEEN.split(path)
    for place, part in enumerate(parts):
        login, at, host = part.rpartition("@")
        if at and (":" in login or parts[max(place - 2, 0) : place] == ["", "/"]):
            parts[place] = host
    return "".join(parts)


def _spelled(host: str, port: int) -> str:
    return authority(host, port) if port else f"[{host}]" if ":" in host else host


def _body(fields: dict[bytes, list[bytes]], *, is_1_0: bool) -> int:
    codings, lengths = fields.get(_CODING), fields.get(_LENGTH)
    if codings is not None:
        plain = len(codings) == 1 and codings[0].lower() == b"chunked"
        return CHUNKED if plain and lengths is None and not is_1_0 else UNKNOWN
    if lengths is None:
        return 0
    lengths_given = {part.strip() for value in lengths for part in value.split(b",")}
    digits = lengths_given.pop()
    if lengths_given or not digits.isdigit() or len(digits) > len(str(LENGTH_MAX)) or int(digits) > LENGTH_MAX:
        return UNKNOWN
    return int(digits)


def _text(raw: bytes) -> str:
    """Decode bytes of a head; escape invalid UTF-8 and non-printable characters."""
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
