"""Names of the live run: which there are, where they lead, which of them are listed."""

from __future__ import annotations

from tests.live.stage import SERVERS

LISTED = "listed.example"
"""The listed name; what is below it is listed as well."""
LISTED_BELOW = "cdn.listed.example"
FORBIDDEN = "forbidden.example"
"""The proxy refuses it."""
NOWHERE = "nowhere.example"
"""It has no address."""
PAGES = ("news.example", "shop.example", "mail.example")
PARTS = tuple(f"cdn{number}.parts.example" for number in range(1, 9))
"""What a page brings with it."""
API, FRONT = "api.example", "front.example"
LOAD_HOSTS = tuple(f"h{number}.load.example" for number in range(50))
SECRET = "s3cr3t-0f-the-run"
"""In headers, bodies and queries; nothing of the sensor's may ever hold it."""

_ELSEWHERE = (LISTED, LISTED_BELOW)
ADDRESSES = {
    **{name: SERVERS[number % 3] for number, name in enumerate((*PAGES, *PARTS, API, FRONT, FORBIDDEN))},
    **dict.fromkeys(_ELSEWHERE, SERVERS[3]),
}


def is_listed(host: str) -> bool:
    """The name, or one below it."""
    return host == LISTED or host.endswith(f".{LISTED}")
