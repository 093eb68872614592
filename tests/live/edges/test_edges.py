"""The edge lab: how it judges, that its requests have the stated form, and its short run through real proxies."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from schemas.events import ProtectionMode
from tests.live.edges.judge import HEAD, Done, Row, Rows, Tally, Verdict, judge
from tests.live.edges.logs import logged
from tests.live.edges.origin import answer_name
from tests.live.edges.proxies import NGINX_TLS, PROXIES
from tests.live.edges.scenarios import SCENARIOS, Request, Scenario, address_of, host_of, requests
from tests.live.stage import PROXY, ROOT

AUDIT, BLOCK = ProtectionMode.AUDIT, ProtectionMode.BLOCK
ORDINARY, REUSED, TLS, TWO_HOSTS, FEW_PORTS = (
    next(scenario for scenario in SCENARIOS if scenario.name == name)
    for name in ("absolute target", "port used again", "tls to the proxy", "connect with two hosts", "few ports")
)
SHORT = [scenario.name for scenario in SCENARIOS if scenario.short]
PLACE = (40_000, PROXY, 3128)
LINE = re.compile(r"(audit|block)  (.{26}) " + r" *([\d,]+)" * 5 + r"(?:  .*)?")
"""Mode, scenario, and the counts of HEAD."""


def asked(scenario: Scenario = ORDINARY, mode: ProtectionMode = AUDIT) -> Request:
    """Request 8 through squid."""
    return Request(8, scenario, "squid", mode)


def done(request: Request | None = None, *, answered: bool = True, reached: str | None = None) -> Done:
    """What client and origin know of it: carried out, unless something else was reached."""
    request = request or asked()
    hosts = frozenset(filter(None, [request.host if reached is None else reached]))
    return Done(
        request, PLACE, 7, frozenset({"python", "python3.11"}), "/bin/python3.11", "python -m x", answered, hosts
    )


def connection(**columns: Any) -> Row:
    """The row of its connection."""
    base = {
        "RecordId": "c",
        "ConnectionId": "c",
        "Version": 1,
        "Layer": "connection",
        "LocalPort": 40_000,
        "RemoteIP": PROXY,
        "RemotePort": 3128,
    }
    place = {
        "ProxyIP": PROXY,
        "ProxyPort": 3128,
        "ResolvedBy": "absolute_uri",
        "UnresolvedReason": "",
        "Outcome": "allowed",
    }
    process = {"InitiatingProcessFileName": "python", "InitiatingProcessId": 7}
    return {**base, **place, **process, "DestinationHost": "", **columns}


def destination(host: str = "r8.edge.example", **columns: Any) -> Row:
    """The row of its destination."""
    return connection(**{"RecordId": f"d {host}", "Layer": "destination", "DestinationHost": host, **columns})


def verdict(**columns: Any) -> Row:
    """The row of a verdict on it."""
    return {"RecordId": "v", "Version": 1, "LocalPort": 40_000, "Outcome": "audited", **columns}


def tally(one: Done, *rows: Row, verdicts: tuple[Row, ...] = ()) -> Tally:
    """The only scenario's."""
    (found,) = judge([one], Rows.of(rows, verdicts))
    return found


def found(one: Done, *rows: Row, verdicts: tuple[Row, ...] = ()) -> set[str]:
    """What is not right."""
    return set(tally(one, *rows, verdicts=verdicts).findings)


def test_a_right_row_is_right() -> None:
    """Named as it was reached, by its process; the latest version counts."""
    early = destination("r9.edge.example", RecordId="d r8.edge.example", Version=0)
    good = tally(done(), early, connection(), destination(InitiatingProcessCommandLine="python -m x"))

    assert good.is_good
    assert good.in_words().split() == ["audit", "absolute", "target", "1", "1", "0", "0", "1"]
    assert HEAD.split() == ["mode", "scenario", "requests", "right", "wrong", "missing", "done"]


