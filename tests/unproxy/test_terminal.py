"""Every verb on a terminal, over data that tries to steer it: Kafka and ClickHouse are real, and hold hostile rows."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from schemas.indicator_input import Given
from schemas.settings import Settings
from schemas.suppressions import Suppression
from schemas.topics import BLOCK_ALERTS, INDICATORS, NETWORK_EVENTS, REJECTS, TELEMETRY
from sinks.clickhouse import connect
from sinks.migrate import migrate
from tests.conftest import SettingsMaker
from tests.factories import indicator
from tests.sinks.sink_world import publish
from tests.streams.worker.worker_process import read_all
from tests.unproxy.terminal import HOSTILE, Terminal, strange
from unproxy.cli import app
from unproxy.local.parts import write_settings
from unproxy.local.servers.jars import cache_folder
from unproxy.output import printable

ROOT = Path(__file__).parents[2]
NAME = HOSTILE.replace("/", "")
"""As a file's name."""
FEED = f'IndicatorType,IndicatorValue,Title\nDomainName,bad.example,"{HOSTILE}"\nDomainName,"{NAME}",x\n'
BEST_EFFORT = {"date_time_input_format": "best_effort"}
SHOWN = r"\u001b]52;c;aGk="
"""How the hostile text begins when it is shown."""
CONNECTION = "0123456789abcdef0123456789abcdef"


def hostile(column: str, kind: str) -> Any:
    """A value of this type that does what it can."""
    fixed = {
        "ConnectionId": CONNECTION,
        "Layer": "connection",
        "RawBase64": base64.b64encode(HOSTILE.encode()).decode(),
    }
    if column in fixed:
        return fixed[column]
    if "DateTime" in kind:
        return "2026-11-24 19:07:30.123456"
    if "String" not in kind:
        return 1
    if kind.startswith("Map"):
        return {HOSTILE: HOSTILE}
    return [HOSTILE] if kind.startswith("Array") else HOSTILE


def fill(settings: Settings) -> None:
    """A row in every table, hostile in every column of text."""
    database = settings.clickhouse.database
    with closing(connect(settings.clickhouse)) as client:
        migrate(client, database)
        found = client.query(
            "SELECT table, name, type FROM system.columns "
            "WHERE database = {database:String} AND table LIKE '%_versions' AND default_kind = ''",
            parameters={"database": database},
        ).result_rows
        for table in {table for table, _, _ in found}:
            row = {name: hostile(name, kind) for its, name, kind in found if its == table}
            block = json.dumps(row).encode()
            client.raw_insert(f"{database}.`{table}`", insert_block=block, fmt="JSONEachRow", settings=BEST_EFFORT)


