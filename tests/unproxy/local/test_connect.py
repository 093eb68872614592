"""Whom a question goes to: never to what a trial left behind where the settings name a ClickHouse or a Kafka."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.settings import PREFIX
from unproxy.local.connect import kafka_settings, tables
from unproxy.local.folder import Folder, Pid, Running
from unproxy.options import DATA_FOLDER, State

OURS, TRIAL = "http://ours.example:8123", "http://127.0.0.1:2"
OUR_KAFKA, TRIAL_KAFKA = "kafka.example:9092", "127.0.0.1:1"


@pytest.fixture(autouse=True)
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where we stand, in which an `up` runs: its number is that of this process."""
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path / DATA_FOLDER)
    folder.make()
    folder.clickhouse.mkdir()
    folder.settings.write_text(f'[kafka]\nbootstrap = "{TRIAL_KAFKA}"\n')
    folder.write(Running(Pid.of(os.getpid()), TRIAL_KAFKA, TRIAL, str(folder.settings)))
    return tmp_path


def asked(state: State, data: Path | None = None) -> tuple[str, str]:
    """The ClickHouse and the Kafka that a command would ask."""
    with tables(state, data) as client:
        return client.url, kafka_settings(state, data).kafka.bootstrap


def test_without_an_address_the_trial_is_asked(up: Path) -> None:
    """A file with other settings changes nothing about it."""
    config = up / "own.toml"
    config.write_text('[correlation]\nproxies = ["198.51.100.80:3128"]\n')

    assert asked(State()) == (TRIAL, TRIAL_KAFKA)
    assert asked(State(config)) == (TRIAL, TRIAL_KAFKA)


def test_what_the_settings_name_is_asked(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file or in the environment, even if it is the default."""
    config = up / "own.toml"
    config.write_text(f'[kafka]\nbootstrap = "{OUR_KAFKA}"\n[clickhouse]\nurl = "{OURS}"\n')
    assert asked(State(config)) == (OURS, OUR_KAFKA)

    default = State().settings
    monkeypatch.setenv(f"{PREFIX}CLICKHOUSE__URL", default.clickhouse.url)
    assert asked(State()) == (default.clickhouse.url, TRIAL_KAFKA)


def test_the_folder_is_asked_all_the_same_when_it_is_named(up: Path) -> None:
    """--data has the first word."""
    config = up / "own.toml"
    config.write_text(f'[kafka]\nbootstrap = "{OUR_KAFKA}"\n[clickhouse]\nurl = "{OURS}"\n')

    assert asked(State(config), DATA_FOLDER) == (TRIAL, TRIAL_KAFKA)
