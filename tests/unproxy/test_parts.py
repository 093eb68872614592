"""The settings that the parts of `up` run with: the user's own, but for where Kafka, ClickHouse and the folders are."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.settings import Settings
from schemas.settings_file import load
from unproxy.up.folder import Folder
from unproxy.up.parts import embedded_settings, write_settings


def test_the_users_own_settings_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides about rows is in force in `up` as everywhere, and survives the file between `up` and its parts."""
    monkeypatch.delenv("UNPROXY_CONFIG", raising=False)
    theirs = Settings.model_validate(
        {
            "identity": {"domains": ["corp.example"], "learn": False, "devices": {"ws-1": {"addresses": ["10.0.0.1"]}}},
            "correlation": {"patience_secs": 5},
        }
    )
    write_settings(embedded_settings(theirs, Folder(tmp_path), "k:1", "http://c:1"), tmp_path / "settings.toml")
    read = load(tmp_path / "settings.toml")

    assert (read.identity, read.correlation, read.protection) == (
        theirs.identity,
        theirs.correlation,
        theirs.protection,
    )
    assert read.kafka.bootstrap == "k:1"
