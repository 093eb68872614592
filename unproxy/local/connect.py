"""Finds the tables for a query: on the server of the settings, else in a running `up`, else in its data folder.

Settings that name a ClickHouse or a Kafka take precedence over a folder that an `up` left, so that the rows of a trial
are not mistaken for those of the fleet. With `--data`, the folder is used in any case.
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
"""Database of the tables in a data folder."""
LOCK_SECS_MAX = 60.0
UP_STARTS_SECS_MAX = 60.0
POLL_SECS = 0.2


@contextmanager
def tables(state: State, data: Path | None) -> Iterator[Client]:
    """Yield a client for the tables. Raises Fixable if there are none.

    If no `up` runs, the engine of the data folder is started and stopped at the end of the context.
    """
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
    """Return the user's settings if they name a Kafka, else those of a running `up`, else the user's.

    Raises Fixable if `data` is given and no `up` runs in that folder.
    """
    if data is None and "bootstrap" in state.settings.kafka.model_fields_set:
        return state.settings
    folder = Folder(data or DATA_FOLDER)
    if running_up(folder):
        from schemas.settings_file import load

        # Ignore environment variables: the folder's login must not go to a Kafka that a variable names.
        return load(folder.settings, with_environment=False)
    if data is not None:
        raise Fixable(f"{data}: no `unproxy up` runs there, and only a running one has a Kafka; start it first")
    return state.settings


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
