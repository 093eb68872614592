"""Kafka's access control lists of each role, from `deploy/kafka/acls.toml`, as data and as commands of kafka-acls.sh."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from schemas.settings import Settings
from schemas.topics import topic_name
from unproxy.errors import Fixable

RAW = "raw-"
"""Prefix of the raw topics: endpoints write to them, a producer reads them and decides what each endpoint may claim."""
ANY = "*"
_ALL_RAW = RAW + ANY
_RAW_TOPIC = re.compile(rf"{RAW}[A-Za-z0-9._-]{{1,200}}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Operations that a role may perform on one topic or consumer group."""

    kind: str
    """`topic` or `group`."""
    name: str
    prefixed: bool
    """Whether the rule holds for all names that begin with `name`."""
    operations: tuple[str, ...]
    why: str


@cache
def _declared() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("deploy").joinpath("kafka/acls.toml").read_text(encoding="utf-8"))


def roles() -> dict[str, str]:
    """Return the roles with their descriptions."""
    return {role: part["about"] for role, part in _declared().items()}


def rules(settings: Settings, role: str, raw: str = "") -> tuple[Rule, ...]:
    """Return the rights of a role with these settings. With `raw`, it has rights on this raw topic only instead of all.

    Raises Fixable for an unknown role, and if `raw` is not the name of a raw topic.
    """
    if role not in _declared():
        raise Fixable(f"--role {role}: is no role; there are {', '.join(_declared())}")
    if raw and not _RAW_TOPIC.fullmatch(raw):
        raise Fixable(
            f"--raw {raw}: is no raw topic; its name must begin with {RAW}, and Kafka allows letters, digits, '.', '_' and '-'"
        )
    return tuple(_rules(settings, role, raw))


def _rules(settings: Settings, role: str, raw: str) -> Iterator[Rule]:
    for allowed in _declared()[role]["allow"]:
        chosen = [raw if raw and name == _ALL_RAW else name for name in allowed.get("topics", ())]
        names = [("topic", topic_name(settings, name)) for name in chosen]
        names += [("group", name.format_map(dict(settings))) for name in allowed.get("groups", ())]
        for kind, name in names:
            operations = tuple(allowed["operations"])
            yield Rule(kind, name.removesuffix(ANY), name.endswith(ANY), operations, allowed["why"])


def command(rule: Rule, principal: str, bootstrap: str) -> str:
    """Return the command of kafka-acls.sh that adds the rule; the login is read from admin.properties."""
    words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--command-config", "admin.properties", "--add"]
    words += ["--allow-principal", principal]
    for operation in rule.operations:
        words += ["--operation", operation.title().replace("_", "")]
    words += [f"--{rule.kind}", rule.name]
    words += ["--resource-pattern-type", "prefixed"] if rule.prefixed else []
    return shlex.join(words)
