"""A Kafka and a ClickHouse with TLS or a login: the whole path works, and messages name the setting that is wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from common.kafka import client_config
from producers.network.kafka import consumer_config
from producers.sources.endpoint import Endpoint, Scheme
from schemas.sections.inputs import InputSettings
from schemas.settings import PREFIX, Settings, SettingsError
from schemas.topics import Topic, topics
from streams.worker.faust_settings import faust_settings
from tests.producers.running import Running
from tests.sample import DATA
from tests.streams.worker.worker_process import wait_until
from tests.test_whole_path import Part, ask, parts, with_database
from unproxy.cli import run
from unproxy.local.parts import write_settings
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import free_port

TLS = Path(__file__).parent / "data" / "tls"
USER, PASSWORD = "unproxy", 'p=a"s, \\ word'
HUBS_USER = "$ConnectionString"
"""The user name that Event Hubs require."""
MUTUAL = "MUTUAL"
LISTENERS = {"SASL_SSL": "SCRAM-SHA-512", "SASL_PLAINTEXT": "PLAIN", "SSL": "", MUTUAL: ""}
"""The broker's listeners: protocol and login; a client of the last one shows a certificate."""
WITH_PASSWORD = f"{PREFIX}KAFKA__SASL_PASSWORD"
LINES = 300

__all__ = ["parts"]


class Guarded(Broker):
    """The embedded broker with one more listener per protocol; its plain listener stays for the broker itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, login=False)
        self.ports = {protocol: free_port() for protocol in LISTENERS}

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare(port)
        file = self._properties_file
        given = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        listeners = ",".join(f"{protocol}://localhost:{own}" for protocol, own in self.ports.items())
        password = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
        module = "org.apache.kafka.common.security"
        login = f'{module}.plain.PlainLoginModule required user_{USER}="{password}" user_{HUBS_USER}="{password}";'
        more = {
            "listeners": f"{given['listeners']},{listeners}",
            "advertised.listeners": f"{given['advertised.listeners']},{listeners}",
            "listener.security.protocol.map": ",".join(
                [given["listener.security.protocol.map"], *(f"{name}:{_protocol(name)}" for name in LISTENERS)]
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(TLS / "localhost.pem"),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(TLS / "localhost.crt"),
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": LISTENERS["SASL_PLAINTEXT"],
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": f"PLAIN,{LISTENERS['SASL_SSL']}",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": login.replace("\\", "\\\\"),
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": login.replace("\\", "\\\\"),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }
        with file.open("a") as properties:
            properties.writelines(f"{name}={value}\n" for name, value in more.items())
        return command, environment


def _protocol(name: str) -> str:
    return "SSL" if name == MUTUAL else name


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start a broker with a user."""
    broker = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        broker.start()
        client = AdminClient({"bootstrap.servers": broker.bootstrap})
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        known = UserScramCredentialUpsertion(USER, credential, PASSWORD.encode())
        for answer in client.alter_user_scram_credentials([known]).values():
            answer.result(20)
        yield broker
    finally:
        broker.stop()


def settings_of(guarded: Guarded, protocol: str, unique: str, folder: Path) -> Settings:
    """Return settings for one of the listeners; the password is in the environment."""
    kafka = {
        "bootstrap": f"localhost:{guarded.ports[protocol]}",
        "security_protocol": _protocol(protocol),
        "topic_prefix": f"{unique}-",
    }
    if protocol != "SASL_PLAINTEXT":
        kafka["ssl_ca_file"] = str(TLS / "localhost.crt")
    if protocol == MUTUAL:
        kafka["ssl_client_cert_file"] = str(TLS / "localhost.pem")
    if LISTENERS[protocol]:
        kafka |= {"sasl_mechanism": LISTENERS[protocol], "sasl_username": USER}
    return Settings.model_validate(
        {
            "kafka": kafka,
            "worker": {"group": unique, "name": f"{unique}-1", "data_dir": str(folder / "worker")},
            "publisher": {"state_dir": str(folder / "producer")},
            "sink": {"group": f"{unique}-sink"},
        }
    )


