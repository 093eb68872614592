"""Every rule of the correlator, each with a test that fails without it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import Action, Event, ModeChanged, ProtectionMode, flow_of
from tests.factories import (
    DEVICE,
    PORT,
    PROXY,
    World,
    connection,
    flow_end,
    micros,
    name,
    request,
    settle,
    verdict,
)

# What names a destination


def test_connect_names_the_end_of_a_tunnel() -> None:
    """CONNECT's authority is the destination, exactly, with the process from the kernel's record."""
    world = settle([connection(0), request(0.01, "www.example.com:8443")])
    (row,) = world.destinations

    assert (row["DestinationHost"], row["DestinationPort"]) == ("www.example.com", 8443)
    assert (row["ResolvedBy"], row["Confidence"], row["Outcome"]) == ("connect", "exact", "allowed")
    assert (row["InitiatingProcessId"], row["InitiatingProcessFileName"]) == (4711, "curl")
    assert (row["ProxyIP"], row["ProxyPort"], row["RemoteIP"]) == (PROXY, 3128, "")
    assert row["HttpEventIds"] == ["http/77/0/0.01"]


def test_keep_alive_gives_a_row_for_each_host() -> None:
    """Plain HTTP over one connection to the proxy names several destinations."""
    world = settle(
        [
            connection(0),
            request(0.1, "http://a.example/x", tx=0),
            request(0.2, "http://b.example:8080/y", tx=1),
            request(0.3, "http://a.example/z", tx=2),
        ]
    )

    found = {(row["DestinationHost"], row["DestinationPort"], row["RequestCount"]) for row in world.destinations}
    assert found == {("a.example", 80, 2), ("b.example", 8080, 1)}
    assert len(world.connections) == 1


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("NEWS.Example:443", "news.example", 443),
        ("news.example.:443", "news.example", 443),
        ("[2001:db8::20]:443", "2001:db8::20", 443),
        ("[2001:0db8:0000:0000:0000:0000:0000:0020]:443", "2001:db8::20", 443),
        ("203.0.113.20:443", "203.0.113.20", 443),
        ("[::ffff:203.0.113.20]:443", "203.0.113.20", 443),
        ("http://user:secret@b.example/", "b.example", 80),
        ("https://b.example/", "b.example", 443),
        ("HTTP://B.example?x", "b.example", 80),
        ("http://bücher.example/", "xn--bcher-kva.example", 80),
    ],
)
def test_targets_are_normalised(target: str, host: str, port: int) -> None:
    """Case, trailing dots, brackets, long IPv6, IPv4-mapped IPv6 and IDN have one spelling."""
    (row,) = settle([request(0, target)]).destinations

    assert (row["DestinationHost"], row["DestinationPort"]) == (host, port)


@pytest.mark.parametrize("target", ["cdn.example:", "m", "", "example.com:99999", "exa mple.com:443", ":443"])
def test_half_a_connect_names_nothing(target: str) -> None:
    """A CONNECT line that the sensor saw only in part is no destination."""
    world = settle([connection(0), request(0.1, target, method="CONNECT", status=None)])

    assert world.destinations == []
    assert world.connections[0]["UnresolvedReason"] == "no_usable_request"


def test_server_name_stands_in_for_half_a_connect() -> None:
    """Where CONNECT could not be read, the name inside the tunnel is strong evidence, once the connection settles."""
    world = World().see(connection(0), request(0.1, "m", method="CONNECT", status=None), name(0.2, "mail.example"))
    assert world.destinations == []

    (row,) = world.finish().destinations
    assert (row["DestinationHost"], row["ResolvedBy"], row["Confidence"]) == ("mail.example", "sni", "strong")


def test_late_connect_outranks_the_server_name() -> None:
    """CONNECT logged after the connection settled takes back the name that stood in for it."""
    world = settle([connection(0), name(0.2, "front.example")], proxies=[f"{PROXY}:3128"])
    assert [row["DestinationHost"] for row in world.destinations] == ["front.example"]

    world.see(request(61, "real.example:443")).finish()
    rows = {row["DestinationHost"]: row for row in world.destinations}
    assert rows["real.example"]["Outcome"] == "allowed"
    assert rows["real.example"]["HostMismatch"] == "front.example"
    assert (rows["front.example"]["Outcome"], rows["front.example"]["UnresolvedReason"]) == ("unknown", "superseded")


def test_a_judged_server_name_is_outranked_as_well() -> None:
    """A verdict on the name inside stands in for an unseen CONNECT, and gives way to it."""
    world = settle([connection(0), verdict(0.2, method="", host="front.example")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations
    assert (row["DestinationHost"], row["ResolvedBy"], row["Confidence"]) == ("front.example", "verdict", "strong")

    world.see(request(61, "real.example:443")).finish()
    rows = {row["DestinationHost"]: row for row in world.destinations}
    assert (rows["real.example"]["Outcome"], rows["front.example"]["UnresolvedReason"]) == ("blocked", "superseded")


def test_server_name_confirms_a_late_connect() -> None:
    """The same name from both is one row, which ends up exact."""
    world = settle([connection(0), name(0.2, "a.example"), request(61, "a.example:443")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations

    assert (row["ResolvedBy"], row["Confidence"], row["HostMismatch"]) == ("connect", "exact", "")


def test_fronting_is_kept_as_a_finding() -> None:
    """CONNECT gives the name, another one inside the tunnel is told beside it."""
    (row,) = settle([connection(0), request(0.1, "front.example:443"), name(0.2, "hidden.example")]).destinations

    assert (row["DestinationHost"], row["HostMismatch"]) == ("front.example", "hidden.example")


def test_a_name_behind_an_address_is_no_fronting() -> None:
    """A tunnel asked for by address says its server name without being a finding."""
    (row,) = settle([connection(0), request(0.1, "203.0.113.9:443"), name(0.2, "site.example")]).destinations

    assert (row["DestinationHost"], row["RemoteIP"], row["HostMismatch"]) == ("203.0.113.9", "203.0.113.9", "")
    assert row["AdditionalFields"] == '{"Sni":"site.example"}'


def test_host_header_names_what_a_known_proxy_is_asked_in_origin_form() -> None:
    """Origin form to a listed proxy: the Host header is strong evidence."""
    world = settle([connection(0), request(0.1, "/x", host="old.example")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations

    assert (row["DestinationHost"], row["DestinationPort"], row["ResolvedBy"]) == ("old.example", 80, "host_header")


def test_a_request_for_the_proxy_itself_names_nothing() -> None:
    """The proxy's own pages are no destination behind it."""
    world = settle([connection(0), request(0.1, "/wpad.dat", host=PROXY)], proxies=[f"{PROXY}:3128"])

    assert world.destinations == []


