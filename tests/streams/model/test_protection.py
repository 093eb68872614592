"""Indicators against requests of a device: one kind per alert, each request counted once, and the alert's content."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import LATEST
from schemas.events import Action, Event, ProtectionMode
from schemas.indicator_input import Given
from schemas.settings import CorrelationSettings
from schemas.suppressions import Suppression
from streams.alerts.folding import forget_old
from streams.pipeline import Message, Pipeline
from tests.factories import (
    PROXY,
    T0,
    Row,
    World,
    connection,
    flow_end,
    indicator,
    latest,
    listing,
    mode,
    name,
    proxy_line,
    request,
    verdict,
    world_of,
)
from tests.sample import TRUTH, sample

BLOCK, AUDIT, OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF
BAD = Given("bad.example", title="listed by us", severity="high", category="C2", recommended="Isolate it")


def counts(world: World) -> dict[tuple[object, object], object]:
    """Return counts by kind and domain of the latest versions, without withdrawn alerts."""
    return {(a["Kind"], a["DestinationDomain"]): a["Count"] for a in latest(world.alerts, "AlertId") if a["Count"]}


def listed(*events: Event, given: Given = BAD, modes: tuple[str, ...] = ("dev-1=off",)) -> World:
    """Return the world of a device with an indicator, after these events."""
    return World(listing(given, modes=modes)).see(*events).finish()


def only(world: World) -> Row:
    """Return the only alert."""
    (alert,) = [alert for alert in latest(world.alerts, "AlertId") if alert["Count"]]
    return alert


def test_a_device_that_is_off_does_not_enforce() -> None:
    """The request passed in spite of a block: the alert is emitted at once with all fields of the indicator."""
    world = World(listing(BAD, modes=["dev-1=off"])).see(connection(0), request(0.1, "www.bad.example:443"))
    alert = only(world)

    assert (alert["Kind"], alert["Outcome"], alert["ProtectionMode"], alert["Count"]) == (
        "not_enforced",
        "allowed",
        "off",
        1,
    )
    assert (alert["Title"], alert["Severity"], alert["Category"]) == ("listed by us", "high", "C2")
    assert (alert["IndicatorValue"], alert["IndicatorAction"], alert["IndicatorMatch"]) == (
        "bad.example",
        "block",
        "full",
    )
    assert (alert["RecommendedAction"], alert["DestinationHosts"]) == ("Isolate it", ["www.bad.example"])
    assert (alert["InitiatingProcessFileName"], alert["ProxyPort"], alert["DestinationPort"]) == ("curl", 3128, 443)


@pytest.mark.parametrize(
    ("action", "kind"), [("block", "not_enforced"), ("warn", "not_enforced"), ("audit", "audited"), ("allow", None)]
)
def test_what_an_indicator_asks_for(action: str, kind: str | None) -> None:
    """Block and warn that were not applied are `not_enforced`; audit gives `audited`; allow gives no alert."""
    world = listed(request(0.1, "bad.example:443"), given=BAD._replace(action=action))

    assert counts(world) == ({(kind, "bad.example"): 1} if kind else {})


def test_what_the_device_did_outweighs_the_indicator() -> None:
    """A blocked request is one finding, and the alert names the indicator."""
    world = listed(connection(0), request(0.1, "bad.example:443"), verdict(0.2), modes=())
    alert = only(world)

    assert (alert["Kind"], alert["Count"], alert["IndicatorValue"]) == ("blocked", 1, "bad.example")


@pytest.mark.parametrize("target", ["http://bad.example/", "bad.example:443"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_blocked_request_with_or_without_a_record_of_its_own(target: str, recorded: bool) -> None:
    """The HTTP record that some sensors write of a blocked request is the same request; the next one is another."""
    events: list[Event] = [request(0.2, target, status=None)] if recorded else []
    world = listed(connection(0), *events, verdict(0.2, target), modes=("dev-1=block",))
    assert counts(world) == {("blocked", "bad.example"): 1}

    world = listed(connection(0), *events, verdict(0.2, target), request(0.4, target, tx=1), modes=("dev-1=block",))
    assert counts(world) == {("blocked", "bad.example"): 1, ("not_enforced", "bad.example"): 1}


@pytest.mark.parametrize("late", [True, False])
def test_an_audited_request_is_no_missed_one(late: bool) -> None:
    """CONNECT and audit verdict are one request, in any order."""
    events: list[Event] = [request(0.1, "bad.example:443"), verdict(0.1, action=Action.AUDITED)]
    world = listed(connection(0), *(events if late else events[::-1]), modes=("dev-1=audit",))

    assert counts(world) == {("audited", "bad.example"): 1}


def test_a_second_request_without_a_verdict_is_not_enforced() -> None:
    """Of two requests on one connection only the first has a verdict."""
    requests: list[Event] = [request(at, "http://bad.example/", tx=tx) for tx, at in enumerate((0.1, 0.3))]
    world = listed(
        connection(0), *requests, verdict(0.1, "http://bad.example/", action=Action.AUDITED), modes=("dev-1=audit",)
    )

    assert counts(world) == {("audited", "bad.example"): 1, ("not_enforced", "bad.example"): 1}


def test_on_a_device_that_protects_it_waits_for_the_verdict() -> None:
    """A request that may still be blocked is `not_enforced` only once the connection is decided."""
    world = World(listing(BAD, modes=["dev-1=block"])).see(connection(0), request(0.1, "bad.example:443"))
    assert world.alerts == []

    assert counts(world.finish()) == {("not_enforced", "bad.example"): 1}


def test_connect_and_server_name_are_one() -> None:
    """A tunnel's CONNECT and the same name inside count as one request."""
    world = listed(connection(0), request(0.1, "bad.example:443"), name(0.2, "bad.example"))

    assert counts(world) == {("not_enforced", "bad.example"): 1}


