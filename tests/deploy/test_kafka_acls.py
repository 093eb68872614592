"""The ACLs against a real broker: each role does its whole work with them, and is refused everything else."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from common.kafka import client_config
from schemas.settings import PREFIX, Settings
from schemas.settings_file import load
from schemas.topics import STATE_CHANGELOG, Topic, topic_name, topics
from streams.quarantine import Death
from streams.worker.guards.deaths import Deaths
from tests.deploy.guarded_kafka import PASSWORD, GuardedKafka, login_of, user_of
from tests.producers.running import Running
from tests.sample import DATA
from tests.streams.worker.worker_process import wait_until
from tests.test_whole_path import Part, ask, parts, with_database
from unproxy.cli import run
from unproxy.errors import Failed
from unproxy.kafka.acls import RAW, Rule, roles, rules
from unproxy.kafka.cluster import create_acls
from unproxy.local.parts import write_settings
from unproxy.local.servers.broker import create_topics
from unproxy.local.servers.engine import Engine

OUTPUT = {"network-events", "device-events", "block-alerts", "sensor-gaps", "device-coverage", "protection-modes"}
RAW_1, RAW_2 = "raw-ws-1", "raw-ws-2"
TOPICS = sorted({*OUTPUT, "telemetry", "indicators", "rejects", STATE_CHANGELOG, RAW_1, RAW_2})
WRITES = {
    "sensor": {RAW_1, RAW_2},
    "producer": {"telemetry", "rejects"},
    "worker": {"telemetry", "rejects", STATE_CHANGELOG, *OUTPUT},
    "sink": {"rejects"},
    "forward": {"rejects"},
    "admin": {"telemetry", "indicators"},
    "reader": set[str](),
    "stranger": set[str](),
}
"""Written here once more, by hand: what each role may write to. A stranger logs in and has no role."""
READS = {
    "sensor": set[str](),
    "producer": {RAW_1, RAW_2},
    "worker": {"telemetry", "indicators", STATE_CHANGELOG},
    "sink": {*OUTPUT, "rejects"},
    "forward": {"block-alerts"},
    "admin": {*OUTPUT, "rejects", "indicators"},
    "reader": {"block-alerts", "network-events", "device-events", "indicators"},
    "stranger": set[str](),
}
COMMITS = {
    "-produce": "producer",
    "": "worker",
    "-deaths": "worker",
    "-sink": "sink",
    "-forward": "forward",
    "unproxy-reader-x": "reader",
}
"""Consumer groups, and the role that commits to each: what follows the test's own name, or a whole name."""
RESETS = {"-sink": "admin"}
"""Consumer groups, and a further role that may reset their offsets."""
ROLES = list(WRITES)
SECS_MAX = 30
LINES = 300