def test_plain_http_inside_a_tunnel_is_not_another_destination() -> None:
    """Transaction numbers begin anew inside a tunnel; its requests belong to the tunnel's end."""
    world = settle([connection(0), request(0.1, "a.example:80"), request(0.2, "/x", host="a.example", tx=0)])

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]


# What became of it


@pytest.mark.parametrize(
    ("target", "status", "outcome"),
    [
        ("a.example:443", 200, "allowed"),
        ("a.example:443", 407, "failed"),
        ("a.example:443", 403, "failed"),
        ("a.example:443", 503, "failed"),
        ("a.example:443", None, "unknown"),
        ("http://a.example/", 200, "allowed"),
        ("http://a.example/", 404, "allowed"),
        ("http://a.example/", 405, "allowed"),
        ("http://a.example/", 403, "failed"),
        ("http://a.example/", 407, "failed"),
        ("http://a.example/", 502, "failed"),
        ("http://a.example/", 400, "unknown"),
        ("http://a.example/", None, "unknown"),
    ],
)
def test_outcome_follows_the_answer(target: str, status: int | None, outcome: str) -> None:
    """A proxy's refusal and a missing answer are never shown as reached."""
    (row,) = settle([connection(0), request(0.1, target, status=status)]).destinations

    assert row["Outcome"] == outcome
    assert (
        row["ActionType"]
        == {
            "allowed": "ConnectionSuccess",
            "failed": "ConnectionFailed",
            "unknown": "ConnectionAttempt",
        }[outcome]
    )


def test_asked_again_after_authentication_is_allowed() -> None:
    """407 and then 200 on one connection is one destination that was reached."""
    (row,) = settle(
        [connection(0), request(0.1, "a.example:443", status=407), request(0.2, "a.example:443", status=200, tx=1)]
    ).destinations

    assert (row["Outcome"], row["RequestCount"], row["HttpStatus"]) == ("allowed", 2, 200)