def test_a_listed_name_inside_a_tunnel_to_another_host() -> None:
    """Fronting: the name inside is listed, the CONNECT's is not."""
    world = listed(connection(0), request(0.1, "front.test:443"), name(0.2, "bad.example"))

    assert counts(world) == {("not_enforced", "bad.example"): 1, ("host_mismatch", "front.test"): 1}


def test_a_direct_connection_to_a_listed_address() -> None:
    """A listed network matches an address without a name; TCP connections count."""
    world = listed(connection(0, remote="203.0.113.9", remote_port=443), given=Given("203.0.113.0/24"))
    assert counts(world) == {("not_enforced", "203.0.113.9"): 1}


def test_a_direct_name_and_its_address_are_one() -> None:
    """With name and address listed it is one request, under its name."""
    world = World(listing(BAD, Given("203.0.113.9"), modes=["dev-1=off"]))
    world.see(
        connection(0, remote="203.0.113.9", remote_port=443),
        name(0.1, "bad.example", tunnelled=False, remote="203.0.113.9", remote_port=443),
    ).finish()

    assert counts(world) == {("not_enforced", "bad.example"): 1}


def test_a_url_prefix_on_an_encrypted_connection_is_the_host_only() -> None:
    """A tunnel shows only host and port, so the alert has `IndicatorMatch` `host_only`."""
    given = Given("https://bad.example/evil")
    world = listed(request(0.1, "bad.example:443"), given=given)
    assert (only(world)["IndicatorMatch"], only(world)["Count"]) == ("host_only", 1)

    world = listed(request(0.1, "http://bad.example/evil/1"), given=Given("http://bad.example/evil"))
    assert only(world)["IndicatorMatch"] == "full"
    assert counts(listed(request(0.1, "http://bad.example/good"), given=Given("http://bad.example/evil"))) == {}


def test_process_and_domain() -> None:
    """An indicator for one process matches no other, also where the process is known after the request."""
    given = BAD._replace(process="evil.exe")
    asked = request(0.1, "bad.example:443")

    assert counts(listed(asked, connection(0), given=given)) == {}
    assert counts(listed(asked, connection(0, process="Evil.exe"), given=given)) == {("not_enforced", "bad.example"): 1}
    assert counts(listed(asked, given=given)) == {}


