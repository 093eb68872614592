"""Settings that all librdkafka clients share; each client adds its own."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from common import tls
from schemas.settings import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Largest message of any topic (deploy/topics.toml), including headers and framing."""
LISTENS_SECS_MAX = 1.0
ONCE_IN_ORDER: dict[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    # With several requests in flight, a partition with a new leader may reject the first and accept the second, because
    # Kafka accepts any first sequence number of an unknown producer. librdkafka (2.16) then treats the first as done,
    # too.
    "max.in.flight.requests.per.connection": 1,
}
"""Settings of a Producer that must neither lose nor duplicate messages."""


def client_config(kafka: KafkaSettings, settings: str = "kafka.ssl_") -> dict[str, object]:
    """Return settings of a confluent-kafka Producer, Consumer or AdminClient for this cluster. Raises SettingsError.

    `settings` is the common prefix of the settings that name the TLS files.
    """
    config: dict[str, object] = {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": "unproxy",
        "security.protocol": kafka.security_protocol,
        # Reconnect to a restarted broker within two seconds instead of librdkafka's ten.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2_000,
        # Do not wait half a minute for a broker that accepts the connection but does not answer.
        "socket.connection.setup.timeout.ms": 5_000,
        "api.version.request.timeout.ms": 5_000,
        "socket.keepalive.enable": True,
        # Do not log idle connections that the broker closes.
        "log.connection.close": False,
    }
    if kafka.sasl_mechanism:
        config["sasl.mechanism"] = kafka.sasl_mechanism
        config["sasl.username"] = kafka.sasl_username
        config["sasl.password"] = kafka.sasl_password.get_secret_value()
    if kafka.security_protocol.endswith("SSL") and (kafka.ssl_ca_file or kafka.ssl_client_cert_file):
        # This check gives a better message for an unusable file than librdkafka does.
        tls.context(settings, kafka.ssl_ca_file, kafka.ssl_client_cert_file)
    if kafka.ssl_ca_file:
        config["ssl.ca.location"] = kafka.ssl_ca_file
    if kafka.ssl_client_cert_file:
        config["ssl.certificate.location"] = config["ssl.key.location"] = kafka.ssl_client_cert_file
    return config


def what_to_do(error: KafkaError, bootstrap: str) -> str:
    """Return what an operator should check when a client meets this error and keeps retrying."""
    name = error.name()
    if "UNKNOWN_TOPIC" in name or "UNKNOWN_PARTITION" in name:
        return "run `unproxy topics --create`"
    return _at_the_door(error) or f"start Kafka at {bootstrap}, or set kafka.bootstrap"


class Door:
    """A diagnosis of why a reachable server does not serve a client: its login or its encryption.

    It is needed because the client's calls only report that the connection failed. Pass `note` to the client as its
    `error_cb`, and call the client's `poll` before `words`, so that errors arrive.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._error: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """Keep an error of login or encryption; ignore all others."""
        if _at_the_door(error):
            self._error = error

    def words(self) -> str:
        """Return what has failed since the last call, and what to do; "" if no server listens at the addresses.

        Blocks for at most one second per broker.
        """
        error, self._error = self._error, None
        if error is not None:
            return f"{error.str()}; {_at_the_door(error)}"
        # A server that expects another protocol closes the connection or waits; the client gets no reason.
        if any(_listens(address.strip()) for address in self._bootstrap.split(",")):
            return (
                "a server listens there and gives no answer; "
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
