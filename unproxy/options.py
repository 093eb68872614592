"""What all commands share: the global options, how they were called, the examples below each help text."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from schemas.settings import Settings

DATA_FOLDER = Path(".unproxy")
"""Where `up` keeps everything when no --data says otherwise."""
SAMPLE = (
    "suricata:unproxy/samples/dev-a.eve.json.gz suricata:unproxy/samples/dev-b.eve.json.gz "
    "suricata:unproxy/samples/dev-c.eve.json.gz sockets:unproxy/samples/sockets.jsonl.gz"
)
"""The sample that ships with the project, as a person writes it in the project's folder."""


@dataclass(frozen=True)
class State:
    """The options before the verb."""

    config: Path | None = None
    verbose: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The settings in force. Raises SettingsError."""
        from schemas.settings_file import load

        return load(self.config)


def state_of(context: typer.Context) -> State:
    """The options before the verb, with logging set up for a command that does one thing and ends."""
    from unproxy import telemetry

    state = context.obj
    assert isinstance(state, State), "the callback of the app makes it"
    telemetry.set_up(service=False, verbose=state.verbose)
    return state


def service_of(context: typer.Context) -> State:
    """The same for a command that runs until it is told to end."""
    from unproxy import telemetry

    state = context.obj
    assert isinstance(state, State), "the callback of the app makes it"
    telemetry.set_up(service=True, verbose=state.verbose)
    return state


@contextmanager
def stop_asked() -> Iterator[Event]:
    """Set by Ctrl-C or SIGTERM meanwhile. For what waits inside librdkafka, which makes a crash of an exception there."""
    stop = Event()
    before = {wanted: signal.signal(wanted, lambda *_: stop.set()) for wanted in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)


def program() -> str:
    """How this program is called here, so that what we print can be pasted."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" or called.name != "unproxy":
        found = shutil.which("unproxy")
        beside = Path(sys.executable).parent / "unproxy"
        if found and beside.exists() and Path(found).samefile(beside):
            return "unproxy"
        return _short(beside) if beside.exists() else f"{_short(Path(sys.executable))} -m unproxy"
    found = shutil.which("unproxy")
    return "unproxy" if found and Path(found).absolute() == called.absolute() else _short(called)


def _short(path: Path) -> str:
    """A path as it is written from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def example(*lines: str) -> str:
    """The end of a help text: what to paste."""
    name = program()
    return "\n".join(["\b", "Example:", *(f"  {name} {line}" for line in lines)])
