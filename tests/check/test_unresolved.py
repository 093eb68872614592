"""Each cause of an unresolved connection has a remedy that works; `docs/unresolved.md` lists the samples' cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from schemas.events import Event, ProtectionMode
from schemas.tables import UnresolvedReason
from tests.check.worlds import SAMPLES, recorded
from tests.factories import PROXY, Row, World, connection, flow_end, listing, mode, name, proxy_line, request
from unproxy.query.unresolved import CAUSES, UNKNOWN_REMOTE, cause_of

PAGE = Path(__file__).parents[2] / "docs/unresolved.md"
LISTED = f"{PROXY}:3128"
LOGGED = proxy_line(1.2, started=0.2)
RESERVED = {UnresolvedReason.SENSOR_GAP, UnresolvedReason.AMBIGUOUS}
"""No rule gives these yet."""
OF_DESTINATIONS = {UnresolvedReason.SUPERSEDED}

Case = tuple[str, bool, list[Event], list[tuple[str, list[Event]]]]
OTHER = request(-20, "/", host="www.example.com", port=1, remote="203.0.113.7", remote_port=80)
"""An HTTP-level event of another connection, past the proxy."""
CASES: list[Case] = [
    ("protection_off", True, [], [("request", [request(0.1)]), ("log", [LOGGED])]),
    ("protection_off", False, [], [("request elsewhere", [OTHER]), ("mode", [mode(-30, ProtectionMode.AUDIT)])]),
    ("no_http_event", True, [OTHER], [("request", [request(0.1)]), ("log", [LOGGED])]),
    ("encrypted_to_proxy", True, [name(0.1, "proxy.example", tunnelled=False)], [("log", [LOGGED])]),
    ("older_than_sensor", True, [flow_end(9, started=3, ended=8, midstream=True)], [("log", [LOGGED])]),
    ("no_usable_request", True, [request(0.1, "", method="CONNECT")], [("log", [LOGGED])]),
]


def played(events: Iterable[Event], *, proxied: bool) -> Row:
    """Return the row of the connection at 0 s that these events, in order of time, give."""
    world = World(listing(), proxies=(f"proxy={LISTED}",) if proxied else ())
    world.see(*sorted([connection(0, ended=8), *events], key=lambda event: event.at)).finish()
    (row,) = [row for row in world.connections if row["LocalPort"] == 40_000]
    return row


@pytest.mark.parametrize(
    ("reason", "proxied", "events", "remedies"), CASES, ids=[f"{one[0]} {one[1]}" for one in CASES]
)
def test_remedies_resolve(
    reason: str, proxied: bool, events: list[Event], remedies: list[tuple[str, list[Event]]]
) -> None:
    """The connection is unresolved for that reason, and resolved once the remedy adds its events."""
    assert played(events, proxied=proxied)["UnresolvedReason"] == reason
    for remedy, more in remedies:
        row = played([*events, *more], proxied=proxied)

        assert (row["UnresolvedReason"], bool(row["DestinationHost"])) == ("", True), remedy


def test_every_reason_has_a_cause_that_is_tested() -> None:
    """Each reason has at least one cause and remedy here."""
    given = set(UnresolvedReason) - {UnresolvedReason.NONE}

    assert set(CAUSES) == given
    assert {reason for reason, *_ in CASES} == given - RESERVED - OF_DESTINATIONS


def block(marker: str) -> str:
    """Return the text of the page between a marker and its end."""
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE}: <!-- {marker} --> … <!-- end --> is missing"
    return found[1]


def check(marker: str, rows: Sequence[Sequence[object]], request: pytest.FixtureRequest) -> None:
    """Compare a table with the page; `--bless` writes it."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    table = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
    if request.config.getoption("--bless"):
        PAGE.write_text(PAGE.read_text().replace(f"<!-- {marker} -->\n{block(marker)}", f"<!-- {marker} -->\n{table}"))

    assert block(marker) == table, "run `pytest tests/check/test_unresolved.py --bless` and review the difference"


def test_the_page_lists_the_causes(request: pytest.FixtureRequest) -> None:
    """The page has the reasons, causes and remedies of the code."""
    causes = [(f"`{reason}`", cause.why, cause.remedy) for reason, cause in CAUSES.items()]
    causes.insert(1, ("`protection_off`, remote end not known as a proxy", UNKNOWN_REMOTE.why, UNKNOWN_REMOTE.remedy))

    check("causes", [("reason", "cause", "what resolves the next ones"), *causes], request)


def test_the_page_lists_what_the_samples_leave_unresolved(request: pytest.FixtureRequest) -> None:
    """For each sample the page has the unresolved connections by cause, and the remedy."""
    table: list[tuple[object, ...]] = [("sample", "connections", "unresolved", "what would resolve them")]
    for sample in sorted(SAMPLES):
        rows = [row for world in recorded(SAMPLES[sample]) for row in world.rows()[0] if row["Layer"] == "connection"]
        causes = Counter(
            (str(row["UnresolvedReason"]), row["ProxyIP"] != "") for row in rows if row["UnresolvedReason"]
        )
        if not rows or sample.startswith(("golden", "sensor")):
            continue  # golden files repeat lines of other samples; our own sensor's are constructed
        if not causes:
            table.append((sample, len(rows), 0, ""))
        for (reason, proxied), count in sorted(causes.items()):
            table.append((sample, len(rows), f"{count} `{reason}`", cause_of(reason, proxied=proxied).remedy))

    check("samples", table, request)
