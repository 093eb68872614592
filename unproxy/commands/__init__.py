"""The commands: a module for each command or group of commands. A module is imported when its command is requested."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from unproxy.options import SAMPLE, example, program

FIXABLE_NAMES = frozenset({"Fixable", "SettingsError", "EmbeddedError", "SourceError", "ClickException"})
"""Names of the errors that the user can fix; their messages state what to do.

They are names because an import of the packages that define them would slow down `--help`, and because some versions of
typer have their own copy of click.
"""

_CONFIG = "--config .unproxy/settings.toml"
_CONNECTION = "query --format csv 'SELECT any(ConnectionId) FROM DeviceNetworkEvents' | tail -1 | tr -d '\"'"
VERBS = {
    "up": ("up", "up --once"),
    "replay": ("replay", f"replay {SAMPLE} --out rows.jsonl"),
    "hunt": ("hunt", """hunt 'DeviceNetworkEvents | where Outcome == "blocked" | take 10'"""),
    "query": ("hunt", """query --kql 'DeviceNetworkEvents | where ActionType == "ConnectionSuccess" | take 10'"""),
    "timeline": ("timeline", "timeline dev-a --process curl --limit 20"),
    "coverage": ("coverage", "coverage dev-a 10:05 10:30"),
    "event": ("event", f"event $({program()} {_CONNECTION})"),
    "alerts": ("alerts", "alerts --device dev-b --severity medium"),
    "indicators": ("indicators", "indicators list"),
    "suppress": ("suppress", "suppress list"),
    "rejects": ("rejects", "rejects --since 2026-11-24"),
    "detach-damaged": ("detach_damaged", "detach-damaged --dry-run"),
    "produce": ("produce", f"{_CONFIG} produce {SAMPLE}"),
    "sensor": ("sensor", "sensor --out -"),
    "simulate": ("simulate", "simulate --devices 20 --seed 7 --out world"),
    "worker": ("parts", f"{_CONFIG} worker"),
    "sink": ("parts", f"{_CONFIG} sink"),
    "forward": ("forward", f"{_CONFIG} forward --test"),
    "migrate": ("migrate", f"{_CONFIG} migrate --dry-run"),
    "topics": ("kafka", "topics"),
    "acls": ("kafka", "acls --role sensor --principal User:ws-1 --raw raw-ws-1"),
    "check": ("check", f"{_CONFIG} check"),
}
"""The module and the example of each command, in the order of the help text.

The module has a function with the name of the command, or the app `family` of a command with subcommands.
"""


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Commands()})


class _Commands(MutableMapping[str, Any]):
    """The commands by name; each is made when it is first requested."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, verb: str) -> Any:
        if verb not in self._made:
            name, line = VERBS[verb]
            module = import_module(f"{__name__}.{name}")
            app = typer.Typer(rich_markup_mode=None)
            if hasattr(module, "family"):
                app.add_typer(module.family, name=verb, epilog=example(line))
            else:
                app.command(verb, epilog=example(line))(getattr(module, verb.replace("-", "_")))
            self._made[verb] = typer.main.get_group(app).commands[verb]
        return self._made[verb]

    def __setitem__(self, verb: str, command: Any) -> None:
        self._made[verb] = command

    def __delitem__(self, verb: str) -> None:
        del self._made[verb]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)