__all__ = ["parts"]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    """The broker of these tests."""
    broker = GuardedKafka(tmp_path_factory.mktemp("kafka-acls"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def settings_of(bootstrap: str, unique: str, folder: Path, **login: str) -> Settings:
    """Settings that share topics and groups, for any login."""
    producer = {f"kafka_{key}": value for key, value in login.items()}
    return Settings.model_validate(
        {
            "kafka": {"bootstrap": bootstrap, "topic_prefix": f"{unique}-", **login},
            "worker": {"group": unique, "name": f"{unique}-1", "data_dir": str(folder / "worker")},
            "publisher": {"state_dir": str(folder / login.get("sasl_username", "producer"))},
            "inputs": {"kafka_group": f"{unique}-produce", **producer},
            "sink": {"group": f"{unique}-sink"},
            "forward": {"group": f"{unique}-forward"},
        }
    )


def raw_topics(settings: Settings, *names: str) -> list[Topic]:
    """Raw topics as an operator makes them for endpoints."""
    return [Topic(topic_name(settings, name), "Lines of an endpoint", 1, {}) for name in names]


def give(settings: Settings, rights: list[tuple[Rule, str]]) -> None:
    """Add rights and wait until the broker holds clients to the last of them; it applies them in their order."""
    create_acls(settings, rights)
    rule, who = rights[-1]
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    kind, pattern = ResourceType[rule.kind.upper()], ResourcePatternType.ANY
    last = AclBindingFilter(kind, rule.name, pattern, who, "*", AclOperation.ANY, AclPermissionType.ANY)
    wait_until(lambda: len(admin.describe_acls(last).result(SECS_MAX)) == len(rule.operations), "the rights", SECS_MAX)


@pytest.fixture(scope="module")
def shared(kafka: GuardedKafka, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The super user's settings: each topic holds a message, and each role has its rights."""
    settings = settings_of(kafka.bootstrap, "shared", tmp_path_factory.mktemp("shared"))
    create_topics(settings.kafka, [*topics(settings), *raw_topics(settings, RAW_1, RAW_2)])
    give(settings, [(rule, f"User:{user_of(role)}") for role in roles() for rule in rules(settings, role)])
    answers = written({"bootstrap.servers": kafka.bootstrap}, [topic_name(settings, short) for short in TOPICS])
    assert set(answers.values()) == {None}
    return settings


def client_of(kafka: GuardedKafka, role: str) -> dict[str, Any]:
    """A client that is logged in as this role."""
    login = {**login_of(role), "sasl_password": PASSWORD, "bootstrap": kafka.with_login}
    return {**client_config(Settings.model_validate({"kafka": login}).kafka), "log_level": 0}


def written(client: dict[str, Any], names: list[str]) -> dict[str, KafkaError | None]:
    """What Kafka answers to a message for each topic."""
    answers: dict[str, KafkaError | None] = {}

    def answered(error: KafkaError | None, message: Message) -> None:
        answers[str(message.topic())] = error

    producer = Producer({**client, "message.timeout.ms": SECS_MAX * 1000})
    for name in names:
        # librdkafka refuses at once what it knows already that it may not write to.
        try:
            producer.produce(name, b"{}", b"key", 0, on_delivery=answered)
        except KafkaException as raised:
            answers[name] = raised.args[0]
    assert producer.flush(SECS_MAX) == 0
    return answers


def read(client: dict[str, Any], group: str, names: list[str]) -> dict[str, KafkaError | None]:
    """What Kafka answers to who wants to see a topic, and to who may: to a fetch from it. Each topic holds a message."""
    consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False})
    seen = {name: consumer.list_topics(name, timeout=SECS_MAX).topics[name].error for name in names}
    answers = {name: error for name, error in seen.items() if error is not None}
    consumer.assign([TopicPartition(name, 0, 0) for name in names if name not in answers])

    def complete() -> bool:
        message = consumer.poll(1)
        if message is not None and message.topic() in names:
            answers[str(message.topic())] = message.error()
        return len(answers) == len(names)

    wait_until(complete, "an answer for each topic", SECS_MAX)
    consumer.close()
    return answers


def allowed(answers: dict[str, KafkaError | None], settings: Settings) -> set[str]:
    """The topics without an error, by their short names; every error is one about rights."""
    refused = {name: error for name, error in answers.items() if error is not None}

    assert {error.code() for error in refused.values()} <= {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    return {short for short in TOPICS if topic_name(settings, short) not in refused}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_writes_and_reads_its_topics_only(kafka: GuardedKafka, shared: Settings, role: str) -> None:
    """Every topic is tried in both ways; Kafka takes and gives what the table above lists."""
    names = [topic_name(shared, short) for short in TOPICS]
    client = client_of(kafka, role)

    assert allowed(written(client, names), shared) == WRITES[role]
    assert allowed(read(client, f"{shared.worker.group}-{role}", names), shared) == READS[role]


def test_a_worker_without_the_right_to_register_deaths_goes_on(
    kafka: GuardedKafka,
    shared: Settings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ACL without the group of deaths must not stop a fleet at its update: the log names what is missing."""
    # The refusal is six timeouts, each as long as this.
    monkeypatch.setattr("streams.worker.guards.deaths.ASK_SECS_MAX", 1.0)
    assert shared.worker.group == "shared"
    settings = settings_of(kafka.with_login, "another", tmp_path, **login_of("worker"), sasl_password=PASSWORD)
    deaths = Deaths(settings)
    deaths.register(1, Death(7, 2, 76))

    assert deaths.of(1) == []
    errors = [record.getMessage()[:31] for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["consumer group another-deaths: "] * 2


@pytest.mark.parametrize("role", ROLES)
def test_each_role_commits_to_its_own_group_only(kafka: GuardedKafka, shared: Settings, role: str) -> None:
    """No role can move another one's offsets, except the admin those of the sinks."""
    admin = AdminClient(client_of(kafka, role))
    place = TopicPartition(topic_name(shared, "block-alerts"), 0, 0)
    refusals = {}
    for name in COMMITS:
        group = name if name.startswith("unproxy-") else shared.worker.group + name
        (answer,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])]).values()
        # Of who may move the group Kafka asks for the topic as well, and answers for that beside it.
        with contextlib.suppress(KafkaException):
            answer.result(SECS_MAX)
        if error := answer.exception():
            refusals[name] = error.args[0].code()

    others = [name for name, owner in COMMITS.items() if role not in (owner, RESETS.get(name))]
    assert refusals == dict.fromkeys(others, KafkaError.GROUP_AUTHORIZATION_FAILED)