@pytest.mark.parametrize(
    ("one", "rows", "why"),
    [
        (done(), [destination("other.example")], "names other.example"),
        (done(), [destination("r9.edge.example")], "names a host that was not reached"),
        (done(reached=""), [destination()], "allowed, and nothing was reached"),
        (done(), [destination(), connection(ResolvedBy="direct")], "direct, through a proxy"),
        (done(), [destination(InitiatingProcessId=8)], "another process"),
        (done(), [destination(InitiatingProcessFileName="sh")], "a later program"),
        (done(), [destination(InitiatingProcessFolderPath="/bin/sh")], "a later program"),
        (done(), [destination(InitiatingProcessCommandLine="sh -c x")], "a later program"),
        (done(), [destination(Outcome="blocked")], "blocked, and the client was answered"),
    ],
)
def test_a_wrong_row_is_wrong(one: Done, rows: list[Row], why: str) -> None:
    """Each way in which a row can contradict what happened."""
    result = tally(one, *([] if rows[-1]["Layer"] == "connection" else [connection()]), *rows)

    assert set(result.findings) == {why} | ({"no destination"} if "names" in why else set())
    assert (result.counts[Verdict.WRONG], result.is_good) == (1, False)


def test_what_is_missing() -> None:
    """A connection, a destination, a reason, a process, a report of what was listed."""
    reused, listed, two = done(asked(REUSED)), done(asked(mode=BLOCK), answered=False), done(asked(TWO_HOSTS))
    named = destination("r8.listed.example")

    assert found(done()) == {"no connection"}
    assert found(done(), connection()) == {"no destination"}
    assert found(two, connection()) == {"no reason"}
    assert found(two, connection(UnresolvedReason="no_usable_request")) == set()
    assert found(reused, connection(), destination(InitiatingProcessId=None)) == {"no process"}
    assert found(reused, connection(InitiatingProcessId=1), destination()) == set()
    assert found(listed, connection(), named) == {"listed, carried out, not reported"}
    assert found(listed, connection(), named, verdicts=(verdict(),)) == set()
    assert not tally(listed, connection(), named).is_good
    assert tally(done(), connection()).is_good, "missing only"


def test_a_host_named_on_another_connection_is_wrong() -> None:
    """Each host is asked for once."""
    elsewhere = destination(LocalPort=40_001, RecordId="e")

    assert found(done(), connection(), destination(), elsewhere) == {"named on another connection"}


def test_of_a_port_that_many_had_only_the_rows_of_the_request_count() -> None:
    """The rows before and after it are of other requests."""
    before = {"RecordId": "b", "ConnectionId": "b", "InitiatingProcessId": 6}
    others = connection(**before), destination("r6.edge.example", **{**before, "RecordId": "d b"})
    one = done(asked(FEW_PORTS))
    child: dict[str, Any] = {"InitiatingProcessId": 6}

    assert found(one, *others, connection(), destination()) == set()
    assert found(one, *others) == {"no connection"}
    assert found(one, *others, connection(**child), destination(**child)) == {"another process", "no process"}


def test_a_difference_to_the_log_is_named_and_no_verdict() -> None:
    """Where the proxy's log shows more or less than the origin."""
    rows = connection(), destination()
    less, same = (tally(replace(done(), is_logged=is_logged), *rows) for is_logged in (False, True))
    more = tally(replace(done(reached="", answered=False), is_logged=True), connection())

    assert less.in_words().endswith("not in the proxy's log (squid)")
    assert more.in_words().endswith("only in the proxy's log (squid)")
    assert (same.differences, less.is_good, more.is_good) == ({}, True, True)


def test_logs_name_the_answered_ports(tmp_path: Path) -> None:
    """Success only; proxies without such a log show nothing."""
    (tmp_path / "proxies").mkdir()
    (tmp_path / "proxies/squid-access.log").write_text("edge 12002 200\nedge 12004 503\nedge 0 000\n")

    assert logged(tmp_path, "squid") == frozenset({12_002})
    assert logged(tmp_path, "dante") is None


def test_blocked_needs_a_client_without_an_answer() -> None:
    """Also where only the verdict reports the block."""
    stopped = verdict(Outcome="blocked")
    blocked = connection(Outcome="blocked"), destination("r8.listed.example", Outcome="blocked")

    assert found(done(asked(mode=BLOCK), answered=False), *blocked, verdicts=(stopped,)) == set()
    assert found(done(asked(mode=BLOCK)), connection(), destination("r8.listed.example"), verdicts=(stopped,)) == {
        "blocked, and the client was answered"
    }


