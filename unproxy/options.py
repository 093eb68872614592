"""Code of all commands: the global options, common options, times, and the examples at the end of each help text."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.output import json_array

if TYPE_CHECKING:
    from schemas.events import Micros
    from schemas.settings import Settings

DATA_FOLDER = Path(".unproxy")
"""Data folder of `up` without --data."""
SAMPLE = (
    "suricata:unproxy/samples/dev-a.eve.json.gz suricata:unproxy/samples/dev-b.eve.json.gz "
    "suricata:unproxy/samples/dev-c.eve.json.gz sockets:unproxy/samples/sockets.jsonl.gz"
)
"""The sample that ships with the project, as arguments of a command that runs in the project's folder."""


class Form(StrEnum):
    """How records are written."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"

    def written(self, lines: Iterable[str]) -> Iterator[str]:
        """Return the lines of the output from lines in this format; JSON lines become one array where this is JSON."""
        return json_array(lines) if self is Form.JSON else iter(lines)


FormOption = Annotated[Form, typer.Option("--format", help="Lines for people, one JSON array, or JSON lines.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Data folder of `unproxy up`; without it the servers that the settings name, else .unproxy.",
    ),
]
RawCsvOption = Annotated[
    bool,
    typer.Option(
        "--raw-csv",
        help="CSV as it is; without it text that starts with = + - @, tab or CR gets a ' in front, as spreadsheets run it.",
    ),
]


@dataclass(frozen=True)
class State:
    """The global options, which precede the name of the command."""

    config: Path | None = None
    verbose: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The effective settings, which logs follow from then on. Raises SettingsError."""
        from schemas.settings_file import load
        from unproxy import telemetry

        loaded = load(self.config)
        if loaded.log.format == "json":
            telemetry.use_json()
        return loaded


def state_of(context: typer.Context, *, service: bool = False) -> State:
    """Set up logging and return the global options. `service` is for a command that runs until SIGTERM or Ctrl-C."""
    from unproxy import telemetry

    state = context.obj
    assert isinstance(state, State), "the callback of the app makes it"
    telemetry.set_up(service=service, verbose=state.verbose)
    return state


@contextmanager
def stop_asked() -> Iterator[Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of the exception that Ctrl-C raises otherwise.

    It is for waits inside librdkafka, where an exception would crash the process.
    """
    stop = Event()
    before = {wanted: signal.signal(wanted, lambda *_: stop.set()) for wanted in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)


def utc_time(option: str, given: str) -> str:
    """Return the time given in an option, as ClickHouse parses it; "" for "". Raises BadParameter with the option's name."""
    return as_iso(_moment(option, given))


def span_of(first: str, since: str, last: str, until: str, now: datetime | None = None) -> tuple[Micros, Micros]:
    """Return the two times given in the options `first` and `last`, in microseconds since 1970; 0 for "".

    Times of day, and spans such as 1h, count back from `now`. Raises BadParameter with the option's name if a time is
    invalid, or if the second one is not later.
    """
    begin = _moment(first, since, now=now)
    end = _moment(last, until, begin, now)
    if begin and end and end <= begin:
        raise typer.BadParameter(f'"{until}" is not after "{since}"', param_hint=last)
    return begin, end


def as_iso(at: Micros) -> str:
    """Return a time as ClickHouse parses it; "" for 0."""
    from schemas.clock import iso_micros

    return iso_micros(at) if at else ""


def _moment(option: str, given: str, after: Micros = 0, now: datetime | None = None) -> Micros:
    from unproxy.query.times import moment

    if not given:
        return 0
    try:
        return moment(given, now or datetime.now(UTC), after)
    except ValueError:
        raise typer.BadParameter(
            f'"{given}" is not a time; write 2026-11-24T19:07:30 (UTC), only the day, 19:07, or 1h for an hour ago',
            param_hint=option,
        ) from None


def program() -> str:
    """Return the command that starts this program from the current folder, for examples that the user can paste."""
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
    """Return a path relative to the current folder if it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def example(*lines: str) -> str:
    """Return the end of a help text: example commands that the user can paste."""
    name = program()
    return "\n".join(["\b", "Example:", *(f"  {name} {line}" for line in lines)])