def test_a_blocked_request_has_only_its_verdict() -> None:
    """The verdict names the destination, and a successful handshake is not shown as a bare success."""
    world = settle([connection(0), verdict(0.1, "http://bad.example/x")])
    (row,) = world.destinations
    (hop,) = world.connections

    assert (row["DestinationHost"], row["Outcome"], row["ResolvedBy"]) == ("bad.example", "blocked", "verdict")
    assert row["ActionType"] == "ConnectionFailed"
    assert (hop["ActionType"], hop["Outcome"], hop["ProtectionMode"]) == ("ConnectionSuccess", "blocked", "block")


def test_a_block_inside_a_tunnel_blocks_its_end() -> None:
    """CONNECT answered 200, then the name inside was stopped: the destination was blocked."""
    (row,) = settle(
        [connection(0), request(0.1, "bad.example:443"), verdict(0.2, method="", host="bad.example")]
    ).destinations

    assert (row["DestinationHost"], row["Outcome"]) == ("bad.example", "blocked")


def test_an_audited_request_is_told_from_an_allowed_one() -> None:
    """Audit does not stop, but says so."""
    (row,) = settle([connection(0), request(0.1, "bad.example:443"), verdict(0.1, action=Action.AUDITED)]).destinations

    assert (row["Outcome"], row["ProtectionMode"], row["ActionType"]) == ("audited", "audit", "ConnectionSuccess")


def test_mode_is_off_while_nothing_is_known() -> None:
    """Before its first verdict a device's mode is off; a verdict changes it from its own time on."""
    world = settle(
        [
            connection(0, port=1),
            request(0.1, "a.example:443", port=1, flow="1"),
            connection(5, port=2),
            verdict(5.1, port=2, flow="2"),
            connection(6, port=3),
            request(6.1, "b.example:443", port=3, flow="3"),
        ]
    )

    modes = {row["DestinationHost"]: row["ProtectionMode"] for row in world.destinations}
    assert modes == {"a.example": "off", "bad.example": "block", "b.example": "block"}


def test_an_audit_rule_on_a_blocking_device_does_not_change_its_mode() -> None:
    """Inline sensors have rules that only alert; the device still blocks."""
    world = settle(
        [verdict(0, flow="1", port=1), verdict(1, "soft.example:443", action=Action.AUDITED, flow="2", port=2)]
    )

    assert {row["ProtectionMode"] for row in world.destinations} == {"block"}


def test_a_sensor_may_report_the_mode_itself() -> None:
    """A mode change without a verdict: in force from its time on."""
    world = settle(
        [
            request(0, "a.example:443", port=1, flow="1"),
            ModeChanged(DEVICE, micros(5), ProtectionMode.AUDIT, "mode/1"),
            request(6, "b.example:443", port=2, flow="2"),
            ModeChanged(DEVICE, micros(7), ProtectionMode.BLOCK, "mode/2"),
            request(8, "c.example:443", port=3, flow="3"),
        ]
    )

    modes = {row["DestinationHost"]: row["ProtectionMode"] for row in world.destinations}
    assert modes == {"a.example": "off", "b.example": "audit", "c.example": "block"}


# Why not


def test_without_http_level_events_protection_is_off() -> None:
    """A proxied connection on a device that shows no HTTP-level event at all."""
    (row,) = settle([connection(0)], proxies=[f"{PROXY}:3128"]).connections

    assert (row["UnresolvedReason"], row["Outcome"], row["DestinationHost"]) == ("protection_off", "unknown", "")


def test_without_its_own_http_event_it_is_unresolved() -> None:
    """HTTP-level events of other connections were seen before, none of this one."""
    world = settle([request(0, "a.example:443", port=1, flow="1"), connection(10, port=2)])
    rows = {row["LocalPort"]: row for row in world.connections}

    assert rows[2]["UnresolvedReason"] == "no_http_event"


def test_tls_to_the_proxy_hides_the_destination() -> None:
    """TLS from the first byte to an address that acts as a proxy: the server name is the proxy's own."""
    world = settle(
        [
            request(0, "a.example:443", port=1, flow="1"),
            connection(1, port=2, remote_port=3129),
            name(1.1, "proxy.corp.example", tunnelled=False, port=2, flow="2", remote_port=3129),
        ]
    )
    row = next(row for row in world.connections if row["LocalPort"] == 2)

    assert row["UnresolvedReason"] == "encrypted_to_proxy"
    assert [r["DestinationHost"] for r in world.destinations] == ["a.example"]


def test_a_tunnel_older_than_the_sensor_says_so() -> None:
    """The connection began before the sensor's first word."""
    world = settle([connection(0, port=1), request(5, "a.example:443", port=2, flow="2")])
    row = next(row for row in world.connections if row["LocalPort"] == 1)

    assert row["UnresolvedReason"] == "older_than_sensor"


