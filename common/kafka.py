"""How every librdkafka client of ours reaches the cluster; what is special to one of them is added by that one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from common import tls
from schemas.settings import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest message of any topic (deploy/topics.toml), headers and framing included."""
LISTENS_SECS_MAX = 1.0
ONCE_IN_ORDER: dict[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    # Of several requests in flight a partition that just got its leader may refuse the first and take the second, as Kafka
    # accepts any first sequence number of a producer it knows nothing of. librdkafka (2.16) then takes the first for done, too.
    "max.in.flight.requests.per.connection": 1,
}
"""How a Producer is set up that must lose nothing and write nothing twice."""


def client_config(kafka: KafkaSettings, settings: str = "kafka.ssl_") -> dict[str, object]:
    """Settings of a confluent-kafka Producer, Consumer or AdminClient for this cluster. Raises SettingsError.

    `settings` is how the names of those begin that tell the files for encryption.
    """
    config: dict[str, object] = {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": "unproxy",
        "security.protocol": kafka.security_protocol,
        # A broker that comes back should be met within a second or two, not after librdkafka's ten.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2_000,
        # Nor should one that takes the connection and says nothing be waited for half a minute.
        "socket.connection.setup.timeout.ms": 5_000,
        "api.version.request.timeout.ms": 5_000,
        "socket.keepalive.enable": True,
        # An idle connection that the broker closes is no news.
        "log.connection.close": False,
    }
    if kafka.sasl_mechanism:
        config["sasl.mechanism"] = kafka.sasl_mechanism
        config["sasl.username"] = kafka.sasl_username
        config["sasl.password"] = kafka.sasl_password.get_secret_value()
    if kafka.security_protocol.endswith("SSL") and (kafka.ssl_ca_file or kafka.ssl_client_cert_file):
        # Of a file that cannot be used librdkafka says less.
        tls.context(settings, kafka.ssl_ca_file, kafka.ssl_client_cert_file)
    if kafka.ssl_ca_file:
        config["ssl.ca.location"] = kafka.ssl_ca_file
    if kafka.ssl_client_cert_file:
        config["ssl.certificate.location"] = config["ssl.key.location"] = kafka.ssl_client_cert_file
    return config


def what_to_do(error: KafkaError, bootstrap: str) -> str:
    """What a person should look at when a client of ours meets this error and goes on trying."""
    name = error.name()
    if "UNKNOWN_TOPIC" in name or "UNKNOWN_PARTITION" in name:
        return "run `unproxy topics --create`"
    return _at_the_door(error) or f"start Kafka at {bootstrap}, or set kafka.bootstrap"


class Door:
    """Why somebody who is there does not answer a client: login, encryption. Its `note` is the client's `error_cb`.

    Of each of them the client's own calls tell only that the connection failed; `poll` the client before asking for words.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._error: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """Keep what a person can mend."""
        if _at_the_door(error):
            self._error = error

    def words(self) -> str:
        """What was wrong since this was asked last, and what to do; "" where nobody is there. Takes a second at most."""
        error, self._error = self._error, None
        if error is not None:
            return f"{error.str()}; {_at_the_door(error)}"
        # Who is spoken to with another protocol than he expects closes the connection, or waits; no client is told why.
        if any(_listens(address.strip()) for address in self._bootstrap.split(",")):
            return (
                "somebody listens there and gives no answer; "
                "look into his log and at kafka.security_protocol and kafka.ssl_client_cert_file, or set kafka.bootstrap"
            )
        return ""


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), LISTENS_SECS_MAX).close()
    except (OSError, ValueError):
        return False
    return True


def _at_the_door(error: KafkaError) -> str:
    name = error.name()
    if "AUTH" in name:
        return "check login and rights (kafka.sasl_username, kafka.sasl_password)"
    if name == "_SSL" or "security.protocol" in error.str():
        return "check kafka.security_protocol, kafka.ssl_ca_file and kafka.ssl_client_cert_file"
    return ""
