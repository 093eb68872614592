"""Cisco's web security appliance (WSA, Secure Web Appliance): its access log, squid's with a policy's decision behind it.

Fields, result codes and decision tags: AsyncOS user guide, "Monitor System Activity Through Logs". The line is
written at the end. A CONNECT is written as `tunnel://host:443/`. Behind `DIRECT/` stands a name as a rule, an address
only where one was asked for. The W3C log by syslog has no `#Fields`: in the order that Splunk and Sentinel ask for a referrer
stands before the client, and behind the policy the client's port, if host and port of the server do. The traffic monitor's lines
(`Firewall blocked TCP data from …`) name no request.
"""

from __future__ import annotations

import re

from schemas.address import is_ip
from schemas.clock import parse_micros
from schemas.events import Ignored, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried_again
from schemas.parsers.common.proxy_log import (
    GATEWAY_FAILED,
    MONTHS,
    address,
    count,
    destination,
    earlier,
    epoch,
    ignored_kind,
    logged,
    maybe_address,
    millis,
    port,
    proxy_dialect,
    status,
    uncarried_first,
)
from schemas.parsers.common.quoting import QUOTED
from schemas.parsers.common.rejects import Unread

REFUSING = ("BLOCK", "DROP", "REDIRECT")
"""Policy decisions with which the client did not get what it requested. With DECRYPT, PASSTHRU, MONITOR, ALLOW and so on it did.
"""

_LINE = re.compile(
    r"(?:Info: )?(\d{9,10}(?:\.\d{1,6})?) +(-?\d{1,18}(?:\.\d{1,9})?) (\S++ )?(\S{1,64}) "
    r"([A-Z][A-Z_]{0,63})/(\d{1,3}|-) (\d{1,18}|-) "
    rf"([A-Z_-]{{1,64}}) (\S++) ({QUOTED}|\S++) (\S++) ((?:\S++ ){{1,3}}?)"
    r"([A-Z][A-Z_]{1,128}?)(?:_?\d{0,9})((?:-\S*+)?)(?: |$)"
)
_ENDS = re.compile(r'(?:"[^"]*+"|\S++) (\d{1,5}) (\S++) (\d{1,5})(?: |$)')
"""Forwarded-for, the client's port, the server's name and port at the end of a line."""
_TAG = re.compile(
    r"(?:ALLOW|BLOCK|CONTINUE|DECRYPT|DEFAULT|DROP|MONITOR|NO|OTHER|PASSTHRU|REDIRECT|SAAS|TIME|WARN|YOUTUBE)(?:_|$)"
)
_MONITOR = re.compile(
    r"(?:(\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d) \(GMT ?([+-]\d{1,2}):?(\d\d)\)"
    r"|[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d\d:\d\d:\d\d) (\d{4})) (?:Info|Warning|Critical|Debug|Trace): (.*)",
    re.DOTALL,
)
_FIREWALL = re.compile(r"Firewall \w{1,20} \w{1,8} data from ([0-9a-fA-F.:]{2,51})")


@uncarried_first
def parse(line: Carried) -> Parsed:
    """Read one line."""
    found = _LINE.match(line.text)
    if found is None or not _TAG.match(found[13]):
        return _monitor(line)
    when, elapsed, referrer, who, code, answered, size, method, target, user, peer, between, tag, _ = found.groups()
    at, client, answer = epoch(when), address(who, "client"), status(answered)
    if method == "TCP_CONNECT":  # transparent redirection: the target is the address of the server
        method = "CONNECT"
    asked = destination(method, target)
    kind = ignored_kind(method, target)
    if kind:
        return Ignored(client, at, kind)
    client_port = 0
    if referrer is not None:  # the fields after it: the server's name, another one, user, type
        user, peer = between.split(" ", 1)[0], ""
        ends = _ENDS.match(line.text, found.end())
        if ends is not None and (ends[2].lower(), int(ends[3])) == asked:
            client_port = port(ends[1], "client")
    hierarchy, _, server = peer.partition("/")
    decision = decide(code, tag, answer)
    reached = hierarchy == "DIRECT" and decision is ProxyDecision.SERVED
    return logged(
        "wsa",
        line.host,
        line.text.encode(),
        client,
        at,
        earlier(at, millis(elapsed.partition(".")[0])),
        method,
        target,
        answer,
        decision,
        client_port=client_port,
        asked=asked,
        upstream_ip=maybe_address(server) if reached and is_ip(server) else "",
        received=count(size, "bytes"),
        user=user[1:-1] if user[0] == '"' else user,
    )


def decide(code: str, tag: str, answer: int | None) -> ProxyDecision:
    """Return the decision by the result code and the policy's decision tag."""
    if "DENIED" in code or tag.startswith(REFUSING):
        return ProxyDecision.DENIED
    if answer is None or answer in GATEWAY_FAILED or (code == "NONE" and answer >= 400):
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


def _monitor(line: Carried) -> Parsed:
    """Parse a line of the appliance's other logs. A line about a blocked connection names the client, but no request."""
    found = _MONITOR.match(line.text)
    if found is None:
        raise Unread(Reason.MALFORMED, "no access line with a policy's decision, nor one of another log")
    day, month, year = (found[1], found[2], found[3]) if found[1] else (found[8], found[7], found[10])
    if month not in MONTHS:
        raise ValueError(f"month is {month!r}")
    zone = f"{found[5][0]}{int(found[5][1:]):02d}{found[6]}" if found[5] else "Z"
    at = parse_micros(f"{year}-{MONTHS[month]}-{day}T{found[4] or found[9]}{zone}")
    firewall = _FIREWALL.match(found[11])
    if firewall is None:
        return Ignored("", at, "service")
    end = firewall[1].rstrip(".")
    client = end if is_ip(end) else end.rpartition(":")[0]
    return Ignored(address(client, "client"), at, "traffic_monitor")


def claims(raw: bytes) -> bool:
    """Return whether a line has squid's fields followed by a policy decision, or is of another log of the appliance."""
    text = carried_again(raw).text
    found = _LINE.match(text)
    return bool(found is not None and found[14] and _TAG.match(found[13])) or _MONITOR.match(text) is not None


DIALECT = proxy_dialect(
    "wsa",
    parse,
    claims,
    title="Cisco WSA's access log",
    gives="Requests with the policy's verdict, bytes and user; the address only where one was asked for; no client port.",
)
