"""What the sensor asks of this very kernel, as root: sockets destroyed, bytes reported, packets held; each in its own network."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from schemas.events import TEXT_CHARS_MAX

ROOT = Path(__file__).parents[4]
HERE, BESIDE = "198.51.100.1", "198.51.100.2"
V4, V6, MAPPED = "198.51.100.80", "2001:db8:51::80", "::ffff:198.51.100.80"
ABORTED = "ConnectionAbortedError"


@cache
def outcome_of(scenario: str) -> dict[str, Any]:
    """What a scenario gives."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.producers.sensor.enforce.enforced", scenario],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome | {"output": done.stderr}


def test_listed_requests_do_not_reach_the_proxy() -> None:
    """CONNECT, absolute URI and name in a tunnel, over IPv4 and IPv6: the client fails at once, the proxy gets nothing of it.

    A client that is not ended runs into its own timeout, which is another error.
    """
    outcome = outcome_of("inline")

    assert outcome["inline"] is True
    for address in (V4, V6):
        assert outcome["asked"][address] == [
            [ABORTED],
            [ABORTED],
            ["answered", ABORTED],
            ["answered", "answered"],
        ]
    assert len(outcome["got"]) == 6
    assert not any("listed.example" in content for content in outcome["got"])


def test_each_is_reported_with_how() -> None:
    """A mode line at the start, a verdict each, with the entry of the list."""
    mode, *verdicts = outcome_of("inline")["lines"]

    assert (mode["kind"], mode["mode"], mode["device"]) == ("mode", "block", "dev-a")
    assert [(one["kind"], one["action"], one["how"]) for one in verdicts] == [("verdict", "blocked", "inline")] * 6
    assert [one["host"] for one in verdicts[:3]] == ["listed.example", "sub.listed.example", "listed.example"]
    assert [(one["local_ip"], one["remote_ip"], one["remote_port"]) for one in verdicts] == [
        *[(V4, V4, 3128)] * 3,
        *[(V6, V6, 3128)] * 3,
    ]
    assert all(one["title"].endswith("listed.txt's entry listed.example") for one in verdicts)
    assert len(verdicts[0]["title"]) < TEXT_CHARS_MAX


def test_nothing_is_left_and_all_goes_on_afterwards() -> None:
    """At the end the table is gone, and what was stopped before passes."""
    outcome = outcome_of("inline")

    assert (outcome["tables"], outcome["left"], outcome["after"]) == (1, [], ["answered"])


def test_what_was_done_is_counted() -> None:
    """On the producer's page, and in the sensor's last word."""
    moved = {name: number for name, number in outcome_of("inline")["counted"].items() if number}

    assert moved == {"unproxy_endpoint_listed_total blocked_inline": 6}


def test_without_rules_sockets_are_destroyed_at_sight() -> None:
    """The request may have got through; the client is cut off, and the line reports how. What was answered is not blocked."""
    outcome = outcome_of("at_sight")
    _, first, second, gone = outcome["lines"]

    assert (outcome["inline"], outcome["error"], outcome["got"]) == (False, ABORTED, 3)
    assert (first["action"], first["how"]) == ("blocked", "socket_destroyed")
    assert "inline blocking is not available: sockets of listed requests are destroyed" in outcome["output"]
    # The answer to an earlier request of the connection is one; of a connection that is no more nothing is known.
    assert [(one["action"], one["why"], "how" in one) for one in (second, gone)] == [
        ("audited", "answer_received", False),
        ("audited", "socket_gone", False),
    ]


def test_sockets_are_destroyed_of_each_family() -> None:
    """IPv4, IPv6 and IPv4 through a socket of IPv6; a second time there is nothing; who listens on the port stays."""
    outcome = outcome_of("sockets")

    assert outcome["why_not"] == ""
    assert [outcome[address] for address in (V4, V6, MAPPED)] == [[True, ABORTED, False, False]] * 3


def test_bytes_of_what_ends_are_those_that_were_sent() -> None:
    """Once for each connection, whichever end ends it; an end that came counts as one more byte received."""
    outcome = outcome_of("ends")

    assert outcome["ends"] == {
        f"{who} {address}": [reported]
        for who, reported in (
            ("client", [123_456, 7_778, 1]),
            ("server", [123_456, 7_778, 0]),
            ("destroyed", [123_456, 7_777, 0]),
        )
        for address in (V4, V6, MAPPED)
    }
    assert (outcome["lost"], outcome["without"]) == (0, 0)


