"""Whom a question goes to: never to what a trial left behind where the settings name a ClickHouse or a Kafka."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.settings import PREFIX
from unproxy.local.connect import services, tables
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
    folder.settings.write_text(f'[kafka]\nbootstrap = "{TRIAL_KAFKA}"\n[clickhouse]\nurl = "{TRIAL}"\n')
    folder.settings.chmod(0o600)
    folder.write(Running(Pid.of(os.getpid()), TRIAL_KAFKA, TRIAL, str(folder.settings)))
    return tmp_path


def asked(state: State, data: Path | None = None) -> tuple[str, str]:
    """The ClickHouse and the Kafka that a command would ask."""
    with tables(state, data) as client:
        return client.url, services(state, data).settings.kafka.bootstrap


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
    assert asked(State()) == (default.clickhouse.url, default.kafka.bootstrap)


def test_a_service_that_the_settings_name_brings_no_other_of_the_trial(
    up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the fleet's Kafka must not go to the trial's ClickHouse."""
    del up
    monkeypatch.setenv(f"{PREFIX}KAFKA__BOOTSTRAP", OUR_KAFKA)

    assert asked(State()) == (State().settings.clickhouse.url, OUR_KAFKA)


def test_of_the_trial_what_no_part_of_it_has_stays_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forwarder sends the trial's alerts to the user's receiver."""
    monkeypatch.setenv(f"{PREFIX}FORWARD__SYSLOG_ADDRESS", "siem.example:601")
    found = services(State()).settings

    assert (found.kafka.bootstrap, found.forward.syslog_address) == (TRIAL_KAFKA, "siem.example:601")


def test_check_names_what_it_checks(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder, the process and the addresses of an `up`; or that there is none."""
    assert services(State()).in_words() == (
        f"services: those of `unproxy up` in {DATA_FOLDER} (pid {os.getpid()}): Kafka {TRIAL_KAFKA}, ClickHouse {TRIAL}"
    )
    monkeypatch.setenv(f"{PREFIX}KAFKA__BOOTSTRAP", OUR_KAFKA)
    assert services(State()).in_words().startswith("services: those of the settings: Kafka kafka.example:9092")
    monkeypatch.delenv(f"{PREFIX}KAFKA__BOOTSTRAP")
    monkeypatch.chdir(up.parent)
    assert "no `unproxy up` runs in .unproxy" in services(State()).in_words()


def test_the_folder_is_asked_all_the_same_when_it_is_named(up: Path) -> None:
    """--data has the first word."""
    config = up / "own.toml"
    config.write_text(f'[kafka]\nbootstrap = "{OUR_KAFKA}"\n[clickhouse]\nurl = "{OURS}"\n')

    assert asked(State(config), DATA_FOLDER) == (TRIAL, TRIAL_KAFKA)


def test_a_variable_does_not_redirect_the_login_of_the_trial(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is asked for decides alone: its password goes to its own Kafka, whatever a variable names."""
    monkeypatch.setenv(f"{PREFIX}KAFKA__BOOTSTRAP", "elsewhere.example:9092")

    assert services(State(), up / DATA_FOLDER).settings.kafka.bootstrap == TRIAL_KAFKA


def test_a_folder_of_another_user_is_not_used(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who puts a data folder into /tmp does not get the events of a sensor that is started there."""
    monkeypatch.setattr(os, "geteuid", lambda: (up / DATA_FOLDER).stat().st_uid + 1)

    assert services(State()).up is None
    assert services(State()).settings.kafka.bootstrap != TRIAL_KAFKA