def test_an_endpoint_can_be_held_to_one_topic(kafka: GuardedKafka, shared: Settings) -> None:
    """With --raw the right covers that topic, and no other that begins so."""
    create_topics(shared.kafka, raw_topics(shared, f"{RAW_1}0"))
    give(shared, [(rule, f"User:{user_of('one-endpoint')}") for rule in rules(shared, "sensor", RAW_1)])
    names = [topic_name(shared, short) for short in (RAW_1, f"{RAW_1}0", RAW_2)]
    answers = written(client_of(kafka, "one-endpoint"), names)

    assert [name for name in names if answers[name] is None] == names[:1]


def test_the_whole_path_with_nothing_more(
    kafka: GuardedKafka,
    engine: Engine,
    parts: Callable[[str, Path], Part],
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sensor, producer, worker, sink, admin and reader each do their work by their own verbs and under their own name."""
    raw = f"{unique}-{RAW_1}"
    files = {}
    for role in [*roles(), "super"]:
        login = {} if role == "super" else login_of(role)
        where = kafka.bootstrap if role == "super" else kafka.with_login
        settings = settings_of(where, unique, tmp_path, **login)
        update = {"clickhouse": engine.settings(unique)}
        if role == "sensor":
            update["publisher"] = settings.publisher.model_copy(update={"topic": RAW_1})  # type: ignore[assignment]
        files[role] = tmp_path / role / "settings.toml"
        files[role].parent.mkdir()
        write_settings(settings.model_copy(update=update), files[role])
    with_database(settings.model_copy(update=update))
    for variable in ("KAFKA__SASL_PASSWORD", "INPUTS__KAFKA_SASL_PASSWORD"):
        monkeypatch.setenv(f"{PREFIX}{variable}", PASSWORD)
    eve = tmp_path / "eve.json"
    with gzip.open(DATA / "dev-b.eve.json.gz") as lines:
        eve.write_bytes(b"".join(islice(lines, LINES)))

    def unproxy(role: str, *words: str) -> str:
        capsys.readouterr()
        assert run(["--config", str(files[role]), *words]) == 0
        return capsys.readouterr().out

    unproxy("super", "acls", "--apply")
    unproxy("admin", "topics", "--create")
    create_topics(settings.kafka, raw_topics(settings, RAW_1))
    unproxy("admin", "indicators", "add", "api.github.com", "--action", "block", "--title", "a test")
    assert "api.github.com" in unproxy("reader", "indicators", "list")
    parts("worker", files["worker"])
    parts("sink", files["sink"])
    unproxy("sensor", "produce", f"suricata:{eve}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(Running(load(files["producer"]), f"auto:kafka://{kafka.with_login}/{raw}"))
        rows = "select * from DeviceNetworkEvents where RemoteUrl != ''"
        wait_until(lambda: len(ask(load(files["sink"]), rows)) > 0, "rows", 90)
    unproxy("admin", "check")
    for part in ("worker", "sink"):
        assert "AUTHORIZATION" not in (files[part].with_name(f"{part}.log").read_text()).upper()


def test_a_missing_right_of_the_operator_is_reported(kafka: GuardedKafka, shared: Settings, tmp_path: Path) -> None:
    """Only a super user can give rights; another login cannot give any, not even to itself."""
    admin = settings_of(kafka.with_login, shared.worker.group, tmp_path, **login_of("admin"), sasl_password=PASSWORD)

    with pytest.raises(Failed, match="log in as a super user"):
        create_acls(admin, [(rules(admin, "sensor")[0], "User:unproxy-admin")])


def test_raw_topics_are_the_producers_alone() -> None:
    """No topic of ours begins as raw topics do."""
    assert [topic.name for topic in topics(Settings()) if topic.name.startswith(RAW)] == []
