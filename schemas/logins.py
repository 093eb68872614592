r"""Login data (userinfo) in URLs: it is removed from stored and published texts, and masked in rejected lines.

`http://user:password@host/` (RFC 3986 section 3.2.1) becomes `http://host/` in an event and `http://***@host/` in a reject, which
must still be readable after a fix. A URL may occur anywhere in a text: in the query or path of another URL, where it may be
percent-encoded several times, in a command line, or in JSON, where slashes may be escaped.

| spelling | example |
|---|---|
| plain | `http://user:password@host` |
| without a password, without a scheme | `http://user@host`, `//user:password@host` |
| percent-encoded | `http%3A%2F%2Fuser%3Apassword%40host`, `http:%2f%2fuser:password@host`, `http%253A%252F%252Fuser%2540host` |
| escaped in JSON | `http:\/\/user:password@host`, `http://user:password\u0040host` |

An authority ends at `/`, `?` or `#`. Here it also ends at a blank, `"`, `<`, `>`, `|` or `&name=`, so that a later `@` does not
turn a host into a login. The patterns begin with a literal and use possessive quantifiers, so their time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, repeat

MASK = "***"
LOGINS_MAX = 10_000
"""Maximum number of logins that are removed from one text; the text after the last of them is cut off."""
CHARS_MAX = 65_536
"""Length in characters to which a text with a possible login is cut; no request target is longer."""
SCHEME_CHARS_MAX = 24
"""Number of characters within which the scheme of a target ends, including `://`."""

_AT_MARKS = ("@", "%40", "2540", "u0040")
"""Spellings of `@`. A text without any of them has no login; neither has the part of a text after the last of them."""
_CHARS = r'[^\s\x00/?#"<>|@%&\\]*+'
_AT = r"@|%(?:25){0,3}40"
_AT_IN_JSON = rf"{_AT}|\\{{1,8}}u0040"
_ODD = r"%(?!(?:25){0,3}40)|&(?![\w.\[\]-]*+=)|\\(?!\\{0,7}u0040)"
_ODD_ENCODED = r"%(?!(?P=depth)(?:2f|3f|23|26|3c|3e|22|20|7c)|(?:25){0,3}40)|\\"
_LOGIN = rf"(?:{_CHARS}(?:(?:{_ODD}){_CHARS})*+({_AT_IN_JSON}))++"
_LOGIN_ENCODED = rf"(?:{_CHARS}(?:(?:{_ODD_ENCODED}){_CHARS})*+({_AT}))++"
_NO_THIRD = "".join(f"(?<!{slash * 3})" for slash in ("%2f", "%252f", "%25252f", "%2525252f"))
"""Lookbehinds that refuse two slashes after a third slash, in every spelling: they do not begin an authority."""
_SPELLINGS = tuple(
    (mark, re.compile(pattern, re.ASCII | re.IGNORECASE))
    for mark, pattern in (
        ("//", rf"(//)(?!/)(?:(?<=://)|(?<=%3a//)|(?<![\w.:/\\-]//)(?=[^\s/?#\"<>|@%&:]*+:|\*{{3}}@)){_LOGIN}"),
        (":\\", rf"(:\\{{1,8}}/\\{{1,8}}/){_LOGIN}"),
        ("%", rf"(%(?=2)(?P<depth>(?:25){{0,3}})2f%(?P=depth)2f){_NO_THIRD}(?!%(?P=depth)2f){_LOGIN_ENCODED}"),
    )
)
"""For each spelling a text that it always contains, and its pattern. Groups: the text before the login, and last the spelled `@`.
"""
_SLASHES = ("/", *(f"%{'25' * depth}2f" for depth in range(4)))
_ENDS = ("/", " ", "\t", '"', "?", "#", "<", ">", "|")
"""Characters that end an authority in every spelling."""
_BEFORE_MAX = 64
"""Longest text in characters that a pattern needs before the last slash of the beginning of an authority."""
_MARK_CHARS_MAX = max(map(len, _AT_MARKS))
_BLOCK_CHARS = 4_096
_GAP = "\n\ue000"
"""Separator in place of a left-out stretch: its first character ends an authority, its second is not in Latin-1, so no line has
it."""
_AUTHORITY_END = re.compile(r"[/?#]")
_CUT_AUTHORITY = re.compile(
    r"(?:://|%(?:25){0,3}2f%(?:25){0,3}2f)(?:[^\s\x00/?#\"<>|%&]|%(?!(?:25){0,3}(?:2f|3f|23|26)))*+\Z",
    re.ASCII | re.IGNORECASE,
)
"""An authority that reaches to the end of the text."""


def without_logins(text: str, *, is_cut: bool = False) -> str:
    """Remove the login data of all URLs in a text, including the `@`.

    If the text was cut off (`is_cut`), an authority at its end is removed completely, because it may be the beginning of a login.
    """
    if _may_have_login(text):
        text = _replaced(text[:CHARS_MAX], "")
    return _CUT_AUTHORITY.sub("", text) if is_cut else text


def target_without_login(target: str, *, is_cut: bool = False) -> str:
    """Remove login data from a request target: a URL with or without a scheme, or a path, which may contain further URLs."""
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

    RFC 9112 section 3.2.3 allows no userinfo there, and proxies disagree: squid 5 connects to the first host, tinyproxy to the
    second, others answer 400. Such a request therefore names no destination. Methods in lower case are included, because some
    proxies accept them.
    """
    return "@" in target and method.upper() == "CONNECT"


