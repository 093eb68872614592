"""Plain lists with one entry per line and `#` comments, and hosts files with lines `0.0.0.0 NAME`.

Defanged entries are restored. A name in a hosts file matches only this name, as the file does; a domain in a list also
matches the names below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from schemas.indicator_input import Given, Refused
from schemas.indicator_values import Why
from schemas.indicators import IndicatorType
from unproxy.indicators.entry import Entry

SINKS = ("0.0.0.0", "127.0.0.1", "127.0.1.1", "::", "::1")  # nothing is bound to it
"""Addresses to which hosts files map blocked names."""
OWN_NAMES = {
    "localhost", "localhost.localdomain", "local", "broadcasthost",
    "ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts",
}  # fmt: skip
_COMMENT = re.compile(r"(?:^|\s)[#;].*$|^\s*//.*$", re.DOTALL)
_DOT = re.compile(r"\[\.\]|\(\.\)|\{\.\}|\[dot\]|\(dot\)|\\\.", re.IGNORECASE)
_COLON = re.compile(r"\[:\]|\[://\]")
_SCHEME = re.compile(r"^(?:hxxp|h\*\*p|meow)(s?)(?=://)", re.IGNORECASE)


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a file."""
    for number, line in enumerate(lines, 1):
        where = f"line {number}"
        words = _COMMENT.sub("", line).split()
        if len(words) > 1 and words[0] in SINKS:
            for name in words[1:]:
                named = Given(whole(name), kind=IndicatorType.DOMAIN, exact=True)
                own = name.lower() in OWN_NAMES or name in SINKS
                yield Entry(where, Refused(name, Why.THIS_MACHINE) if own else named)
        elif len(words) > 1:
            yield Entry(where, Refused(line.strip(), Why.MALFORMED, "several words on a line"))
        elif words:
            yield Entry(where, Given(whole(words[0])))


def whole(text: str) -> str:
    """Return an entry without its defanging, by which lists prevent clicks: `hxxp://evil[.]example`."""
    text = _COLON.sub(lambda found: found.group()[1:-1], _DOT.sub(".", text))
    return _SCHEME.sub(r"http\1", text)