def test_tls_to_the_proxy_is_called_so() -> None:
    """The destination stays unknown."""
    inside = done(asked(TLS))

    assert found(inside, connection(UnresolvedReason="encrypted_to_proxy", ResolvedBy="")) == set()
    assert found(inside, connection(UnresolvedReason="no_http_event", ResolvedBy="")) == {"not called encrypted"}


@pytest.mark.parametrize("mode", [AUDIT, BLOCK])
def test_each_request_has_hosts_of_its_own(mode: ProtectionMode) -> None:
    """Names and addresses lead to each other, and no two requests share one; the words name the host."""
    all_asked = list(requests(mode, (*PROXIES, NGINX_TLS, "instant"), short=False))
    hosts = [host for request in all_asked for host in (request.host, request.other)]

    assert len(set(hosts)) == len(hosts) == 2 * len(all_asked)
    assert {request.scenario for request in all_asked} == set(SCENARIOS)
    for request in all_asked:
        assert host_of(request.address) == request.host
        assert address_of(request.host.upper() + ".") == request.address
        assert request.words()
    assert (host_of(IPv4Address("192.0.2.1")), address_of("r1.example.net"), address_of("www.edge.example")) == (
        "",
        None,
        None,
    )


def test_results_match_their_scenario() -> None:
    """The address in other notations (inet_aton), a mark where the urgent byte goes, a hello."""
    words = {scenario.name: Request(258, scenario, "squid", AUDIT).words() for scenario in SCENARIOS}

    assert words["decimal address"].startswith(b"GET http://1681916162/ ")
    assert words["octal address"].startswith(b"GET http://0144.0100.01.02/ ")
    assert words["short address"].startswith(b"GET http://100.4194562/ ")
    assert words["urgent byte"].startswith(b"GET http://r\xa7258.edge.example/ ")
    assert words["connect and hello at once"].startswith(b"CONNECT r259.edge.example:443 ")
    assert b"r258.edge.example" in words["connect and hello at once"].partition(b"\r\n\r\n\x16\x03")[2]
    assert words["socks 4"] == b"\x04\x01\x01\xbb\x64\x40\x01\x02\x00"


@pytest.mark.parametrize(
    ("name", "kind", "flags", "answers"),
    [("r258.edge.example", 1, 0, 1), ("r258.edge.example", 28, 0, 0), ("x.example", 1, 3, 0)],
)
def test_names_are_answered(name: str, kind: int, flags: int, answers: int) -> None:
    """The address, nothing of another kind, or no such name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack(">HH", kind, 1)
    answer = answer_name(b"\x12\x34\x01\x00" + struct.pack(">4H", 1, 0, 0, 0) + question)
    identity, code, asked_for, found_some = struct.unpack(">4H", answer[:8])

    assert (identity, code & 15, asked_for, found_some) == (0x1234, flags, 1, answers)
    assert answer[12:].startswith(question)
    assert answer.endswith(b"\x64\x40\x01\x02") is bool(answers)


def test_ordinary_requests_through_real_proxies() -> None:
    """The short run: as root, in namespaces of its own, with the proxies that make fetches; every request is right.

    That each proxy carries out an ordinary request is a condition of the run.
    """
    subprocess.run(["make", ".venv/squid/usr/sbin/squid", ".venv/edges/.made"], cwd=ROOT, check=True)
    words = [sys.executable, "-m", "tests.live", "--edges", "--short"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [LINE.fullmatch(line) for line in run.stdout.splitlines()[1:]]

    assert run.returncode == 0, run.stdout + run.stderr
    assert [line[2].rstrip() for line in lines if line] == [*SHORT, *SHORT], run.stdout
    assert {line.group(5, 6) for line in lines if line} == {("0", "0")}, run.stdout


def test_the_proxies_are_at_least_six() -> None:
    """Each with a port of its own, and a scenario that uses it."""
    assert len({proxy.port for proxy in PROXIES.values()}) == len(PROXIES) >= 6
    assert set(PROXIES) == {name for scenario in SCENARIOS for name in scenario.proxies} - {NGINX_TLS, "instant"}
    assert Path(ROOT / "tests/live/edges/requirements.txt").read_text().count("--hash=sha256:") == 1