def test_a_flow_picked_up_in_the_middle_is_turned_round() -> None:
    """The sensor guesses the direction of a flow whose beginning it missed; the proxy is not the client."""
    turned = replace(
        flow_end(9, started=1, ended=8, midstream=True, sent=1, received=2),
        flow=flow_of(PROXY, 3128, "10.0.0.7", 55_555, "9"),
    )
    world = settle([request(0, "a.example:443", port=1, flow="1"), turned])
    row = next(row for row in world.connections if row["LocalPort"] == 55_555)

    assert (row["RemoteIP"], row["RemotePort"], row["UnresolvedReason"]) == (PROXY, 3128, "older_than_sensor")
    assert (row["BytesSent"], row["BytesReceived"]) == (2, 1)


def test_an_unlisted_remote_end_may_be_a_proxy_on_a_blind_device() -> None:
    """Without any HTTP-level event nobody can tell a proxy from a server: unresolved, not called direct."""
    world = settle([connection(0, remote="203.0.113.5")])
    (row,) = world.connections

    assert (row["UnresolvedReason"], row["ResolvedBy"], row["ProxyIP"]) == ("protection_off", "", "")
    assert (row["ActionType"], row["Outcome"]) == ("ConnectionSuccess", "unknown")
    assert world.counts["unresolved:protection_off"] == 1


def test_an_address_is_not_a_proxy_for_what_any_server_answers() -> None:
    """An origin server answers an absolute-form request, too: TLS to it on another port is not called hidden."""
    world = settle(
        [
            request(0, "http://a.example/", port=1, flow="1"),
            connection(1, port=2, remote_port=443),
            name(1.1, "site.example", tunnelled=False, port=2, flow="2", remote_port=443),
        ]
    )
    row = next(row for row in world.connections if row["LocalPort"] == 2)

    assert (row["ResolvedBy"], row["DestinationHost"], row["UnresolvedReason"]) == ("direct", "site.example", "")


def test_a_server_asked_for_itself_is_no_proxy() -> None:
    """An absolute URI that names the very end of the connection goes through nobody."""
    world = settle([connection(0), request(0.1, f"http://{PROXY}:3128/")])

    assert world.destinations == []
    assert world.connections[0]["ProxyIP"] == ""


# What a connection is


def test_a_direct_connection_has_one_row() -> None:
    """No proxy: one row, whose name is what TLS says."""
    world = settle(
        [
            connection(0, remote="203.0.113.5", remote_port=443),
            name(0.1, "site.example", tunnelled=False, remote="203.0.113.5", remote_port=443),
        ]
    )
    (row,) = world.rows

    assert (row["Layer"], row["ProxyIP"], row["ProxyPort"]) == ("connection", "", None)
    assert (row["RemoteIP"], row["DestinationHost"], row["RemoteUrl"]) == (
        "203.0.113.5",
        "site.example",
        "site.example",
    )
    assert (row["ResolvedBy"], row["Outcome"]) == ("direct", "allowed")


def test_a_failed_attempt_is_no_success() -> None:
    """The handshake failed."""
    (row,) = settle([connection(0, remote="203.0.113.5", failed=True)]).connections

    assert row["UnresolvedReason"] == ""
    assert (row["ActionType"], row["Outcome"]) == ("ConnectionFailed", "failed")


def test_a_denied_proxy_is_never_taken_for_one() -> None:
    """The settings have the last word on who is a proxy."""
    world = settle([connection(0), request(0.1, "a.example:443")], not_proxies=[f"{PROXY}:3128"])

    assert world.destinations == []
    assert world.connections[0]["ProxyIP"] == ""


def test_a_proxy_is_learnt_for_connections_seen_before() -> None:
    """What another connection asks of an address tells what an earlier one was for."""
    world = World().see(connection(0, port=1)).wait(20)
    assert world.connections[0]["ProxyIP"] == ""

    world.see(request(25, "a.example:443", port=2, flow="2"))
    assert world.connections[0]["ProxyIP"] == PROXY
    assert world.connections[0]["UnresolvedReason"] in ("protection_off", "older_than_sensor")