def publish_everything(settings: Settings) -> None:
    """Messages on every topic that a command reads."""
    alert = {"DestinationHosts": [HOSTILE], "Count": 1, "InitiatingProcessId": 1}
    names = ["Kind", "Severity", "DeviceId", "DeviceName", "InitiatingProcessFileName", "DestinationDomain", "ProxyIP"]
    names += ["Title", "AlertId", "Outcome", "ProtectionMode", "IndicatorId", "IndicatorValue", "IndicatorAction"]
    names += ["FirstTime", "LastTime", "SuppressedBy", "SuppressedReason", "SuppressedUntil", "IndicatorMatch"]
    publish(settings, BLOCK_ALERTS, [json.dumps({**alert, **dict.fromkeys(names, HOSTILE)}).encode()])
    listed = msgspec.structs.replace(
        indicator(Given("bad.example")), title=HOSTILE, process=HOSTILE, groups=(HOSTILE,), category=HOSTILE
    )
    publish(settings, INDICATORS, [msgspec.json.encode(listed)])
    publish(settings, INDICATORS, [msgspec.json.encode(Suppression(HOSTILE, HOSTILE, HOSTILE, 1, device=HOSTILE))])
    headers: dict[str, str | bytes | None] = {
        "reason": HOSTILE,
        "detail": HOSTILE,
        "dialect": HOSTILE,
        "device": HOSTILE,
    }
    publish(settings, REJECTS, [HOSTILE.encode()], headers)
    publish(settings, TELEMETRY, [HOSTILE.encode()], {"dialect": HOSTILE})
    publish(settings, NETWORK_EVENTS, [json.dumps({"Timestamp": HOSTILE, "DeviceId": HOSTILE}).encode()])


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """An HTTP server that gives one answer, and hostile words with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()

        def answer() -> None:
            with suppress(OSError), server.accept()[0] as asking:  # an error when it is shut down first
                asking.recv(65_536)
                asking.sendall(
                    b"HTTP/1.1 400 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
                )

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://{host}:{port}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@dataclass
class World:
    """Where the commands look."""

    settings: Settings
    folder: Path
    receiver: str

    def start(self, *arguments: str, **more: str) -> Terminal:
        """A command on a terminal, with more in its environment."""
        environment = {"UNPROXY_FORWARD__URL": self.receiver, "PATH": "/usr/bin:/bin", "HOME": str(self.folder), **more}
        command = [sys.executable, "-m", "unproxy", *arguments]
        if "--config" not in arguments:
            environment["UNPROXY_CONFIG"] = str(self.folder / "settings.toml")
        return Terminal(*command, environment=environment, cwd=str(ROOT))

    def run(self, *arguments: str, **more: str) -> str:
        """What a command sends that ends by itself."""
        return self.start(*arguments, **more).until_end()

    def file(self, name: str, text: str) -> str:
        """A file with a hostile name."""
        file = self.folder / f"{NAME}{name}"
        file.write_text(text, encoding="utf-8", newline="")
        return str(file)


@pytest.fixture
def world(settings_for: SettingsMaker, tmp_path: Path) -> Iterator[World]:
    """Tables and topics full of it."""
    with answering(HOSTILE.encode()) as receiver:
        settings = settings_for()
        write_settings(settings, tmp_path / "settings.toml")
        fill(settings)
        publish_everything(settings)
        yield World(settings, tmp_path, receiver)


def flow(**given: object) -> str:
    """A line of Suricata, with what is hostile in it."""
    fields = {
        "timestamp": "2026-11-24T19:07:30.123456+0000",
        "event_type": "flow",
        "src_ip": "10.0.0.1",
        "src_port": 1000,
    }
    more = {"dest_ip": "203.0.113.9", "dest_port": 443, "proto": "TCP", "flow": {"start": fields["timestamp"]}}
    return json.dumps({**fields, **more, "host": "dev-a", "flow_id": 1, **given}) + "\n"


def query(world: World) -> Iterator[str]:
    """Cells, column headers, the engine's refusal; in every format."""
    text = f"SELECT DeviceName, RemoteUrl AS `{HOSTILE}` FROM DeviceNetworkEvents"
    for form in ("table", "jsonl", "csv"):
        yield world.run("query", text, "--format", form)
    yield world.run("query", f"SELECT `{HOSTILE}`")
    yield world.run("query", "--kql", f'DeviceNetworkEvents | where DeviceName == "{NAME}" | {NAME}')


def hunt(world: World) -> Iterator[str]:
    """Cells and column headers in every text format, and the echo of a wrong query."""
    text = f"DeviceNetworkEvents | project DeviceName, [{json.dumps(HOSTILE)}] = RemoteUrl"
    for form in ("table", "json", "jsonl", "csv"):
        yield world.run("hunt", text, "--format", form)
    yield world.run("hunt", f"{text} | {HOSTILE}")


def timeline(world: World) -> Iterator[str]:
    """Rows, and the names of known devices."""
    for device in (HOSTILE, "absent"):
        yield world.run("timeline", device)
    yield world.run("timeline", HOSTILE, "--format", "jsonl")


def coverage(world: World) -> Iterator[str]:
    """Sensors, and the names of known devices."""
    for device in (HOSTILE, "absent"):
        yield world.run("coverage", device)
    yield world.run("coverage", HOSTILE, "--format", "jsonl")


def event(world: World) -> Iterator[str]:
    """All of a connection."""
    for form in ("text", "jsonl"):
        yield world.run("event", CONNECTION, "--format", form)
    yield world.run("event", HOSTILE)


def alerts(world: World) -> Iterator[str]:
    """Of the table, and as they come."""
    for form in ("text", "jsonl"):
        yield world.run("alerts", "--format", form)
        follow = world.start("alerts", "--follow", "--from-start", "--format", form)
        follow.until(lambda sent: SHOWN in sent)
        yield follow.end()
    yield world.run("alerts", "--device", f"x{HOSTILE}")


