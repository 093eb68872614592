"""Verdicts of network protection and SmartScreen in Defender's exported rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Action, Reason
from schemas.parsers.windows.mde import VERDICTS, parse
from tests.schemas.parsers.parsed_as import kind, reject, verdict
from tests.schemas.parsers.windows.defender_rows import row, verdict_of


def test_every_verdict_has_a_handler() -> None:
    """None of them is read for a row of the network."""
    for action in VERDICTS:
        assert verdict(parse(verdict_of(action)))


@pytest.mark.parametrize(
    ("action", "audit", "did"),
    [
        ("ExploitGuardNetworkProtectionBlocked", False, Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", "false", Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", None, Action.BLOCKED),
        ("ExploitGuardNetworkProtectionBlocked", True, Action.AUDITED),
        ("ExploitGuardNetworkProtectionBlocked", "True", Action.AUDITED),
        ("ExploitGuardNetworkProtectionBlocked", "1", Action.AUDITED),
        ("ExploitGuardNetworkProtectionAudited", False, Action.AUDITED),
        ("NetworkProtectionUserBypassEvent", True, Action.BYPASSED),
        ("SmartScreenUrlWarning", True, Action.WARNED),
        ("SmartScreenExploitWarning", None, Action.WARNED),
        ("SmartScreenUserOverride", None, Action.BYPASSED),
    ],
)
def test_what_protection_did(action: str, audit: Any, did: Action) -> None:
    """`IsAudit`, a truth value or a word, turns a block into what it would have been."""
    assert verdict(parse(verdict_of(action, IsAudit=audit))).action is did


def test_a_verdict_has_process_and_words() -> None:
    """The initiating process, not the row's other one; category, group and title as hunters know them."""
    words = {
        "ResponseCategory": "CustomBlockList",
        "ResponseCategoryGroup": "CustomIndicator",
        "DisplayName": "Ticket 7",
    }
    event = verdict(parse(verdict_of("ExploitGuardNetworkProtectionBlocked", **words)))

    assert (event.host, event.port, event.url) == ("bad1.example", 0, "https://Bad1.example./a?b=c")
    assert (event.category, event.category_group, event.title) == ("CustomBlockList", "CustomIndicator", "Ticket 7")
    assert (event.process.pid, event.process.name, event.process.account) == (7412, "chrome.exe", "a.meyer")
    assert event.event_id == "mde/ExploitGuardNetworkProtectionBlocked/48221/2025-03-04T09:15:21.9981234Z"
    assert verdict(parse(verdict_of("SmartScreenUrlWarning", Experience="Phishing"))).category == "Phishing"


@pytest.mark.parametrize("written", [None, "", "{}", "null", {}])
def test_no_additional_fields(written: str | dict[str, Any] | None) -> None:
    """Null, nothing, nothing in an object, and that in a string."""
    event = verdict(parse(row("ExploitGuardNetworkProtectionBlocked", AdditionalFields=written, RemoteUrl="a.example")))

    assert (event.action, event.title, event.category) == (Action.BLOCKED, "", "")


@pytest.mark.parametrize(
    ("url", "more", "ip", "host", "port"),
    [
        ("bad1.example", {}, None, "bad1.example", 0),
        ("http://bad1.example:8080/x", {}, "198.51.100.80", "bad1.example", 8080),
        (None, {"Uri": "https://bad2.example"}, "198.51.100.80", "bad2.example", 0),
        (None, {}, "2001:DB8::77", "2001:db8::77", 0),
        ("203.0.113.77", {}, None, "203.0.113.77", 0),
    ],
)
def test_what_was_asked_for(url: str | None, more: dict[str, Any], ip: str | None, host: str, port: int) -> None:
    """A URL, a host or an address; of the row's own port nothing is taken, as it may be the proxy's."""
    line = json.loads(verdict_of("ExploitGuardNetworkProtectionBlocked", url, **more))
    line["properties"] |= {"RemoteIP": ip, "RemotePort": 3128}
    event = verdict(parse(json.dumps(line).encode()))

    assert (event.host, event.port) == (host, port)


def test_a_verdict_without_destination() -> None:
    """An application that SmartScreen let pass has none; a block without one makes no sense."""
    assert kind(parse(verdict_of("SmartScreenUserOverride", None))) == "device_no_url"
    assert reject(parse(verdict_of("ExploitGuardNetworkProtectionBlocked", None))).reason is Reason.INCOMPLETE
    assert reject(parse(verdict_of("ExploitGuardNetworkProtectionBlocked", "https://"))).reason is Reason.BAD_VALUE
