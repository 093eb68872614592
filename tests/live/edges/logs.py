"""What the proxies logged: a second ground truth beside the hosts that were reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

LOGS: Mapping[str, str] = {
    "squid": "proxies/squid-access.log",
    "apache": "proxies/apache-access.log",
    "nginx": "proxies/nginx-access.log",
    "nginx tls": "proxies/nginx-access.log",
    "haproxy": "proxy-haproxy.log",
}
"""Logs whose format the lab sets: the word `edge`, the client's port, the status of the answer."""
_LINE = re.compile(r"edge (\d+) (\d{3})$", re.MULTILINE)


def logged(folder: Path, proxy: str) -> frozenset[int] | None:
    """The client ports whose requests a proxy answered with success; None where its log does not show them."""
    if proxy not in LOGS:
        return None
    return frozenset(
        int(port) for port, status in _LINE.findall((folder / LOGS[proxy]).read_text()) if status[0] == "2"
    )
