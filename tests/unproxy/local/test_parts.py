"""The settings that the parts of `up` run with: the user's own, but for where Kafka, ClickHouse and the folders are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.settings import ClickHouseSettings, KafkaSettings, Settings
from schemas.settings_file import load
from unproxy.local.folder import Folder
from unproxy.local.parts import embedded_settings, write_settings

KAFKA = KafkaSettings(bootstrap="k:1", sasl_mechanism="PLAIN", sasl_username="u", sasl_password=SecretStr('k"ey\\'))
CLICKHOUSE = ClickHouseSettings(url="http://c:1", password=SecretStr("key"))


def test_the_users_own_settings_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides about rows is in force in `up` as everywhere, and survives the file between `up` and its parts."""
    monkeypatch.delenv("UNPROXY_CONFIG", raising=False)
    theirs = Settings.model_validate(
        {
            "identity": {"domains": ["corp.example"], "learn": False, "devices": {"ws-1": {"addresses": ["10.0.0.1"]}}},
            "correlation": {"patience_secs": 5},
        }
    )
    write_settings(embedded_settings(theirs, Folder(tmp_path), KAFKA, CLICKHOUSE), tmp_path / "settings.toml")
    read = load(tmp_path / "settings.toml")

    assert (read.identity, read.correlation, read.protection) == (
        theirs.identity,
        theirs.correlation,
        theirs.protection,
    )
    assert (read.kafka, read.clickhouse) == (KAFKA, CLICKHOUSE)


def test_settings_with_logins_are_for_their_owner(tmp_path: Path) -> None:
    """The file holds the logins of Kafka and ClickHouse, also where an older one could be read by all."""
    file = tmp_path / "settings.toml"
    for left in (file, file.with_suffix(".new")):
        left.touch(mode=0o644)
    write_settings(embedded_settings(Settings(), Folder(tmp_path), KAFKA, CLICKHOUSE), file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
