"""The forwarder on a real Kafka with real receivers that are away, slow, hang, refuse and are broken."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from common.group_lag import GroupView
from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, topic_name
from sinks.forward.pending import REFUSED_IN_A_ROW_MAX
from tests.conftest import SettingsMaker
from tests.sinks.forward.forward_world import alert, committed, forwarding, metric, publish, rejected
from tests.sinks.forward.receivers import Posted, SyslogServer, WebhookServer
from tests.sinks.sink_world import until
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port

ROOT = Path(__file__).parents[3]
SECRET = "a secret of ours"


@pytest.fixture
def receiver() -> Iterator[WebhookServer]:
    """A webhook that takes everything."""
    server = WebhookServer().start()
    yield server
    server.stop()


def settings_of(make: SettingsMaker, receiver: WebhookServer, **changes: object) -> Settings:
    """Settings that send to this receiver, with impatient retries."""
    given = {"url": receiver.url, "secret": SECRET, "group": "forward", "retry_secs_max": 0.5, "timeout_secs": 2.0}
    made = make()
    group = f"{made.kafka.topic_prefix}{changes.pop('group', given['group'])}"
    return make(forward={**given, **changes, "group": group})


def versions(count: int, each: int = 1) -> list[tuple[str, int]]:
    """So many alerts with so many versions, round by round."""
    return [(f"a{name}", version) for version in range(1, each + 1) for name in range(count)]


def slowly(_: Posted) -> int:
    """A receiver that takes its time."""
    threading.Event().wait(0.01)
    return 200


def in_order(received: list[tuple[str, int]]) -> bool:
    """Whether the versions of each alert came in order, repetitions aside."""
    last: dict[str, int] = {}
    for name, version in received:
        if version < last.get(name, 0):
            return False
        last[name] = version
    return True


def hmac_by_hand(key: bytes, content: bytes) -> str:
    """RFC 2104, with nothing but a hash."""
    assert len(key) <= 64
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + content).digest()).hexdigest()


def test_an_alert_arrives_signed(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """The body is the message byte for byte; only the secret verifies its signature."""
    settings = settings_of(kafka_settings_for, receiver)
    sent = alert("a1", 7, Title="Ünïcode")
    publish(settings, [sent])
    with forwarding(settings) as forwarder:
        until(lambda: bool(receiver.accepted))
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 1)
        assert metric(forwarder, "unproxy_forward_alerts_sent_total") == {"": 1}
    (posted,) = receiver.accepted
    stamp = posted.headers["X-Unproxy-Timestamp"]
    expected = hmac_by_hand(SECRET.encode(), f"{stamp}.".encode() + posted.body)

    assert posted.body == msgspec.json.encode(sent)
    assert posted.path == "/alerts?key=k1"
    assert posted.version == ("a1", 7)
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["X-Unproxy-Signature"] == f"sha256={expected}"
    assert abs(int(stamp) - time.time()) < 60


def test_a_receiver_away_is_waited_for(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """Nothing is lost while it is away, slow or broken; versions in between are not sent, the first and the last are."""
    settings = settings_of(kafka_settings_for, receiver, waiting_max=50)
    receiver.stop()
    publish(settings, [alert(name, version) for name, version in versions(20, each=10)])
    with forwarding(settings) as forwarder:
        until(lambda: metric(forwarder, "unproxy_forward_retries_total").get("unreachable", 0) > 4)
        until(lambda: forwarder.pending.read == 200)
        assert sum(committed(settings, settings.forward.group).values()) == 0
        assert forwarder.failing_since is not None
        assert metric(forwarder, "unproxy_forward_alerts_waiting") == {"": 40}
        receiver.answering = lambda _: 500 if len(receiver.requests) < 4 else 200
        receiver.start()
        until(lambda: metric(forwarder, "unproxy_forward_alerts_sent_total") == {"": 40})
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 200)
        assert metric(forwarder, "unproxy_forward_alerts_skipped_total") == {"superseded": 160}
        assert metric(forwarder, "unproxy_forward_retries_total")["failed"] == 3
        assert forwarder.failing_since is None

    assert sorted(receiver.versions()) == sorted(versions(20) + [(name, 10) for name, _ in versions(20)])
    assert in_order(receiver.versions())


def test_every_version_when_asked_for(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """Without coalescing each version arrives, in order, from a receiver that is slow; memory stays bounded."""
    settings = settings_of(kafka_settings_for, receiver, coalesce=False, waiting_max=20)
    publish(settings, [alert(name, version) for name, version in versions(15, each=12)])
    receiver.answering = slowly
    most = 0
    with forwarding(settings) as forwarder:

        def all_sent() -> bool:
            nonlocal most
            most = max(most, forwarder.pending.waiting)
            return forwarder.pending.sent == 180

        until(all_sent)

    assert sorted(receiver.versions()) == sorted(versions(15, each=12))
    assert in_order(receiver.versions())
    assert most < 20 + 65


def test_refused_alerts_go_to_rejects(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """A 400 for one, and something that is no alert: both are in rejects with why, and the others arrive."""
    settings = settings_of(kafka_settings_for, receiver)
    bad = alert("a3")
    receiver.answering = lambda posted: 400 if posted.version[0] == "a3" else 200
    publish(settings, [*(alert(f"a{n}") for n in range(3)), bad, b"no alert", alert("a4")])
    with forwarding(settings) as forwarder:
        until(lambda: forwarder.pending.sent == 4)
        until(lambda: metric(forwarder, "unproxy_forward_alerts_refused_total") == {"": 2})
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 6)
    kept = {raw: headers for headers, raw in rejected(settings, 2)}

    assert kept.keys() == {msgspec.json.encode(bad), b"no alert"}
    assert {headers["reason"] for headers in kept.values()} == {"not_deliverable"}
    assert "answered 400 Bad Request" in kept[msgspec.json.encode(bad)]["detail"]
    assert "not an alert" in kept[b"no alert"]["detail"]


def test_refusing_everything_is_no_matter_of_alerts(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """A receiver that refuses one after another stops being believed: the rest waits, and arrives once it takes them."""
    settings = settings_of(kafka_settings_for, receiver)
    receiver.answering = lambda _: 422
    publish(settings, [alert(f"a{n}") for n in range(40)])
    with forwarding(settings) as forwarder:
        until(lambda: metric(forwarder, "unproxy_forward_misconfigured") == {"": 1})
        # Those under way at that moment go to rejects as well.
        assert REFUSED_IN_A_ROW_MAX <= forwarder.pending.refused < REFUSED_IN_A_ROW_MAX + settings.forward.parallel_max
        receiver.answering = lambda _: 200
        until(lambda: forwarder.pending.waiting == 0)
        assert metric(forwarder, "unproxy_forward_misconfigured") == {}

    assert forwarder.pending.sent + forwarder.pending.refused == 40
    assert len(rejected(settings, forwarder.pending.refused)) == forwarder.pending.refused


@pytest.mark.parametrize(("status", "answer"), [(401, "misconfigured"), (307, "misconfigured"), (429, "busy")])
def test_some_answers_are_waited_through(
    kafka_settings_for: SettingsMaker, receiver: WebhookServer, status: int, answer: str
) -> None:
    """Login, address, patience: nothing goes to rejects, redirects are not followed, Retry-After is obeyed."""
    settings = settings_of(kafka_settings_for, receiver)
    headers = {"Location": receiver.url, "Retry-After": "1"}
    receiver.answering = lambda _: (status, headers) if len(receiver.requests) < 2 else 200
    publish(settings, [alert()])
    with forwarding(settings) as forwarder:
        until(lambda: forwarder.pending.sent == 1)
        assert metric(forwarder, "unproxy_forward_retries_total") == {answer: 1}

    assert receiver.versions() == [("a1", 1)]
    assert len(receiver.requests) == 2


def test_a_hanging_receiver_does_not_hold_up_the_end(
    kafka_settings_for: SettingsMaker, receiver: WebhookServer
) -> None:
    """An answer that does not come times out and is tried again; a stop meanwhile is graceful, and nothing is committed."""
    settings = settings_of(kafka_settings_for, receiver, timeout_secs=0.3)
    receiver.answering = receiver.hang
    publish(settings, [alert(f"a{n}") for n in range(6)])
    with forwarding(settings) as forwarder:
        until(lambda: metric(forwarder, "unproxy_forward_retries_total").get("timeout", 0) > 4)
    assert sum(committed(settings, settings.forward.group).values()) == 0
    receiver.hanging.set()
    receiver.answering = lambda _: 200
    with forwarding(settings) as forwarder:
        until(lambda: forwarder.pending.sent == 6)

    assert {name for name, _ in receiver.versions()} == {f"a{n}" for n in range(6)}


def test_suppressed_and_unwanted_alerts_stay(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """Suppressed ones, other kinds and harmless ones are skipped and counted; a withdrawn one is sent."""
    settings = settings_of(kafka_settings_for, receiver, severity_min="medium", kinds=("blocked",), coalesce=False)
    publish(
        settings,
        [
            alert("a1", SuppressedBy="kim", SuppressedReason="test"),
            alert("a2", Severity="low"),
            alert("a3", Kind="audited"),
            alert("a4", 1),
            alert("a4", 2, Count=0),
            alert("a5", Severity="unheard_of"),
        ],
    )
    with forwarding(settings) as forwarder:
        until(lambda: forwarder.pending.sent == 3)
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 6)
        assert metric(forwarder, "unproxy_forward_alerts_skipped_total") == {"suppressed": 1, "severity": 1, "kind": 1}

    assert sorted(receiver.versions()) == [("a4", 1), ("a4", 2), ("a5", 1)]


def test_targets_do_not_disturb_each_other(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """Each group gets everything; that one receiver is away holds up no other, nor anything else that reads the topic."""
    dead = WebhookServer()
    settings = settings_of(kafka_settings_for, receiver)
    stuck = settings_of(kafka_settings_for, dead, group="stuck")
    with forwarding(stuck) as waits, forwarding(settings) as goes:
        publish(settings, [alert(f"a{n}") for n in range(10)])
        until(lambda: goes.pending.sent == 10)
        until(lambda: waits.pending.read == 10)
        assert waits.pending.sent == 0
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 10)
    assert sum(committed(settings, stuck.forward.group).values()) == 0
    looks = GroupView(settings.kafka, stuck.forward.group)
    ends = {
        place[1]: at.end for place, at in looks.progress(looks.places([topic_name(settings, BLOCK_ALERTS)])).items()
    }
    looks.close()
    assert sum(ends.values()) == 10


def test_partitions_move_between_forwarders(kafka_settings_for: SettingsMaker, receiver: WebhookServer) -> None:
    """A second forwarder takes over its share from one that cannot send: the alerts held there are left to the new owner."""
    settings = settings_of(kafka_settings_for, receiver)
    receiver.answering = lambda _: 500
    publish(settings, [alert(f"a{n}") for n in range(40)])
    with forwarding(settings) as first:
        until(lambda: first.pending.waiting == 40)
        with forwarding(settings) as second:
            until(lambda: second.pending.waiting > 0)
            assert metric(first, "unproxy_forward_alerts_left_total")[""] > 0
            receiver.answering = lambda _: 200
            until(lambda: {name for name, _ in receiver.versions()} == {f"a{n}" for n in range(40)})
            until(lambda: sum(committed(settings, settings.forward.group).values()) == 40)


def command(settings: Settings, url: str, **more: str) -> tuple[list[str], dict[str, str]]:
    """`unproxy forward` and its environment."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "UNPROXY_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "UNPROXY_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "UNPROXY_FORWARD__GROUP": settings.forward.group,
        "UNPROXY_FORWARD__URL": url,
        "UNPROXY_FORWARD__SECRET": SECRET,
        "UNPROXY_FORWARD__SESSION_TIMEOUT_SECS": "6",
        **more,
    }
    return [sys.executable, "-m", "unproxy", "forward"], environment