def test_an_indicator_added_after_the_fact_changes_nothing() -> None:
    """Requests from before its validity raise no alert (`unproxy replay --indicators` finds them)."""
    policy = listing(modes=["dev-1=off"])
    world = World(policy).see(request(0.1, "bad.example:443"))
    policy.indicators.put(indicator(BAD), since_ms=T0 * 1000 + 1500)
    world.see(request(1, "bad.example:443", port=2, flow="2"))
    world.see(request(2, "bad.example:443", port=3, flow="3")).finish()

    assert counts(world) == {("not_enforced", "bad.example"): 1}


def test_a_removed_indicator_raises_no_further_alert() -> None:
    """Later requests raise no alert; the count stays."""
    policy = listing(BAD, modes=["dev-1=off"])
    world = World(policy).see(request(0.1, "bad.example:443"))
    policy.logged_ms = 10
    policy.indicators.remove(indicator(BAD).id, since_ms=10)
    world.see(request(1, "bad.example:443", port=2, flow="2")).finish()

    assert counts(world) == {("not_enforced", "bad.example"): 1}


def test_a_warning_clicked_away_is_bypassed() -> None:
    """A request that was warned, then bypassed, is one; the warned alert is withdrawn."""
    world = world_of(
        [
            connection(0),
            verdict(1, "http://bad.example/", action=Action.WARNED),
            verdict(3, "http://bad.example/", action=Action.BYPASSED),
        ]
    )
    (row,) = latest(world.verdicts)

    assert counts(world) == {("bypassed", "bad.example"): 1}
    assert [a["Count"] for a in latest(world.alerts, "AlertId") if a["Kind"] == "warned"] == [0]
    assert (row["ActionType"], row["Outcome"]) == ("NetworkProtectionUserBypassEvent", "bypassed")


def test_a_suppressed_alert_is_published_with_its_suppression() -> None:
    """The alert has the author, the reason and the end."""
    policy = listing(BAD, modes=["dev-1=off"])
    policy.suppressions.put(Suppression("1", "ana", "a test site", LATEST, device="dev-*", domain="bad.example"))
    world = (
        World(policy).see(request(0.1, "bad.example:443"), request(0.2, "bad.example:443", port=2, flow="2")).finish()
    )
    alert = only(world)

    assert (alert["Count"], alert["SuppressedBy"], alert["SuppressedReason"]) == (2, "ana", "a test site")
    assert alert["SuppressedUntil"] is not None


def test_a_suppression_that_is_over_does_nothing() -> None:
    """A suppression applies until its end."""
    policy = listing(BAD, modes=["dev-1=off"])
    policy.suppressions.put(Suppression("1", "ana", "a test site", 1, domain="bad.example"))

    assert only(World(policy).see(request(0.1, "bad.example:443")))["SuppressedBy"] == ""


def test_an_unlisted_proxy_raises_one_alert() -> None:
    """There is one alert for all connections through it, and none for a proxy of the settings."""
    events: list[Event] = [connection(at, port=at) for at in (1, 2)]
    events += [request(at, port=at, flow=str(at)) for at in (1, 2)]
    (alert,) = latest(world_of(events).unconfirmed, "AlertId")

    assert (alert["Kind"], alert["DestinationDomain"], alert["Count"]) == ("unconfirmed_proxy", "10.9.9.9", 2)
    assert alert["Title"] == "10.9.9.9:3128 acts as a proxy"
    assert alert["Techniques"] == ["T1090"]
    assert world_of(events, proxies=["10.9.9.9:3128"]).unconfirmed == []


def direct(at: float, port: int) -> list[Event]:
    """Return a connection to the outside that bypasses the proxy."""
    return [connection(at, port=port, remote="203.0.113.9", remote_port=443)]


def proxied(count: int, first: float = 0) -> list[Event]:
    """Return that many connections through the proxy, one per second."""
    return [
        event
        for number in range(count)
        for event in (
            connection(first + number, port=1_000 + number),
            request(first + number, port=1_000 + number, flow=str(1_000 + number)),
        )
    ]


