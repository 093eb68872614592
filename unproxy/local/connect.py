"""Finds the services of a command: those of the settings, else those of a running `up`, for queries else its data folder.

Settings that name a ClickHouse or a Kafka take precedence over a folder that an `up` left, so that the rows of a trial
are not mistaken for those of the fleet. With `--data`, the folder is used in any case.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unproxy.errors import Fixable
from unproxy.local.folder import Folder, Running
from unproxy.local.servers.secret import secret_of
from unproxy.options import DATA_FOLDER, State
from unproxy.query.client import Client, of_settings

if TYPE_CHECKING:
    from schemas.settings import Settings

log = logging.getLogger(__name__)

DATABASE = "unproxy"
"""Database of the tables in a data folder."""
_OWN_SECTIONS = ("inputs", "sensor", "forward", "log")
LOCK_SECS_MAX = 60.0
UP_STARTS_SECS_MAX = 60.0
POLL_SECS = 0.2


@dataclass(frozen=True, slots=True)
class Services:
    """The settings that a command works with, and the `up` that they are of."""

    settings: Settings
    folder: Folder
    up: Running | None = None
    """The running `up` in the folder; None if these are the user's own settings."""

    def in_words(self) -> str:
        """Return which services these are, with their addresses, as one line."""
        addresses = f"Kafka {self.settings.kafka.bootstrap}, ClickHouse {self.settings.clickhouse.url}"
        if self.up:
            return f"services: those of `unproxy up` in {self.folder.path} (pid {self.up.up.number}): {addresses}"
        why = "" if _names_a_service(self.settings) else f", as no `unproxy up` runs in {self.folder.path}"
        return f"services: those of the settings{why}: {addresses}"


def services(state: State, data: Path | None = None) -> Services:
    """Return the user's settings if they name a Kafka or a ClickHouse, else those of a running `up`, else the user's.

    Of an `up`, `_OWN_SECTIONS` stay the user's, as no part of an `up` has them. Raises Fixable if `data` is given and no `up`
    runs in that folder.
    """
    theirs = state.settings
    folder = Folder(data or DATA_FOLDER)
    if data is None and _names_a_service(theirs):
        return Services(theirs, folder)
    if running := running_up(folder):
        from schemas.settings_file import load

        # Ignore environment variables: the folder's login must not go to a Kafka that a variable names.
        written = load(folder.settings, with_environment=False)
        own = {name: getattr(theirs, name) for name in _OWN_SECTIONS}
        log.info("using the servers of a running `unproxy up`", extra={"folder": folder.path, "pid": running.up.number})
        return Services(written.model_copy(update=own), folder, running)
    if data is not None:
        raise Fixable(f"{data}: no `unproxy up` runs there, and only a running one has a Kafka; start it first")
    return Services(theirs, folder)


@contextmanager
def tables(state: State, data: Path | None) -> Iterator[Client]:
    """Yield a client for the tables. Raises Fixable if there are none.

    If no `up` runs, the engine of the data folder is started and stopped at the end of the context.
    """
    folder = Folder(data or DATA_FOLDER)
    if data is None and _names_a_service(state.settings):
        yield of_settings(state.settings)
    elif running := running_up(folder):
        yield _of_engine(folder, running.clickhouse)
    elif folder.has_tables():
        with _engine_for_a_question(folder) as url:
            yield _of_engine(folder, url)
    elif data is not None:
        raise Fixable(f"{data}: holds no tables; run `unproxy up --data {data}` first, or name another folder")
    else:
        yield of_settings(state.settings)


def _names_a_service(settings: Settings) -> bool:
    return "bootstrap" in settings.kafka.model_fields_set or "url" in settings.clickhouse.model_fields_set


def _of_engine(folder: Folder, url: str) -> Client:
    return Client(url, DATABASE, password=secret_of(folder.clickhouse).get_secret_value())


def running_up(folder: Folder) -> Running | None:
    """Return the `up` that runs in this folder, once its servers have started; None if none runs.

    Raises Fixable if it takes more than `UP_STARTS_SECS_MAX` seconds to start.
    """
    deadline = time.monotonic() + UP_STARTS_SECS_MAX
    while (running := folder.read()) and running.alive():
        if running.clickhouse:
            return running
        if time.monotonic() >= deadline:
            raise Fixable(f"{folder.path}: `unproxy up` is still starting; try again when it is up")
        time.sleep(POLL_SECS)
    return None


@contextmanager
def _engine_for_a_question(folder: Folder) -> Iterator[str]:
    from unproxy.local.servers.engine import Engine

    engine = Engine(folder.clickhouse)

    def waiting(holder: str) -> None:
        print(f"waiting for {holder} to leave {folder.path} …", file=sys.stderr)

    with folder.opened("a query", wait_secs=LOCK_SECS_MAX, waiting=waiting):
        if engine.attach():
            # An `up` that died left this engine running. The next `up` takes it over, so it is not stopped here.
            yield engine.url
            return
        engine.start()
        try:
            yield engine.url
        finally:
            engine.stop(5)