def test_killed_at_any_moment_nothing_is_lost(
    kafka_settings_for: SettingsMaker, receiver: WebhookServer, tmp_path: Path
) -> None:
    """Kill -9 again and again between alerts: every version of every alert arrives, each alert's in order but for repetitions."""
    settings = settings_of(kafka_settings_for, receiver)
    port = free_port()
    arguments, environment = command(
        settings, receiver.url, UNPROXY_FORWARD__COALESCE="false", UNPROXY_FORWARD__METRICS_PORT=str(port)
    )
    wanted = versions(30, each=10)
    publish(settings, [alert(name, version) for name, version in wanted])
    receiver.answering = slowly
    with (tmp_path / "forward.log").open("ab") as log:
        for kill_after in (40, 90, 150):
            process = subprocess.Popen(arguments, env=environment, cwd=tmp_path, stdout=log, stderr=log)
            until(lambda after=kill_after: len(receiver.accepted) >= after)  # type: ignore[misc]  # bound now
            process.kill()
            process.wait()
        process = subprocess.Popen(arguments, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            until(lambda: set(receiver.versions()) == set(wanted), 60.0)
            until(lambda: sum(committed(settings, settings.forward.group).values()) == len(wanted))
            until(lambda: (scrape(port) or {}).get("unproxy_ready", {}).get("") == 1)
        finally:
            process.terminate()
            asked = time.monotonic()
            code = process.wait(20.0)
    assert code == 0
    assert time.monotonic() - asked < 10.0
    logged = (tmp_path / "forward.log").read_text()
    assert SECRET not in logged
    assert "key=k1" not in logged
    # A repetition begins again where a commit was: within each life the order is kept.
    firsts = [one for number, one in enumerate(receiver.versions()) if one not in receiver.versions()[:number]]
    assert in_order(firsts)


def test_trying_a_receiver_out(kafka_settings_for: SettingsMaker, receiver: WebhookServer, tmp_path: Path) -> None:
    """`--test` sends one signed sample without Kafka, prints the answer, and sets its exit code by it."""
    settings = settings_of(kafka_settings_for, receiver)
    arguments, environment = command(settings, receiver.url, UNPROXY_KAFKA__BOOTSTRAP=f"127.0.0.1:{free_port()}")

    def try_out() -> tuple[int, str, str]:
        done = subprocess.run(
            [*arguments, "--test"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, out, _ = try_out()
    (posted,) = receiver.accepted
    stamp = posted.headers["X-Unproxy-Timestamp"].encode()
    digest = hmac.new(SECRET.encode(), stamp + b"." + posted.body, hashlib.sha256).hexdigest()
    assert code == 0
    assert '"answer": "delivered"' in out
    assert posted.headers["X-Unproxy-Signature"] == f"sha256={digest}"
    assert b"This is a test" in posted.body
    receiver.answering = lambda _: 403
    code, out, err = try_out()
    assert (code, '"answer": "misconfigured"' in out) == (1, True)
    assert "answered 403 Forbidden" in err
    assert SECRET not in out + err


def test_alerts_reach_a_syslog_server(kafka_settings_for: SettingsMaker) -> None:
    """Over TCP, through its restart: every version arrives, in order but for repetitions."""
    server = SyslogServer().start()
    made = kafka_settings_for()
    settings = kafka_settings_for(
        forward={
            "target": "syslog",
            "syslog_address": server.address,
            "group": f"{made.kafka.topic_prefix}syslog",
            "retry_secs_max": 0.3,
            "coalesce": False,
        }
    )
    publish(settings, [alert(name, version) for name, version in versions(10, each=3)])
    with forwarding(settings) as forwarder:
        until(lambda: forwarder.pending.sent == 30)
        server.stop()
        publish(settings, [alert(name, version + 3) for name, version in versions(10, each=3)])
        until(lambda: metric(forwarder, "unproxy_forward_retries_total").get("unreachable", 0) > 1)
        server.start()
        until(lambda: forwarder.pending.sent == 60)
        until(lambda: sum(committed(settings, settings.forward.group).values()) == 60)
    server.stop()
    wanted = {(f"externalId={name} ".encode(), b"cn1=%d " % version) for name, version in versions(10, each=6)}

    assert {pair for pair in wanted if any(pair[0] in m and pair[1] in m for m in server.messages)} == wanted