def test_reused_tuples_are_told_apart_by_start() -> None:
    """Two connections of one 5-tuple within milliseconds, with a record logged only when the tuple came again."""
    events: list[Event] = [
        connection(0, pid=1, ended=0.002),
        connection(1.5, pid=2, ended=1.502),
        request(1.5005, "http://first.example/", flow="1"),
        flow_end(1.5006, started=0, ended=0.002, flow="1"),
        request(1.501, "http://second.example/", flow="2"),
        flow_end(60, started=1.5, ended=1.502, flow="2"),
    ]
    for order in (events, list(reversed(events)), [*events[2:], *events[:2]]):
        world = settle(order)
        found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations}

        assert found == {"first.example": 1, "second.example": 2}
        assert len(world.connections) == 2


def test_another_connection_of_the_tuple_is_not_guessed() -> None:
    """Evidence that fits no kernel record's life gets no process rather than a wrong one."""
    world = World().see(connection(0, ended=1), request(50, "a.example:443")).wait(20)
    rows = world.destinations

    assert rows[0]["InitiatingProcessId"] in (None, 4711)
    assert (
        World().see(connection(0, ended=1), request(50, "a.example:443")).destinations[0]["InitiatingProcessId"] is None
    )


def test_without_a_kernel_record_it_still_resolves() -> None:
    """No endpoint sensor: the destination, and no process."""
    world = settle([request(0, "a.example:443"), flow_end(70, started=0, ended=9)])
    (row,) = world.destinations
    (hop,) = world.connections

    assert (row["DestinationHost"], row["InitiatingProcessId"], row["InitiatingProcessFileName"]) == (
        "a.example",
        None,
        "",
    )
    assert (hop["DestinationHost"], hop["BytesReceived"]) == ("a.example", 20)
    assert hop["ConnectionTime"] == row["ConnectionTime"]


def test_the_flow_record_gives_the_start() -> None:
    """Logged at the end of a tunnel, CONNECT alone would date the connection wrongly."""
    (row,) = settle([request(60, "a.example:443"), flow_end(60.1, started=0, ended=59)]).destinations

    assert row["ConnectionTime"] == "2026-11-24T19:07:28.000000Z"
    assert row["Timestamp"] == "2026-11-24T19:08:27.000000Z"


# When rows leave


def test_a_destination_leaves_at_once() -> None:
    """No waiting for kernel record, flow end or anything else."""
    world = World().see(request(0, "a.example:443"))

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]
    assert world.connections == []


def test_the_connection_leaves_with_its_destination_once_the_process_is_known() -> None:
    """Kernel record and CONNECT: nothing more to wait for."""
    world = World().see(connection(0), request(0.1, "a.example:443"))

    assert [row["DestinationHost"] for row in world.connections] == ["a.example"]


def test_an_unresolved_connection_leaves_after_the_patience() -> None:
    """Eight seconds by default, on the device's own clock; a later event still replaces the row."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0)).wait(7)
    assert world.rows == []

    world.wait(2)
    assert [row["DestinationHost"] for row in world.connections] == [""]

    world.see(request(60, "a.example:443"))
    assert [row["DestinationHost"] for row in world.connections] == ["a.example"]
    assert len({row["RecordId"] for row in world.versions if row["Layer"] == "connection"}) == 1


def test_one_clock_ahead_does_not_move_time() -> None:
    """A single event from the far future settles nothing; a second one that agrees moves the device's clock."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0), connection(90_000, port=2))
    assert world.rows == []

    world.see(connection(90_001, port=3))
    assert world.connections[0]["LocalPort"] == PORT


def test_a_clock_that_was_set_back_is_followed() -> None:
    """The device was a day ahead and is set right: time goes on from there, and connections settle again."""
    day = 86_400
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(day, port=1), connection(0, port=2), connection(1, port=3))
    world.wait(10)

    assert {row["LocalPort"] for row in world.connections} == {2, 3}


def test_what_grows_is_bounded() -> None:
    """Names, judged requests, destinations and learnt proxies of one connection or device have an end."""
    world = World()
    for n in range(300):
        world.see(
            request(n * 0.01, f"http://h{n}.example/", tx=n),
            verdict(n * 0.01, f"http://j{n}.example/", tx=n, action=Action.AUDITED, port=2, flow="2"),
            name(n * 0.01, f"n{n}.example", port=3, flow="3", remote="203.0.113.1"),
        )
    kept = [world.device.group(key) for key in world.device.groups]
    counted = {a["DestinationDomain"]: a["Count"] for a in world.alerts}

    assert [len(c.destinations) for group in kept for c in group or ()] == [256, 256, 0]
    assert max(len(c.judged) for group in kept for c in group or ()) == 256
    assert max(len(c.inner) for group in kept for c in group or ()) == 16
    assert set(counted.values()) == {1}
    assert len(counted) == 300
    for n in range(1100):
        world.see(request(5 + n * 0.001, "a.example:443", port=9, flow=f"p{n}", remote=f"10.1.{n // 200}.{n % 200}"))
    assert len(world.device.facts.proxies) == 1000
    assert world.counts["proxies_not_learnt"] > 0


