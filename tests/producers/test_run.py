"""A whole producer on the real Kafka: nothing is lost, whichever process dies, and nothing is sent twice without need."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from producers.publish.report import Report
from producers.run import produce
from producers.sources.source import SourceError, parse_source
from schemas.parsers import dialects
from schemas.settings import Settings
from schemas.topics import REJECTS, TELEMETRY, topics
from unproxy.local.meter import scrape
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.service import free_port

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "suricata"
SETTINGS = "UNPROXY_CONFIG"
EveMaker = Callable[..., bytes]
MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]
Writer = Callable[[Path, Iterable[bytes]], None]


def run(settings: Settings, *sources: str, **options: Any) -> Report:
    return produce(settings, [parse_source(source) for source in sources], stop=threading.Event(), **options)


def lines_of(messages: Iterable[Message]) -> list[bytes]:
    return [line for message in messages for line in (message.value() or b"").split(b"\n")]


def headers(message: Message) -> dict[str, bytes]:
    pairs: Any = message.headers()
    return dict(pairs)


def await_that(fact: Callable[[], bool], what: str, secs: float = 30.0) -> None:
    deadline = time.monotonic() + secs
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {secs} s"
        threading.Event().wait(0.02)


@contextmanager
def running(settings: Settings, *sources: str, **options: Any) -> Iterator[tuple[threading.Event, list[Report]]]:
    """A producer in a thread; its report is in the list when it is over."""
    stop, reports = threading.Event(), list[Report]()
    parsed = [parse_source(source) for source in sources]
    thread = threading.Thread(target=lambda: reports.append(produce(settings, parsed, stop=stop, **options)))
    thread.start()
    try:
        yield stop, reports
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_sample_arrives_whole_and_once(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """Every line of the sample is in Kafka once, in its device's partition, in its file's order; again adds nothing."""
    settings = kafka_settings_for()
    sources = [f"suricata:{SAMPLE}/dev-*.eve.json.gz", f"sockets:{SAMPLE}/sockets.jsonl.gz"]
    report = run(settings, *sources)
    messages = messages_of(settings, TELEMETRY)

    expected = {path.name: gzip.decompress(path.read_bytes()).splitlines() for path in SAMPLE.glob("*.gz")}
    assert sorted(lines_of(messages)) == sorted(line for lines in expected.values() for line in lines)
    assert report.lines == sum(map(len, expected.values())) == sum(report.by_dialect.values())
    assert report.messages == report.acknowledged_messages == len(messages)
    assert report.unacknowledged_messages == report.too_long == 0
    places = defaultdict(set)
    seqs: dict[tuple[bytes | None, bytes, bytes], list[int]] = defaultdict(list)
    for message in messages:
        found = headers(message)
        places[message.key()].add(message.partition())
        assert int(found["lines"]) == len(lines_of([message]))
        seqs[message.key(), found["dialect"], found["sensor"]] += range(
            int(found["seq"]), int(found["seq"]) + int(found["lines"])
        )
        parser = dialects()[found["dialect"].decode()]
        assert {parser.device_of(line).encode() for line in (message.value() or b"").split(b"\n")} == {message.key()}
    assert {len(partitions) for partitions in places.values()} == {1}
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seqs.values())
    for name, lines in expected.items():
        if name.startswith("dev-"):
            assert lines_of(one for one in messages if headers(one)["sensor"].endswith(name.encode())) == lines

    again = run(settings, *sources)
    assert (report.bytes_before, again.lines) == (0, 0)
    assert again.bytes_before == sum(len(gzip.decompress(path.read_bytes())) for path in SAMPLE.glob("*.gz"))


def test_auto_finds_each_lines_dialect(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, write: Writer
) -> None:
    """Lines of several sensors in one file leave under their own dialect, a line of no dialect as `auto`; none again."""
    lines = [line for path in SAMPLE.glob("*.jsonl.gz") for line in gzip.decompress(path.read_bytes()).splitlines()[:9]]
    eve = gzip.decompress((SAMPLE / "dev-a.eve.json.gz").read_bytes()).splitlines()[:9]
    mixed = [line for pair in zip(lines, eve, strict=True) for line in pair]
    write(tmp_path / "mixed", [*mixed, b"unclaimed"])
    settings = kafka_settings_for()
    report = run(settings, f"auto:{tmp_path}/mixed")
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for message in messages_of(settings, TELEMETRY):
        found[headers(message)["dialect"]] += lines_of([message])

    assert found[b"suricata"] == eve
    assert sorted(found[b"sockets"]) == sorted(lines)
    assert found[b"auto"] == [b"unclaimed"]
    assert report.by_dialect == {"suricata": 9, "sockets": 9, "auto": 1}
    assert run(settings, f"auto:{tmp_path}/mixed").lines == 0


def test_names_of_one_device_share_its_key(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """The key is the DeviceId, the header states that it is, and the lines stay as they are, numbered in one count."""
    write(tmp_path / "table", [b"device,address", b"ws-042,10.0.0.1", b"ws-043,nowhere"])
    write(tmp_path / "eve", [eve(1, "WS-042.corp.example"), eve(2, "10.0.0.1"), eve(3, "10.0.0.2"), eve(4, "ws-042")])
    identity = {"domains": ["corp.example"], "files": [f"{tmp_path}/table"]}
    port = free_port()
    publisher = {"state_dir": str(tmp_path / "s"), "metrics_port": port}
    settings = kafka_settings_for(identity=identity, publisher=publisher)
    pages: list[Any] = []
    report = run(settings, f"suricata:{tmp_path}/eve", progress=lambda _: pages.append(scrape(port)))
    found = messages_of(settings, TELEMETRY)
    named = [message for message in found if message.key() == b"ws-042"]  # more than one where the machine is busy

    assert lines_of(named) == [eve(1, "WS-042.corp.example"), eve(2, "10.0.0.1"), eve(4, "ws-042")]
    assert lines_of([message for message in found if message.key() == b"10.0.0.2"]) == [eve(3, "10.0.0.2")]
    assert {headers(message)["device_from"] for message in found} == {b"key"}
    seqs = [int(headers(message)["seq"]) for message in named]
    counts = [int(headers(message)["lines"]) for message in named]
    assert seqs == [1 + sum(counts[:place]) for place in range(len(counts))]
    assert sum(counts) == 3
    assert report.identified == {"named": 2, "table": 1, "address": 1}
    assert pages[-1]["unproxy_publisher_lines_identified_total"] == {
        **dict.fromkeys(("learnt", "ambiguous", "untold"), 0),
        **report.identified,
    }
    assert pages[-1]["unproxy_publisher_identity_lines_unusable"] == {"": 1}


def test_learnt_addresses_are_the_same_after_a_restart(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """All of the recorded files decides, whatever was published of them already; asked to stop, nothing leaves undecided."""
    own = (
        b'{"device":"%s","local_ip":"%s","local_port":5,"remote_ip":"192.0.2.80","remote_port":3128,"result":"success",'
    )
    own += b'"ts_attempt":"2026-11-24T19:07:30Z"}'
    pairs = [(b"ws-1", b"10.0.0.1"), (b"ws-1", b"10.0.0.3"), (b"ws-2", b"10.0.0.3")]
    write(tmp_path / "eve", [eve(1, "10.0.0.1"), *(eve(n, f"10.0.0.{n % 3 + 1}") for n in range(2, 5))])
    write(tmp_path / "own", [own % pair for pair in pairs])
    settings = kafka_settings_for()
    reports, stop = list[Report](), threading.Event()
    sources = [parse_source(f"suricata:{tmp_path}/eve"), parse_source(f"sockets:{tmp_path}/own")]
    for when in ("at once", "after a line", "never"):
        stop.set() if when == "at once" else stop.clear()
        halt = {"after a line": lambda _: stop.set()}.get(when, lambda _: None)
        reports.append(produce(settings, sources, stop=stop, progress=halt))
    keys: dict[bytes | None, set[bytes]] = defaultdict(set)
    for message in messages_of(settings, TELEMETRY):
        keys[message.key()] |= {line for line in lines_of([message]) if b"event_type" in line}

    assert keys[b"ws-1"] == {eve(1, "10.0.0.1"), eve(3, "10.0.0.1")}
    assert keys[b"10.0.0.2"] == {eve(4, "10.0.0.2")}
    assert keys[b"10.0.0.3"] == {eve(2, "10.0.0.3")}
    assert [report.lines for report in reports[:2]] == [0, 1]
    assert reports[2].lines >= 6  # and the first one again, if Kafka was too slow to acknowledge it
    assert reports[1].learnt == reports[2].learnt == {"learnt": 1, "ambiguous": 1}
    assert reports[1].identified == {"learnt": 1}


def test_followed_files_teach_nothing(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """Their content is not known yet."""
    own = b'{"device":"ws-1","local_ip":"10.0.0.1","local_port":5,"remote_ip":"192.0.2.80","remote_port":3128,'
    write(tmp_path / "own", [own + b'"result":"success","ts_attempt":"2026-11-24T19:07:30Z"}'])
    write(tmp_path / "eve", [eve(1, "10.0.0.1")])
    settings = kafka_settings_for()
    sources = [f"sockets:{tmp_path}/own", f"suricata:{tmp_path}/eve"]
    with running(settings, *sources, follow=True):
        await_that(lambda: len(messages_of(settings, TELEMETRY)) == 2, "both lines")

    assert {message.key() for message in messages_of(settings, TELEMETRY)} == {b"ws-1", b"10.0.0.1"}


def test_lines_without_device_are_published(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path
) -> None:
    """A line that does not name its device has the given device as its key, else the sensor; none is dropped."""
    (tmp_path / "a").write_bytes(b"garbage \xff\x00\n\n{}\nno newline")
    (tmp_path / "b").write_bytes(b"other\n")
    settings = kafka_settings_for()
    run(settings, f"suricata:{tmp_path}/a", device="dev-x")
    run(settings, f"suricata:{tmp_path}/b")

    found = {
        message.key(): (message.value(), headers(message)["sensor"]) for message in messages_of(settings, TELEMETRY)
    }
    (sensor,) = found.keys() - {b"dev-x"}
    assert not any("device_from" in headers(message) for message in messages_of(settings, TELEMETRY))
    assert found[b"dev-x"][0] == b"garbage \xff\x00\n{}\nno newline"
    assert found[sensor] == (b"other", sensor)
    assert sensor is not None
    assert sensor.endswith(f"{tmp_path}/b".encode())


def test_too_long_line_is_kept_in_rejects(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """A line over the limit leaves its beginning in rejects; its neighbours are published; the metrics report it."""
    write(tmp_path / "a", [eve(1), b"x" * 3_000_000, eve(2)])
    port = free_port()
    publisher = {"state_dir": str(tmp_path / "s"), "line_bytes_max": 1_500_000, "metrics_port": port}
    settings = kafka_settings_for(publisher=publisher)
    pages: list[Any] = []
    report = run(
        settings, f"suricata:{tmp_path}/a", device="dev-a", progress=lambda _: pages.append(scrape(port))
    )  # fmt: skip

    (rejected,) = messages_of(settings, REJECTS)
    assert rejected.value() == b"x" * 1024 * 1024
    assert headers(rejected)["detail"].startswith(b"3000000 bytes, limit 1500000, sha256 ")
    assert lines_of(messages_of(settings, TELEMETRY)) == [eve(1), eve(2)]
    assert (report.lines, report.too_long) == (3, 1)
    found = {name: values["suricata"] for name, values in pages[-1].items() if "suricata" in values}
    assert found["unproxy_publisher_lines_read_total"] == 3
    assert found["unproxy_publisher_lines_cut_total"] == 1
    assert found["unproxy_publisher_messages_total"] == report.messages
    assert found["unproxy_publisher_bytes_total"] == len(eve(1)) + len(eve(2)) + 1024 * 1024
    assert pages[-1]["unproxy_publisher_bytes_waiting"] == {"": 0}


def test_damaged_file_is_reported(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker
) -> None:
    """What could be read of a damaged file is published, and the report names which file it was."""
    whole = gzip.compress(b"\n".join(eve(number) + os.urandom(40).hex().encode() for number in range(2_000)))
    (tmp_path / "a.gz").write_bytes(whole[:30_000])
    settings = kafka_settings_for()
    report = run(settings, f"suricata:{tmp_path}/a.gz")

    assert "a.gz: is damaged" in report.damage
    assert 100 < len(lines_of(messages_of(settings, TELEMETRY))) == report.lines < 2_000


def test_kill_loses_nothing(
    kafka_settings_for: SettingsFor,
    messages_of: MessagesOf,
    tmp_path: Path,
    eve: EveMaker,
    write: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A producer that is killed twice in the middle resends, never forgets, and its message numbers have no gap."""
    lines = [eve(number, f"dev-{number % 5}", at=number / 1_000) for number in range(8_000)]
    write(tmp_path / "log", lines)
    settings = kafka_settings_for(publisher={"state_dir": str(tmp_path / "state"), "batch_age_secs_max": 0.05})
    (tmp_path / "unproxy.toml").write_text(
        f'[kafka]\nbootstrap = "{settings.kafka.bootstrap}"\ntopic_prefix = "{settings.kafka.topic_prefix}"\n'
        f'[publisher]\nstate_dir = "{settings.publisher.state_dir}"\nbatch_age_secs_max = 0.05\n'
    )
    monkeypatch.setenv(SETTINGS, str(tmp_path / "unproxy.toml"))
    program = (
        "import sys, threading; from producers.run import produce; from producers.sources.source import parse_source;"
        "from schemas.settings_file import load;"
        "produce(load(), [parse_source(sys.argv[1])], stop=threading.Event(), speed=2.0)"
    )
    for share in (0.2, 0.6):
        process = subprocess.Popen([sys.executable, "-c", program, f"suricata:{tmp_path}/log"], cwd=ROOT)
        await_that(
            lambda share=share: len(set(lines_of(messages_of(settings, TELEMETRY)))) > share * len(lines),  # type: ignore[misc]  # mypy cannot infer it
            "lines in Kafka",
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(settings, f"suricata:{tmp_path}/log")

    messages = messages_of(settings, TELEMETRY)
    arrived = lines_of(messages)
    assert set(arrived) == set(lines)
    assert len(lines) < len(arrived) < 1.7 * len(lines)
    numbers: dict[bytes | None, set[int]] = defaultdict(set)
    for message in messages:
        first = int(headers(message)["seq"])
        numbers[message.key()].update(range(first, first + int(headers(message)["lines"])))
    assert all(seqs == set(range(1, max(seqs) + 1)) for seqs in numbers.values())
    assert run(settings, f"suricata:{tmp_path}/log").lines == 0


def test_broker_killed_on_the_way(
    tmp_path: Path, messages_of: MessagesOf, eve: EveMaker, write: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """While the broker is dead the producer waits; when it is back every line arrives, once.

    The log grows until the warning is there, so that there is something to deliver whenever the broker dies.
    """
    broker = Broker(tmp_path / "kafka", login=False)
    broker.start()
    settings = Settings.model_validate(
        {"kafka": {"bootstrap": broker.bootstrap}, "publisher": {"state_dir": str(tmp_path / "state")}}
    )
    create_topics(broker.settings, topics(settings))
    lines: list[bytes] = []
    grown = threading.Event()

    def grow() -> None:
        while not grown.wait(0.02):
            more = [eve(len(lines) + number, f"dev-{number % 5}") for number in range(20)]
            write(tmp_path / "log", more)
            lines.extend(more)

    growing = threading.Thread(target=grow)
    live: list[Report] = []
    growing.start()
    try:
        with running(settings, f"suricata:{tmp_path}/log", follow=True, progress=live.append) as (_, reports):
            await_that(lambda: any(report.acknowledged_messages > 5 for report in live), "messages acknowledged")
            caplog.clear()
            broker.kill()
            await_that(lambda: "kafka is out of reach" in caplog.text, "a warning")
            grown.set()
            growing.join()
            broker.start()
            size = sum(map(len, lines))
            await_that(lambda: live[-1].acknowledged_bytes_by_dialect.total() == size, "all acknowledged", 60)
        arrived = lines_of(messages_of(settings, TELEMETRY))
    finally:
        grown.set()
        growing.join()
        broker.stop()

    assert sorted(arrived) == sorted(lines)
    assert reports[0].unacknowledged_messages == 0


def test_stop_without_broker(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """With no broker a stop ends at once; what was not acknowledged is sent when there is one."""
    write(tmp_path / "log", [eve(number) for number in range(100)])
    state = {"state_dir": str(tmp_path / "state")}
    port = free_port()
    nowhere = Settings.model_validate(
        {"kafka": {"bootstrap": "127.0.0.1:1"}, "publisher": {**state, "metrics_port": port}}
    )
    seen: list[int] = []
    with running(nowhere, f"suricata:{tmp_path}/log", progress=lambda report: seen.append(report.messages)) as (
        stop,
        reports,
    ):
        await_that(lambda: max(seen, default=0) > 0, "messages sent")
        values = scrape(port)
        assert values
        assert values["unproxy_publisher_bytes_waiting"][""] >= sum(len(eve(number)) for number in range(100))
        asked = time.monotonic()
        stop.set()
        await_that(lambda: bool(reports), "the end", 10)
        assert time.monotonic() - asked < 5

    assert reports[0].unacknowledged_messages == reports[0].messages > 0
    settings = kafka_settings_for(publisher=state)
    assert run(settings, f"suricata:{tmp_path}/log").lines == 100
    assert len(lines_of(messages_of(settings, TELEMETRY))) == 100


def test_standard_input_that_is_lost_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines of a pipe that Kafka did not acknowledge cannot be read again: a stop reports how many."""
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    nowhere = Settings.model_validate(
        {"kafka": {"bootstrap": f"127.0.0.1:{free_port()}"}, "publisher": {"state_dir": str(tmp_path / "state")}}
    )
    seen: list[int] = []
    with (tmp_path / "in").open("rb") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with running(nowhere, "suricata:-", progress=lambda report: seen.append(report.messages)) as (stop, reports):
            await_that(lambda: max(seen, default=0) > 0, "messages sent")
            stop.set()
            await_that(lambda: bool(reports), "the end")

    (lost,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert lost.getMessage() == "lines that cannot be read again were not acknowledged, send them again"
    assert vars(lost)["lines"] == 2


@pytest.mark.parametrize("queue_bytes_max", [64_000_000, 20_000], ids=["room", "no room"])
def test_a_stop_waits_for_kafka(
    kafka_settings_for: SettingsFor,
    messages_of: MessagesOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eve: EveMaker,
    queue_bytes_max: int,
) -> None:
    """Lines of a pipe cannot be read again: a stop waits for a slow Kafka, also with what it had no room for yet."""
    own = Broker(tmp_path / "kafka")
    own.start()
    sent = b"".join(eve(number, at=None) + b"\n" for number in range(1_000))
    reader, writer = os.pipe()
    live: list[Report] = []
    try:
        settings = kafka_settings_for(publisher={"queue_bytes_max": queue_bytes_max, "batch_bytes_max": 4_000})
        kafka = own.settings.model_copy(update={"topic_prefix": settings.kafka.topic_prefix})
        settings = settings.model_copy(update={"kafka": kafka})
        create_topics(settings.kafka, topics(settings))
        with os.fdopen(reader, "rb") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            with running(settings, "suricata:-", progress=live.append) as (stop, reports):
                os.write(writer, sent[: sent.index(b"\n") + 1])
                await_that(lambda: any(report.acknowledged_messages for report in live), "connected")
                os.kill(own.pid, signal.SIGSTOP)
                os.write(writer, sent[sent.index(b"\n") + 1 :])
                await_that(lambda: live[-1].lines > 200, "read")
                threading.Timer(1.5, os.kill, (own.pid, signal.SIGCONT)).start()
                stop.set()
        arrived = lines_of(messages_of(settings, TELEMETRY))
    finally:
        os.close(writer)
        own.kill()

    assert len(arrived) == reports[0].lines > 200
    assert sent.startswith(b"\n".join(arrived))


def test_follow_publishes_what_comes(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, eve: EveMaker, write: Writer
) -> None:
    """A followed file is published as it grows, over a rotation and a restart, each line once."""
    log = tmp_path / "log"
    settings = kafka_settings_for()

    def arrived() -> list[bytes]:
        return lines_of(messages_of(settings, TELEMETRY))

    with running(settings, f"suricata:{log}", follow=True):
        write(log, [eve(1)])
        await_that(lambda: arrived() == [eve(1)], "the first line")
        write(log, [eve(2)])
        log.rename(tmp_path / "log.1")
        write(log, [eve(3)])
        await_that(lambda: len(arrived()) == 3, "the lines of both files")
    write(log, [eve(4)])
    with running(settings, f"suricata:{log}", follow=True):
        await_that(lambda: len(arrived()) == 4, "the line after the restart")

    assert arrived() == [eve(number) for number in (1, 2, 3, 4)]


def test_standard_input_is_not_followed(tmp_path: Path) -> None:
    """`--follow` with standard input is a mistake in the call, and reports it."""
    settings = Settings.model_validate({"publisher": {"state_dir": str(tmp_path)}})
    with pytest.raises(SourceError, match="standard input cannot be followed"):
        run(settings, "suricata:-", follow=True)
