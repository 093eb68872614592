"""A Kafka that refuses what no ACL allows, with one user for each role; a plain listener stays for the super user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unproxy.acls import roles
from unproxy.embedded.broker import Broker
from unproxy.embedded.service import HOST, free_port

PASSWORD = "of-a-test"
OTHERS = ("stranger", "one-endpoint")
"""Who logs in as well: a user without rights, and one that a test gives some."""
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class GuardedKafka(Broker):
    """The embedded broker with an authorizer, and a listener on which users log in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.login_port = free_port()

    @property
    def with_login(self) -> str:
        """Where users log in."""
        return f"{HOST}:{self.login_port}"

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare(port)
        file = self._properties_file
        given = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        users = " ".join(f'user_{user_of(role)}="{PASSWORD}"' for role in [*roles(), *OTHERS])
        more = {
            "listeners": f"{given['listeners']},LOGIN://{self.with_login}",
            "advertised.listeners": f"{given['advertised.listeners']},LOGIN://{self.with_login}",
            "listener.security.protocol.map": f"{given['listener.security.protocol.map']},LOGIN:SASL_PLAINTEXT",
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f"{_LOGIN} required {users};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
        }
        with file.open("a") as properties:
            properties.writelines(f"{name}={value}\n" for name, value in more.items())
        return command, environment


def user_of(role: str) -> str:
    """The name with which a role logs in."""
    return f"unproxy-{role}"


def login_of(role: str) -> dict[str, str]:
    """Settings of section [kafka] for this role, without the address."""
    return {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": user_of(role)}