@pytest.mark.parametrize("protocol", LISTENERS)
def test_the_whole_path(
    guarded: Guarded,
    engine: Engine,
    parts: Callable[[str, Path], Part],
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    """Topics are created, lines published, correlated and written, each by a process of its own."""
    settings = settings_of(guarded, protocol, unique, tmp_path)
    settings = settings.model_copy(update={"clickhouse": engine.settings(unique)})
    with_database(settings)
    file, eve = tmp_path / "settings.toml", tmp_path / "eve.json"
    write_settings(settings, file)
    if LISTENERS[protocol]:
        monkeypatch.setenv(WITH_PASSWORD, PASSWORD)
    with gzip.open(DATA / "dev-b.eve.json.gz") as lines:
        eve.write_bytes(b"".join(islice(lines, LINES)))

    assert run(["--config", str(file), "topics", "--create"]) == 0
    parts("worker", file)
    parts("sink", file)
    assert run(["--config", str(file), "produce", f"suricata:{eve}"]) == 0

    wait_until(lambda: len(ask(settings, "select * from DeviceNetworkEvents where RemoteUrl != ''")) > 0, "rows", 90)


def test_another_kafka_is_followed_as_an_event_hub_is(guarded: Guarded, unique: str, tmp_path: Path) -> None:
    """A followed Kafka has its own login; ours is reached without one."""
    theirs = f"{unique}-theirs"
    place = f"localhost:{guarded.ports['SASL_SSL']}"
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap": guarded.bootstrap, "topic_prefix": f"{unique}-"},
            "publisher": {"state_dir": str(tmp_path / "producer"), "batch_age_secs_max": 0.05},
            "inputs": {
                "kafka_group": unique,
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "PLAIN",
                "kafka_sasl_username": HUBS_USER,
                "kafka_ssl_ca_file": str(TLS / "localhost.crt"),
                "kafka_sasl_password": PASSWORD,
            },
        }
    )
    create_topics(guarded.settings, [*topics(settings), Topic(theirs, "Of another team", 1, {})])
    producer = Producer({"bootstrap.servers": guarded.bootstrap})
    producer.produce(theirs, b'{"local_ip":"192.0.2.1"}')
    assert producer.flush(20) == 0

    with Running(settings, f"sockets:kafka://{place}/{theirs}") as following:
        wait_until(lambda: following.report.received["kafka_acknowledged"] == 1, "the line is ours", 30)


WRONG = {
    "login": ("SASL_PLAINTEXT", {}, "another one", "kafka.sasl_password"),
    "login, encrypted": ("SASL_SSL", {}, "another one", "kafka.sasl_password"),
    "authority": ("SSL", {"ssl_ca_file": ""}, "", "kafka.ssl_ca_file"),
    "encryption": ("SSL", {"security_protocol": "PLAINTEXT"}, "", "kafka.security_protocol"),
    "no encryption": ("SASL_PLAINTEXT", {"security_protocol": "SASL_SSL"}, PASSWORD, "kafka.security_protocol"),
    "no certificate": (MUTUAL, {"ssl_client_cert_file": ""}, "", "kafka.ssl_client_cert_file"),
    "no login": ("SASL_PLAINTEXT", {"security_protocol": "PLAINTEXT"}, "", "kafka.security_protocol"),
}


@pytest.mark.parametrize(("protocol", "changed", "password", "named"), WRONG.values(), ids=WRONG)
def test_a_failed_login_is_reported_with_its_setting(
    guarded: Guarded,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    protocol: str,
    changed: dict[str, str],
    password: str,
    named: str,
) -> None:
    """A command and a waiting worker name the setting to correct, not only an unreachable Kafka."""
    settings = settings_of(guarded, protocol, unique, tmp_path)
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changed)})
    file, log = tmp_path / "settings.toml", tmp_path / "worker.log"
    write_settings(settings, file)
    monkeypatch.setenv(WITH_PASSWORD, password)
    worker = Part("worker", file)
    try:
        assert run(["--config", str(file), "check"]) == 1
        assert f"kafka: {settings.kafka.bootstrap}: " in (shown := capfd.readouterr().out)
        assert named in shown
        wait_until(lambda: named in log.read_text(), "the worker's log names what it waits for", 30)
    finally:
        worker.kill()


@pytest.mark.parametrize("name", ["ssl_ca_file", "ssl_client_cert_file"])
def test_a_file_that_cannot_be_used_is_named(name: str) -> None:
    """Librdkafka's clients, Faust and the client of a followed Kafka name the unusable file."""
    file = {name: "nowhere.pem"}
    settings = Settings.model_validate({"kafka": {"security_protocol": "SSL", **file}})
    inputs = InputSettings.model_validate({"kafka_security_protocol": "SSL", f"kafka_{name}": "nowhere.pem"})
    endpoint = Endpoint(Scheme.KAFKA, ("localhost:9092",), "theirs")
    message = f"{name}: nowhere.pem cannot be used: No such file or directory"

    with pytest.raises(SettingsError, match=rf"kafka\.{message}"):
        client_config(settings.kafka)
    with pytest.raises(SettingsError, match=rf"kafka\.{message}"):
        faust_settings(settings, 1)
    with pytest.raises(SettingsError, match=rf"inputs\.kafka_{message}"):
        consumer_config(endpoint, inputs)