def request_target(method: str, target: str, *, is_cut: bool = False) -> str:
    """Return a request target (RFC 9112 section 3.2) without login data; "" for a CONNECT target with userinfo."""
    return "" if has_userinfo(method, target) else target_without_login(target, is_cut=is_cut)


def masked(line: bytes) -> bytes:
    """Replace the login data of all URLs in a line by `***`; all other bytes are unchanged."""
    text = line.decode("latin-1")
    if not _may_have_login(text):
        return line
    if len(text) <= CHARS_MAX:
        return _replaced(text, MASK).encode("latin-1")
    searched, left_out = _with_gaps(text)
    first, *others = _replaced(searched, MASK).split(_GAP)
    found = [first, *chain.from_iterable(zip(left_out, others, strict=False))]  # shorter if the end was cut off
    return "".join(found).encode("latin-1")


def _may_have_login(text: str) -> bool:
    return "@" in text or "%40" in text or "2540" in text or "u0040" in text  # _AT_MARKS, faster than a loop


def _with_gaps(text: str) -> tuple[str, list[str]]:
    """Replace long stretches that cannot contain a login by `_GAP`; return the shorter text and the stretches.

    In a block without a spelling of `@`, only the text from the last slash on can be the beginning of a login, and only if no
    character after that slash ends the authority. This holds for each spelling of the slash.
    """
    lower = text.lower()  # of Latin-1 text, so every character keeps its index
    last = dict.fromkeys((*_SLASHES, *_ENDS), -1)
    searched: list[str] = []
    left_out: list[str] = []
    kept = looked = 0
    for begin, end in _blocks_without_at(lower):
        for char in last:
            last[char] = max(last[char], lower.rfind(char, max(0, looked - _BEFORE_MAX), end))
        looked = end
        ended = max(last[char] for char in _ENDS)
        gap_end = min((last[slash] for slash in _SLASHES if last[slash] >= max(ended, 0)), default=end) - _BEFORE_MAX
        gap_begin = begin + _MARK_CHARS_MAX  # a spelling of `@` that begins in the previous block may end here
        if gap_end > gap_begin:
            searched.append(text[kept:gap_begin])
            left_out.append(text[gap_begin:gap_end])
            kept = gap_end
    return _GAP.join((*searched, text[kept:])), left_out


def _blocks_without_at(lower: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each stretch of whole blocks in which no spelling of `@` begins."""
    marked = -1
    for block in range(0, len(lower), _BLOCK_CHARS):
        if any(lower.find(at, block, block + _BLOCK_CHARS + len(at) - 1) >= 0 for at in _AT_MARKS):
            if block > marked + 1:
                yield marked + 1, block
            marked = block + _BLOCK_CHARS - 1


def _replaced(text: str, mask: str) -> str:
    """Replace each login by `mask`. The spelled `@` after it is kept if `mask` is not empty."""
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