def test_lost_ends_are_counted() -> None:
    """With too little room the kernel reports that something was lost."""
    outcome = outcome_of("ends_lost")

    assert outcome["reported"] < 200
    assert outcome["lost"] > 0


def test_a_killed_sensor_blocks_nothing() -> None:
    """Its table goes with it; where the kernel cannot do that, the rules let pass, and the next sensor removes them."""
    outcome = outcome_of("killed")

    assert outcome["owned"] == [1, 0, ["answered"], 0, []]
    assert outcome["named"] == [1, 1, ["answered"], 1, []]


def test_what_others_ask_a_proxy_here_teaches_nothing() -> None:
    """Neither does it come out of the kernel; what is asked from here of a proxy elsewhere does, and it is learnt."""
    outcome = outcome_of("learnt")

    assert outcome["asked"] == [["answered"], ["answered"]]
    assert (outcome["askers"], outcome["proxies"]) == ([HERE], [[BESIDE, 3128]])
    assert [(line["local_ip"], line["target"]) for line in outcome["lines"]] == [(HERE, "fine.example:443")]


def test_what_has_no_room_goes_on_and_is_counted() -> None:
    """A queue without a reader holds up nothing but what it has room for."""
    outcome = outcome_of("no_room")

    assert outcome["got"] == 20_000
    assert outcome["held"] > 0
    assert outcome["unseen"] > 0


def test_a_fault_of_ours_holds_up_nothing() -> None:
    """What cannot be decided goes on, counted and logged; a second queue takes the next number."""
    outcome = outcome_of("faulty")

    assert (outcome["asked"], outcome["failed"], outcome["numbers"], outcome["left"]) == (["answered"], True, 1, [])
    assert "no decision on a packet, it passes" in outcome["output"]


def test_blocked_is_reported_only_without_a_response_to_the_client() -> None:
    """On first contact with a proxy that answers at once, and while it is learnt, by CONNECT and by absolute URI.

    Each request has one verdict. One that was answered is audited, and has its own line behind the verdict. Which of the later
    requests are answered is a race; the verdict has to agree with the client either way.
    """
    outcome = outcome_of("at_once")
    asked, reported = outcome["asked"], outcome["reported"]
    http = ["http", None, None]

    assert len(asked) == 60
    for client, (verdict, *more) in zip(asked, reported, strict=True):
        kind, action, why = verdict
        assert (kind, action, more) == (
            ("verdict", "audited", [http]) if client == "answered" else ("verdict", "blocked", [])
        )
        assert client == "aborted" or why in {"answer_received", "socket_gone", "unproven"}
    # The first client had its answer before its request was seen. The first one of the silent proxy can have none.
    assert (asked[0], reported[0][0]) == ("answered", ["verdict", "audited", "answer_received"])
    assert (asked[48], reported[48]) == ("aborted", [["verdict", "blocked", "socket_destroyed"]])


def test_nothing_listed_passes_to_a_proxy_before_it_is_learnt() -> None:
    """With `hold_unknown`, by whatever it is asked; what is not asked of a proxy, and what a denied one is asked, goes on."""
    outcome = outcome_of("unknown_held")
    whole, aborted = outcome["whole"], [ABORTED]

    assert outcome["asked"] == {
        "connect": aborted, "uri": aborted, "socks": aborted, "name in a tunnel": ["answered", ABORTED],
        "fine": ["answered", "answered"], "no proxy": ["answered"], "no proxy, TLS": ["answered"], "denied": ["answered"],
        "bytes": aborted,
    }  # fmt: skip
    got = outcome["got"]
    assert "CONNECT listed.example:443 HTTP/1.1\r\nHost: listed.example:443\r\n\r".startswith(got.pop("bytes"))
    assert got == whole | {"connect": 0, "uri": 0, "socks": 0, "name in a tunnel": got["name in a tunnel"]}
    assert 0 < got["name in a tunnel"] < whole["name in a tunnel"]
    assert outcome["verdicts"] == [[f"127.0.1.{number}", "blocked", "inline"] for number in (1, 2, 3, 4, 99)]
    assert outcome["left"] == []