@pytest.mark.parametrize(("through", "past", "alarms"), [(120, 1, 1), (49, 1, 0), (120, 3, 2)])
def test_a_device_that_always_uses_a_proxy_goes_past_it(through: int, past: int, alarms: int) -> None:
    """With at least fifty connections through proxies and nearly none direct, a direct one raises an alert."""
    events = [*proxied(through), *(event for n in range(past) for event in direct(300 + 100 * n, 5_000 + n))]
    found = {kind: count for (kind, _), count in counts(world_of(events)).items()}

    assert found.get("proxy_bypass", 0) == alarms


def test_inside_is_no_bypass() -> None:
    """Private addresses and failed connections raise no bypass alert."""
    events = [
        *proxied(60),
        connection(300, port=5_000, remote="10.1.2.3", remote_port=445),
        connection(301, port=5_001, remote="203.0.113.9", remote_port=443, failed=True),
    ]

    assert counts(world_of(events)) == {}


def test_dev_c_of_the_sample() -> None:
    """Off by the settings, with five listed domains: the alerts count each listed request of the truth, no other."""
    policy = listing(
        *map(Given, ("bad1.example", "bad2.example", "bad3.test", "bad4.example", "bad5.example")), modes=["dev-c=off"]
    )
    pipeline = Pipeline(CorrelationSettings(), policy)
    for number, line in enumerate(sample()):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    output = pipeline.drain()
    alerts = latest((json.loads(alert) for _, alert in output.alerts), "AlertId")
    counts = {
        a["DestinationDomain"]: a["Count"] for a in alerts if (a["DeviceId"], a["Kind"]) == ("dev-c", "not_enforced")
    }
    truth = [json.loads(line) for line in Path(TRUTH).read_text().splitlines()]
    wanted: dict[str, int] = {}
    for one in truth:
        if one["device"] == "dev-c" and one["listed"]:
            domain = ".".join(one["host"].split(".")[-2:])
            wanted[domain] = wanted.get(domain, 0) + 1
    wanted["bad3.test"] += 1  # one went to files.bad3.test directly (direct.jsonl)

    assert counts == wanted
    assert {a["DeviceId"] for a in alerts if a["Kind"] == "blocked"} == {"dev-b"}
    rows = [json.loads(row) for row in output.network_events]
    assert any(row.get("UnresolvedReason") == "protection_off" for row in rows if row["DeviceId"] == "dev-c")
    assert {row["ProtectionMode"] for row in rows if row["DeviceId"] == "dev-c"} == {"off"}


def test_a_withdrawn_alert_has_a_higher_version() -> None:
    """A request first counted by address is then counted by name: the alert with count 0 has the higher version."""
    world = World(listing(Given("203.0.113.9"), modes=["dev-1=off"]))
    there: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 443}
    world.see(mode(-3, BLOCK, AUDIT), mode(-2, OFF, BLOCK), connection(0, port=7, **there))
    world.see(name(0.1, "bad.example", tunnelled=False, port=7, **there)).finish()
    counts = [(a["Version"], a["Count"]) for a in world.alerts if a["DestinationDomain"] == "203.0.113.9"]

    assert [count for _, count in sorted(counts)] == [1, 0]
    assert len({version for version, _ in counts}) == 2


def test_an_alert_that_went_to_zero_goes_on_from_its_version() -> None:
    """A later request gives the withdrawn alert a still higher version."""
    world = World(listing(Given("203.0.113.9"), modes=["dev-1=off"]))
    there: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 443}
    world.see(connection(0, port=7, **there))
    world.see(name(0.1, "bad.example", tunnelled=False, port=7, **there))
    world.wait(200)
    forget_old(world.device, world.device.facts.now)
    world.see(connection(300, port=8, **there)).finish()
    counts = [(a["Version"], a["Count"]) for a in world.alerts if a["DestinationDomain"] == "203.0.113.9"]

    assert [count for _, count in sorted(counts)] == [1, 0, 1]
    assert len({version for version, _ in counts}) == 3


def test_changes_of_the_mode_hurry_no_alert() -> None:
    """A change of the mode does not publish an alert before its gap has passed."""
    world = World(listing(gap_secs=60)).see(connection(0, ended=1), request(0.1))
    for second in range(10, 30):
        world.see(mode(second, BLOCK if second % 2 else AUDIT))

    assert len(world.unconfirmed) == 1


