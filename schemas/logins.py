r"""Logins in URLs: removed from what is stored or published, masked in lines that are rejected.

`http://user:password@host/` (RFC 3986 section 3.2.1) becomes `http://host/` in an event and `http://***@host/` in a reject, which
must still be readable after a fix. A URL may stand anywhere in a text: in the query or path of another one, where it may be
percent-encoded several times, in a command line, or in JSON, where slashes may be escaped.

| spelling | example |
|---|---|
| as it is | `http://user:password@host` |
| without a password, without a scheme | `http://user@host`, `//user:password@host` |
| percent-encoded | `http%3A%2F%2Fuser%3Apassword%40host`, `http:%2f%2fuser:password@host`, `http%253A%252F%252Fuser%2540host` |
| escaped in JSON | `http:\/\/user:password@host`, `http://user:password\u0040host` |

An authority ends at `/`, `?` or `#`, and here also at a blank, `"`, `<`, `>`, `|` and at `&name=`, so that an `@` further on does
not make a login of a host. The patterns begin with a literal and read each run once (possessive), so they are linear.
"""

from __future__ import annotations

import re
from itertools import chain, repeat

MASK = "***"
LOGINS_MAX = 10_000
"""Logins that are looked for in one text; what stands behind the last of them is cut off."""
CHARS_MAX = 65_536
"""A longer text in which there may be logins is cut; no request target is so long."""
SCHEME_CHARS_MAX = 24
"""The scheme of a target ends within so many characters, its `://` included."""

_AT_MARKS = ("@", "%40", "2540", "u0040")
"""One of these is in every text with a login; behind the last of them there is none."""
_CHARS = r'[^\s\x00/?#"<>|@%&\\]*+'
_AT = r"@|%(?:25){0,3}40"
_AT_IN_JSON = rf"{_AT}|\\{{1,8}}u0040"
_ODD = r"%(?!(?:25){0,3}40)|&(?![\w.\[\]-]*+=)|\\(?!\\{0,7}u0040)"
_ODD_ENCODED = r"%(?!(?P=depth)(?:2f|3f|23|26|3c|3e|22|20|7c)|(?:25){0,3}40)|\\"
_LOGIN = rf"(?:{_CHARS}(?:(?:{_ODD}){_CHARS})*+({_AT_IN_JSON}))++"
_LOGIN_ENCODED = rf"(?:{_CHARS}(?:(?:{_ODD_ENCODED}){_CHARS})*+({_AT}))++"
_NO_THIRD = "".join(f"(?<!{slash * 3})" for slash in ("%2f", "%252f", "%25252f", "%2525252f"))
"""Two slashes behind a third one do not begin an authority, spelled in either way."""
_SPELLINGS = tuple(
    (mark, re.compile(pattern, re.ASCII | re.IGNORECASE))
    for mark, pattern in (
        ("//", rf"(//)(?!/)(?:(?<=://)|(?<=%3a//)|(?<![\w.:/\\-]//)(?=[^\s/?#\"<>|@%&:]*+:|\*{{3}}@)){_LOGIN}"),
        (":\\", rf"(:\\{{1,8}}/\\{{1,8}}/){_LOGIN}"),
        ("%", rf"(%(?=2)(?P<depth>(?:25){{0,3}})2f%(?P=depth)2f){_NO_THIRD}(?!%(?P=depth)2f){_LOGIN_ENCODED}"),
    )
)
"""What each spelling contains, and its pattern: what stands before the login, the login, and the spelled `@` as last group."""
_AUTHORITY_END = re.compile(r"[/?#]")
_CUT_AUTHORITY = re.compile(
    r"(?:://|%(?:25){0,3}2f%(?:25){0,3}2f)(?:[^\s\x00/?#\"<>|%&]|%(?!(?:25){0,3}(?:2f|3f|23|26)))*+\Z",
    re.ASCII | re.IGNORECASE,
)
"""An authority that goes on to the end of a text."""


def without_logins(text: str, *, is_cut: bool = False) -> str:
    """Return a text without the logins of the URLs in it, so too without their `@`.

    Of a text that was cut off an authority at the end is removed as a whole: it may be the beginning of a login.
    """
    if any(at in text for at in _AT_MARKS):
        text = _replaced(text[:CHARS_MAX], "")
    return _CUT_AUTHORITY.sub("", text) if is_cut else text


def target_without_login(target: str, *, is_cut: bool = False) -> str:
    """Return a URL, with or without scheme, or a path without logins in it, its own authority's included."""
    begin = max(0, target.find("://", 0, SCHEME_CHARS_MAX) + 3) if "://" in target[:SCHEME_CHARS_MAX] else 0
    found = _AUTHORITY_END.search(target, begin)
    if found is None and is_cut:
        return target[:begin]
    at = target.rfind("@", begin, found.start() if found is not None else len(target))
    if at >= 0:
        target = target[:begin] + target[at + 1 :]
    return without_logins(target, is_cut=is_cut)


def has_userinfo(method: str, target: str) -> bool:
    """Return whether this is a CONNECT target with userinfo, such as `a.example:443@b.example:443`.

    RFC 9112 section 3.2.3 has no userinfo there, and proxies disagree: squid 5 connects to the first host, tinyproxy to
    the second, others answer 400. So such a request names no destination. Methods in lower case count as well, as some
    proxies accept them.
    """
    return "@" in target and method.upper() == "CONNECT"


def request_target(method: str, target: str, *, is_cut: bool = False) -> str:
    """Return a request target (RFC 9112 section 3.2) without logins; "" for a CONNECT target with userinfo."""
    return "" if has_userinfo(method, target) else target_without_login(target, is_cut=is_cut)


def masked(line: bytes) -> bytes:
    """Return a line with `***` in place of the logins of the URLs in it; everything else keeps its bytes."""
    text = line.decode("latin-1")
    return _replaced(text, MASK).encode("latin-1") if any(at in text for at in _AT_MARKS) else line


def _replaced(text: str, mask: str) -> str:
    """The text with `mask` in place of each login; the spelled `@` behind it stays where there is a mask."""
    end = max((text.rfind(at) + len(at) for at in _AT_MARKS if at in text), default=0)
    text, behind = text[:end], text[end:]
    for mark, pattern in _SPELLINGS:
        if mark not in text:
            continue
        step = pattern.groups + 1
        *parts, rest = pattern.split(text, LOGINS_MAX)
        if not parts:
            continue
        if len(parts) == step * LOGINS_MAX:
            rest, behind = mask, ""
        ats = parts[step - 1 :: step] if mask else repeat("")
        text = "".join(chain.from_iterable(zip(parts[::step], parts[1::step], repeat(mask), ats, strict=False))) + rest
    return text + behind
