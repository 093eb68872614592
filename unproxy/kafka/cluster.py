"""Access of commands to the Kafka cluster: its metadata, its topics and its rights. Errors state what to do."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from common.kafka import Door, client_config
from schemas.settings import Settings
from schemas.topics import TELEMETRY, Topic, topic_name, topics
from unproxy.errors import Failed, Fixable, KafkaAway
from unproxy.kafka.acls import Rule

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient, ClusterMetadata

KAFKA_SECS_MAX = 5.0
TOPIC_SECS_MAX = 20.0
ASK_SECS_MAX = 0.5


def kafka_client_config(settings: Settings) -> dict[str, Any]:
    """Return the settings of a command's Kafka client. It logs nothing, because the command reports errors itself."""
    return {**client_config(settings.kafka), "log_level": 0}


def ask(settings: Settings, secs_max: float) -> tuple[AdminClient, ClusterMetadata]:
    """Return an admin client and the cluster's metadata. Raises KafkaAway if no answer comes in `secs_max` seconds."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    bootstrap = settings.kafka.bootstrap
    door = Door(bootstrap)
    config: dict[str, Any] = {**kafka_client_config(settings), "error_cb": door.note}
    client = AdminClient(config)
    deadline = time.monotonic() + secs_max
    while True:
        try:
            # Requests are short because Ctrl-C takes effect only between two of them.
            return client, client.list_topics(timeout=ASK_SECS_MAX)
        except KafkaException as error:
            if time.monotonic() < deadline:
                continue
            client.poll(0)
            detail = error.args[0].str()
            away = f"no Kafka answers there ({detail}); start `unproxy up`, or set kafka.bootstrap"
            raise KafkaAway(f"{bootstrap}: {door.words() or away}") from None


def partitions_of(settings: Settings, topic: str, secs_max: float = KAFKA_SECS_MAX) -> list[int]:
    """Return the partition numbers of a topic. Raises KafkaAway, and Fixable if the topic does not exist."""
    _, seen = ask(settings, secs_max)
    if topic not in seen.topics:
        raise Fixable(f"{settings.kafka.bootstrap}: has no topic {topic}; run `unproxy topics --create`")
    return sorted(seen.topics[topic].partitions)


def publish_end_mark(settings: Settings) -> None:
    """Publish the mark of the end of a recording to each partition of sensor lines. Raises Failed."""
    from confluent_kafka import Producer

    from schemas.topics import END, TICK_DIALECT

    name = topic_name(settings, TELEMETRY)
    producer = Producer(kafka_client_config(settings))
    for partition in partitions_of(settings, name):
        producer.produce(name, END, partition=partition, headers={"dialect": TICK_DIALECT})
    if producer.flush(KAFKA_SECS_MAX):
        raise Failed(f"{settings.kafka.bootstrap}: does not take the end of the recording; look into its log")


def create_topics(settings: Settings, replicas: int) -> list[str]:
    """Create the missing topics and return their names. Raises Failed."""
    admin, seen = ask(settings, KAFKA_SECS_MAX)
    missing = [topic for topic in topics(settings) if topic.name not in seen.topics]
    return make_topics(admin, settings.kafka.bootstrap, missing, replicas)


def make_topics(admin: AdminClient, bootstrap: str, wanted: Iterable[Topic], replicas: int) -> list[str]:
    """Create these topics; return the names of those that did not exist. Raises Failed."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    asked = [
        NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=replicas, config=topic.config)
        for topic in wanted
    ]
    made = []
    limits = {"request_timeout": TOPIC_SECS_MAX, "operation_timeout": TOPIC_SECS_MAX}
    for name, future in (admin.create_topics(asked, **limits) if asked else {}).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Failed(f"{bootstrap}: topic {name} cannot be created: {error.args[0].str()}") from None
    return made


def create_acls(settings: Settings, wanted: Iterable[tuple[Rule, str]]) -> int:
    """Create the rights of each principal; return their number, including those that existed. Raises Failed."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    admin, _ = ask(settings, KAFKA_SECS_MAX)
    bindings = [
        AclBinding(
            ResourceType[rule.kind.upper()],
            rule.name,
            ResourcePatternType.PREFIXED if rule.prefixed else ResourcePatternType.LITERAL,
            principal,
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for rule, principal in wanted
        for operation in rule.operations
    ]
    for binding, future in admin.create_acls(bindings, request_timeout=KAFKA_SECS_MAX).items():
        try:
            future.result()
        except KafkaException as error:
            raise Failed(
                f"{settings.kafka.bootstrap}: {binding.principal} cannot be given a right on {binding.name}: "
                f"{error.args[0].str()}; log in as a super user of a cluster that has an authorizer"
            ) from None
    return len(bindings)