def rejects(world: World) -> Iterator[str]:
    """Of the table and of the topic."""
    for more in ((), ("--replay", "--dry-run")):
        for form in ("text", "jsonl"):
            yield world.run("rejects", *more, "--format", form)
    yield world.run("rejects", "--dialect", "nothing")


def indicators(world: World) -> Iterator[str]:
    """What is listed, what a feed holds, what is refused of it."""
    feed = world.file(
        "feed.csv", f'IndicatorType,IndicatorValue,Title\nDomainName,"{NAME}",x\nDomainName,a.example,"{HOSTILE}"\n'
    )
    misp = world.file("feed.json", json.dumps({"Attribute": [{"type": "domain", "value": HOSTILE, "to_ids": True}]}))
    plain = world.file("feed.txt", f"{HOSTILE}\n")
    for form in ("text", "jsonl", "csv"):
        yield world.run("indicators", "list", "--format", form)
    for file in (feed, misp, plain):
        yield world.run("indicators", "import", file, "--dry-run")
    yield world.run("indicators", "add", "b.example", "--title", HOSTILE, "--group", HOSTILE)
    yield world.run("indicators", "remove", "bad.example", HOSTILE)


def suppress_(world: World) -> Iterator[str]:
    """What is listed, added and removed."""
    for form in ("text", "jsonl"):
        yield world.run("suppress", "list", "--format", form)
    yield world.run("suppress", "add", "--why", HOSTILE, "--until", "7d", "--device", HOSTILE.replace("[", ""))
    yield world.run("suppress", "remove", HOSTILE)


def replay(world: World) -> Iterator[str]:
    """Rows, alerts of a hostile list, lines that are refused, files that are not there."""
    url = {"hostname": "bad.example", "url": f"/{HOSTILE}", "http_method": "GET"}
    lines = world.file("lines.json", flow() + flow(event_type="http", http=url, flow_id=2) + HOSTILE)
    feed = world.file(
        "feed.csv", f'IndicatorType,IndicatorValue,Title\nDomainName,bad.example,"{HOSTILE}"\nDomainName,"{NAME}",x\n'
    )
    yield world.run("replay", f"suricata:{lines}")
    for form in ("text", "jsonl"):
        yield world.run("replay", f"suricata:{lines}", "--indicators", feed, "--all", "--format", form)
    yield world.run("replay", f"suricata:{lines}.missing")
    yield world.run("replay", f"{HOSTILE}:{lines}")


def produce(world: World) -> Iterator[str]:
    """A file whose name and lines are hostile."""
    lines = world.file("lines.json", HOSTILE + "\n" + flow(host=HOSTILE))
    yield world.run("--verbose", "produce", f"suricata:{lines}")
    yield world.run("produce", f"suricata:{lines}.missing", "--device", HOSTILE)


def sensor(world: World) -> Iterator[str]:
    """What it cannot use."""
    yield world.run("sensor", "--out", "-", "--tracefs", str(world.folder / NAME), "--device", HOSTILE)
    yield world.run("sensor", "--proxy", HOSTILE)


def simulate(world: World) -> Iterator[str]:
    """A folder with a hostile name."""
    yield world.run(
        "simulate", "--devices", "1", "--duration", "1", "--rate", "5", "--out", str(world.folder / NAME / "out")
    )
    yield world.run("simulate", "--start", HOSTILE)


def worker(world: World) -> Iterator[str]:
    """Until it has rejected what is on the topic."""
    run = world.start("--verbose", "worker")
    rejected = len(read_all(world.settings, REJECTS))
    run.until(lambda _: len(read_all(world.settings, REJECTS)) > rejected)
    yield run.end(signal.SIGTERM)


def sink(world: World) -> Iterator[str]:
    """Until it logged that ClickHouse takes no such row."""
    run = world.start("--verbose", "sink")
    run.until(lambda sent: "rows cannot be stored" in sent)
    yield run.end(signal.SIGTERM)


def forward(world: World) -> Iterator[str]:
    """What the receiver answers."""
    yield world.run("forward", "--test")


