"""A Kafka that refuses what no ACL allows, as the one in deploy/compose.yaml: same users, same authorizer.

The embedded broker's plain listener stays, for the super user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from unproxy.local.servers.broker import Broker
from unproxy.local.servers.service import HOST, free_port

PASSWORD = "of-a-test"
OTHERS = ("stranger", "one-endpoint")
"""Who logs in as well: a user without rights, and one that a test gives some."""


class GuardedKafka(Broker):
    """The embedded broker with an authorizer, and a listener on which users log in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, login=False)
        self.login_port = free_port()

    @property
    def with_login(self) -> str:
        """Where users log in."""
        return f"{HOST}:{self.login_port}"

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare(port)
        file = self._properties_file
        given = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        more = {
            "listeners": f"{given['listeners']},INSIDE://{self.with_login}",
            "advertised.listeners": f"{given['advertised.listeners']},INSIDE://{self.with_login}",
            "listener.security.protocol.map": f"{given['listener.security.protocol.map']},INSIDE:SASL_PLAINTEXT",
            **_as_composed(),
        }
        with file.open("a") as properties:
            properties.writelines(f"{name}={value}\n" for name, value in more.items())
        return command, environment


def _as_composed() -> dict[str, str]:
    """Who is let in, and who may do what, as the image of the compose file makes properties of its environment."""
    compose = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): re.sub(r"\$\{\w+:[^}]*\}", PASSWORD, str(value))
        for name, value in compose["services"]["kafka"]["environment"].items()
    }
    of_tests = " ".join(f'user_{user_of(other)}="{PASSWORD}"' for other in OTHERS)
    return {
        name: value.replace(";", f" {of_tests};")
        for name, value in given.items()
        if name.startswith(("listener.name.inside.", "authorizer.", "allow.everyone.", "super.users"))
    }


def user_of(role: str) -> str:
    """The name with which a role logs in."""
    return f"unproxy-{role}"


def login_of(role: str) -> dict[str, str]:
    """Settings of section [kafka] for this role, without the address."""
    return {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": user_of(role)}