def test_ended_connections_leave_the_state() -> None:
    """Nothing is kept once time has passed; open ones are kept until they idle out."""
    world = World(linger_secs=100, idle_secs=1000).see(
        connection(0, ended=1), connection(0, port=2), request(0.5, "a.example:443", port=2, flow="2")
    )
    world.see(connection(150, port=3, ended=151))
    assert [key.split()[1] for key in world.device.groups] == ["2", "3"]

    world.wait(1200)
    assert world.device.groups == {}
    assert sum(map(len, world.device.timers.values())) == 0
    assert (world.counts["left:ended"], world.counts["left:idle"]) == (1, 2)


def test_a_device_that_was_cut_off_tells_the_rest_later() -> None:
    """Ten minutes of silence settle what waits and forget nothing: the rest comes, and finds what it belongs to."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0, ended=5)).wait(600)
    assert world.connections[0]["UnresolvedReason"] == "protection_off"

    world.see(request(0.1, "a.example:443"), connection(6, port=2), request(6.1, "b.example:443", port=2, flow="2"))
    found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations}
    assert found == {"a.example": 4711, "b.example": 4711}
    assert [row["DestinationHost"] for row in world.connections] == ["a.example", "b.example"]


def test_what_comes_late_between_what_is_new_is_joined_as_well() -> None:
    """A device sends its latest first and fills in hours later what it could not send: both halves still meet."""
    world = World()
    for number in range(20):
        at = number * 10
        world.see(
            connection(10_000 + at, port=100 + number),
            connection(at, port=200 + number, pid=number, ended=at + 5),
            request(10_001 + at, "new.example:443", port=100 + number, flow=f"n{number}"),
            request(at + 0.1, "old.example:443", port=200 + number, flow=f"o{number}"),
        )
    old = [row for row in world.destinations if row["DestinationHost"] == "old.example"]

    assert [row["InitiatingProcessId"] for row in old] == list(range(20))
    assert len(world.finish().connections) == 40


def test_a_device_with_too_many_connections_lets_the_oldest_go() -> None:
    """The bound holds, the oldest one still gets its row, and the loss is counted."""
    world = World(connections_max=2).see(*(connection(i, port=10 + i) for i in range(3)))

    assert len(world.device.groups) == 2
    assert [row["LocalPort"] for row in world.connections] == [10]
    assert world.counts["left:too_many"] == 1


def test_every_connection_is_booked_once() -> None:
    """Resolved, unresolved with reason, or waiting: the sum is the number of connections."""
    world = World(proxies=[f"{PROXY}:3128"]).see(
        connection(0, port=1),
        request(0.1, "a.example:443", port=1, flow="1"),
        connection(1, port=2),
        connection(20, port=3),
    )

    counts = world.counts
    assert counts["connections"] == 3
    assert {what: n for what, n in counts.items() if "resolved" in what} == {
        "resolved:connect": 1,
        "unresolved:no_http_event": 1,
    }
    world.see(request(21, "b.example:443", port=2, flow="2"))
    assert {what: n for what, n in world.counts.items() if "resolved" in what} == {"resolved:connect": 2}


def test_repeats_change_nothing() -> None:
    """The same records again: no further row, no further count."""
    events: list[Event] = [
        connection(0),
        request(0.1, "a.example:443"),
        name(0.2, "a.example"),
        flow_end(70, started=0, ended=9),
    ]
    world = World().see(*events)
    made = len(world.versions)
    world.see(*events, *events)

    assert len(world.versions) == made
    assert world.counts["connections"] == 1


def test_times_are_the_connections_own() -> None:
    """The row's ConnectionTime is the established handshake, its end the kernel's close."""
    (row,) = settle([connection(3, ended=4), request(3.5, "a.example:443")]).connections

    assert row["ConnectionTime"] == "2026-11-24T19:07:31.000000Z"
    assert row["ConnectionEndTime"] == "2026-11-24T19:07:32.000000Z"
    assert micros(3) == 1_795_547_251_000_000