# Days

MIDNIGHT = 86_400 - T0 % 86_400
"""The end of the UTC day."""


def days(world: World) -> list[tuple[object, object, str, str]]:
    """Return kind, count, and the days of the first and last request of each alert; an alert covers one day."""
    alerts = [alert for alert in latest(world.alerts, "AlertId") if alert["Count"]]
    return [(a["Kind"], a["Count"], str(a["FirstTime"])[8:10], str(a["LastTime"])[8:10]) for a in alerts]


def test_a_kept_connection_asks_on_two_days() -> None:
    """Requests before and after midnight count on their own days, less those with a verdict."""
    asked = [request(MIDNIGHT + at, "http://bad.example/", tx=10 + at, status=200) for at in (-9, -8, 7, 8, 9)]
    audited = verdict(MIDNIGHT + 8, "http://bad.example/", tx=18, action=Action.AUDITED)
    world = listed(connection(MIDNIGHT - 10), *asked, audited)

    assert sorted(days(world)) == [
        ("audited", 1, "25", "25"),
        ("not_enforced", 2, "24", "24"),
        ("not_enforced", 2, "25", "25"),
    ]


def test_what_the_proxy_logs_happened_when_it_was_asked() -> None:
    """A tunnel of eight hours is logged at its end: day, mode and expiry are those of the request."""
    begun, over = MIDNIGHT - 3_600.0, MIDNIGHT + 25_200.0
    policy = listing(Given("bad.example", expires="2026-11-25T00:00:00Z"))
    world = World(policy, proxies=[f"{PROXY}:3128"]).see(mode(begun - 9, OFF, AUDIT), mode(over - 9, AUDIT, OFF))
    world.see(
        connection(begun, ended=over),
        flow_end(over, started=begun, ended=over, tls=True),
        proxy_line(over, "bad.example:443", started=begun + 1),
    )
    alert = only(world.wait(300).finish())
    (row,) = world.destinations

    assert (alert["FirstTime"], alert["ProtectionMode"]) == (row["Timestamp"], "off")
    assert str(alert["Query"]).endswith("between (datetime(2026-11-24) .. 1d)")


def test_an_address_is_connected_to_when_the_connection_began() -> None:
    """The start dates the finding, whichever sensor reports first, and whatever the device reported before."""
    there: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 443}
    events: list[Event] = [
        connection(MIDNIGHT - 0.5, ended=MIDNIGHT + 1, **there),
        flow_end(MIDNIGHT + 1.5, started=MIDNIGHT - 0.5, ended=MIDNIGHT + 1, **there),
        connection(MIDNIGHT + 2, port=1),
    ]
    for order in permutations(events):
        assert days(listed(*order, given=Given("203.0.113.9"))) == [("not_enforced", 1, "24", "24")]


@pytest.mark.parametrize("value", ["203.0.113.9", "http://203.0.113.9/a"])
@pytest.mark.parametrize("target", ["/a/b?c=d", "http://203.0.113.9/a/b?c=d"])
def test_the_absolute_form_asks_a_listed_server_as_the_origin_form_does(target: str, value: str) -> None:
    """Sent straight to the server that it names (RFC 9112 section 3.2.2): no proxy, one request."""
    there: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 80}
    asked = request(0.1, target, host="203.0.113.9", **there)
    world = listed(connection(0, **there), asked, given=Given(value))

    assert counts(world) == {("not_enforced", "203.0.113.9"): 1}


@pytest.mark.parametrize("turned", [False, True])
def test_a_listed_name_inside_a_tunnel_whose_connect_is_read_later(turned: bool) -> None:
    """The proxy is not known yet; the sensor marks the name as inside a tunnel, so the proxy's port does not match."""
    events: list[Event] = [request(0.1, "good.example:443"), name(0.2, "bad.example")]
    given = Given("bad.example", action="block", port=443)
    world = listed(connection(0), *(events[::-1] if turned else events), given=given)

    assert counts(world) == {("not_enforced", "bad.example"): 1, ("host_mismatch", "good.example"): 1}
