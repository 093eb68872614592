"""Find the tables for a query: those that the settings name, else a running `up`, else those in its data folder.

Settings that name a ClickHouse or a Kafka go before a folder that an `up` left behind: the rows of a trial must not be taken
for the fleet's. `--data` selects the folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unproxy.errors import Fixable
from unproxy.local.folder import Folder, Running
from unproxy.local.servers.secret import secret_of
from unproxy.options import DATA_FOLDER, State
from unproxy.query.client import Client, of_settings

if TYPE_CHECKING:
    from schemas.settings import Settings

DATABASE = "unproxy"
"""Of the tables in a data folder."""
LOCK_SECS_MAX = 60.0
UP_STARTS_SECS_MAX = 60.0
POLL_SECS = 0.2


@contextmanager
def tables(state: State, data: Path | None) -> Iterator[Client]:
    """Yield a client for the tables. Raises Fixable if there are none."""
    if data is None and "url" in state.settings.clickhouse.model_fields_set:
        yield of_settings(state.settings)
        return
    folder = Folder(data or DATA_FOLDER)
    running = running_up(folder)
    if running:
        yield _of_engine(folder, running.clickhouse)
    elif folder.has_tables():
        with _engine_for_a_question(folder) as url:
            yield _of_engine(folder, url)
    elif data is not None:
        raise Fixable(f"{data}: holds no tables; run `unproxy up --data {data}` first, or name another folder")
    else:
        yield of_settings(state.settings)


def kafka_settings(state: State, data: Path | None) -> Settings:
    """Return settings with the Kafka that they name, else with that of a running `up`."""
    if data is None and "bootstrap" in state.settings.kafka.model_fields_set:
        return state.settings
    folder = Folder(data or DATA_FOLDER)
    if running_up(folder):
        from schemas.settings_file import load

        # Without the environment: the folder's login must not go to a Kafka that a variable names.
        return load(folder.settings, with_environment=False)
    if data is not None:
        raise Fixable(f"{data}: no `unproxy up` runs there, and only a running one has a Kafka; start it first")
    return state.settings


def _of_engine(folder: Folder, url: str) -> Client:
    return Client(url, DATABASE, password=secret_of(folder.clickhouse).get_secret_value())


def running_up(folder: Folder) -> Running | None:
    """Return the `up` that runs on this folder, once it answers; None if none runs."""
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
            # Left running by an `up` that died: the next `up` will take it over, so it is not ours to stop.
            yield engine.url
            return
        engine.start()
        try:
            yield engine.url
        finally:
            engine.stop(5)