def detach_damaged(world: World) -> Iterator[str]:
    """A hostile table name."""
    yield world.run("detach-damaged")
    yield world.run("detach-damaged", "--table", HOSTILE)


def check(world: World) -> Iterator[str]:
    """Settings that hold it."""
    for more in ((), ("--dump",)):
        yield world.run("check", *more, UNPROXY_IDENTITY__FILES=str(world.folder / NAME))


def migrate_(world: World) -> Iterator[str]:
    """Settings that are not there."""
    yield world.run("migrate")
    yield world.run("--config", f"/{NAME}", "migrate")


def topics(world: World) -> Iterator[str]:
    """Likewise."""
    yield world.run("topics")
    yield world.run("topics", "--create")
    yield world.run("--config", f"/{NAME}", "topics")


def acls(world: World) -> Iterator[str]:
    """Names of users and topics on the command line."""
    yield world.run("acls", "--role", "sensor", "--principal", f"User:{HOSTILE}", "--raw", f"raw-{HOSTILE}")
    yield world.run("acls", "--role", HOSTILE)


def up(world: World) -> Iterator[str]:
    """Everything from a hostile file to the results."""
    name = {"hostname": "bad.example", "url": f"/{HOSTILE}", "http_method": "GET", "http_user_agent": HOSTILE}
    lines = world.file(
        "lines.json", flow() + flow(event_type="http", http=name, flow_id=1) + HOSTILE + "\n" + flow(host=HOSTILE)
    )
    yield world.run(
        "up", "--once", "--data", str(world.folder / NAME / "up"), f"suricata:{lines}",
        UNPROXY_CONFIG="/dev/null", XDG_CACHE_HOME=str(cache_folder().parent),
    )  # fmt: skip


VERBS: dict[str, Callable[[World], Iterator[str]]] = {
    "hunt": hunt, "query": query, "timeline": timeline,
    "coverage": coverage, "event": event, "alerts": alerts, "rejects": rejects,
    "indicators": indicators, "suppress": suppress_, "replay": replay, "produce": produce, "sensor": sensor,
    "simulate": simulate, "worker": worker, "sink": sink, "forward": forward, "detach-damaged": detach_damaged, "check": check,
    "migrate": migrate_, "topics": topics, "acls": acls, "up": up,
}  # fmt: skip
GROUP: Any = typer.main.get_command(app)


def test_no_verb_steers_the_terminal(world: World) -> None:
    """Whatever tables, topics, files and servers contain: a terminal gets printable text, line feeds and our own sequences."""
    for verb in GROUP.commands:
        sent = list(VERBS[verb](world))

        assert [strange(one) for one in sent] == [[]] * len(sent), verb
        # Of what they refuse worker and sink show nothing: it goes to the topic of rejects.
        assert any(SHOWN in one for one in sent) or verb in ("worker", "sink"), f"{verb} showed nothing of it: {sent}"
        assert [line for one in sent for line in one.split("\n") if re.match('forged(?!")', line)] == [], (
            verb
        )  # in CSV a cell may have lines


@pytest.mark.parametrize("verb", sorted(GROUP.commands))
def test_every_verb_below_a_verb_is_run(verb: str) -> None:
    """A verb that is new is not forgotten here."""
    below = set(getattr(GROUP.commands[verb], "commands", ()))
    code = VERBS[verb].__code__

    assert below <= {word for word in code.co_consts if isinstance(word, str)} | {
        word for words in code.co_consts if isinstance(words, tuple) for word in words
    }


def test_spreadsheet_runs_nothing(world: World) -> None:
    """Text that starts like a formula gets an apostrophe, a negative number does not; --raw-csv leaves both."""
    text = "SELECT '=1+1' AS a, -1 AS b, '@x' AS c, '+' AS d, '-2' AS e, '\\tx' AS f, '\\rx' AS g, 'a=1' AS h"
    safe, raw = (world.run("query", text, "--format", "csv", *more).split("\n")[1] for more in ((), ("--raw-csv",)))

    assert safe == printable('"\'=1+1",-1,"\'@x","\'+","\'-2","\'\tx","\'\rx","a=1"')
    assert raw == printable('"=1+1",-1,"@x","+","-2","\tx","\rx","a=1"')
