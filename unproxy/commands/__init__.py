"""One module per command or family of commands. A module is imported when its command is needed."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

FIXABLE_NAMES = frozenset({"Fixable", "SettingsError", "EmbeddedError", "SourceError", "ClickException"})
"""Errors whose message states what to do. By name, as importing the packages that define them would slow down `--help`,
and typer brings its own copy of click in some versions."""

MODULES = {
    "up": "up",
    "replay": "replay",
    "hunt": "hunt",
    "query": "query",
    "timeline": "timeline",
    "coverage": "coverage",
    "event": "event",
    "alerts": "alerts",
    "indicators": "indicators",
    "suppress": "suppress",
    "rejects": "rejects",
    "detach-damaged": "detach_damaged",
    "produce": "produce",
    "sensor": "sensor",
    "simulate": "simulate",
    "worker": "parts",
    "sink": "parts",
    "forward": "forward",
    "migrate": "migrate",
    "topics": "kafka",
    "acls": "kafka",
    "check": "check",
}
"""The module of each verb, in the order of the help text."""


class LazyGroup(TyperGroup):
    """The group of all verbs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Commands()})


class _Commands(MutableMapping[str, Any]):
    """The command of each verb, made when it is first requested."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, verb: str) -> Any:
        if verb not in self._made:
            app = typer.Typer(rich_markup_mode=None)
            import_module(f"{__name__}.{MODULES[verb]}").register(app)
            self._made.update(typer.main.get_group(app).commands)
        return self._made[verb]

    def __setitem__(self, verb: str, command: Any) -> None:
        self._made[verb] = command

    def __delitem__(self, verb: str) -> None:
        del self._made[verb]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)
