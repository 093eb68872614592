"""`unproxy check`, `migrate` and `topics`: what is as it should be, and what to do where it is not."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from clickhouse_connect import get_client
from clickhouse_connect.driver.client import Client
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from schemas.sections.inputs import IdentitySettings
from schemas.sections.retention import RetentionSettings
from schemas.settings import KafkaSettings, Settings
from schemas.tables import TABLES
from schemas.topics import REJECTS, TABLE_OF_TOPIC, topic_name
from sinks.migrate import pending
from sinks.retention import Retention
from unproxy import wiring
from unproxy.cli import run
from unproxy.errors import Failed, Fixable
from unproxy.kafka import cluster
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine
from unproxy.ops import check as checking


def wrong(settings: Settings) -> list[str]:
    """What is not as it should be."""
    return [finding.what for finding in checking.everything(settings) if not finding.fine]


def test_all_is_well_after_migrate(settings: Settings) -> None:
    """With topics and tables made, there is nothing to find; before, each finding names what to run."""
    assert [what.rpartition("; ")[2] for what in wrong(settings)] == ["run `unproxy migrate`"] * (1 + len(TABLES))
    assert wiring.migrate(settings)
    assert wiring.on_tables(settings, pending) == []
    assert wrong(settings) == []


def test_identity_files_are_read(tmp_path: Path) -> None:
    """What a producer could not start with, or would leave out, is found before."""
    good, bad, missing = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "missing.csv"
    good.write_text("device,name\nws-1,GUID-1\n")
    bad.write_text("device,address\nws-1,nowhere\n")
    settings = Settings(identity=IdentitySettings(files=(str(good), str(bad), str(missing))))
    found = [finding for finding in islice(checking.everything(settings), 4) if "identity" in finding.what]

    assert [finding.fine for finding in found] == [True, False, False]
    assert found[0].what.endswith("good.csv: names and addresses: 1")
    assert "1 of its lines cannot be used" in found[1].what
    assert "cannot be read: No such file" in found[2].what


def test_grants_that_match_nothing_are_found(tmp_path: Path) -> None:
    """A client that another grant takes first, a file that is not there, and a name that is no DeviceId."""
    (tmp_path / "access.log").touch()
    grants: dict[str, dict[str, object]] = {
        "net": {"addresses": ["10.0.0.0/8"], "devices": ["*"]},
        "ws-1": {"addresses": ["10.0.0.7", "10.1.0.0/16"]},
        "ws-2": {"addresses": ["10.0.0.8", "2001:db8::8"]},
        "ws-3": {"addresses": ["10.0.0.9"], "certificates": ["ws-3"]},
        "ws-4": {"addresses": ["10.0.0.9"], "token": "a-token-of-one-sender"},
        "ws-5.corp.example": {"certificates": ["ws-5"], "devices": []},
        "squid": {"sources": [str(tmp_path / "*.log"), str(tmp_path / "*.lgo"), "kafka://b:9092/t", "-"], "devices": ["*"]},
    }  # fmt: skip
    settings = Settings.model_validate({"inputs": {"grants": grants}, "identity": {"domains": ["corp.example"]}})
    found = [finding.what for finding in islice(checking.everything(settings), 4) if not finding.fine]

    assert found == [
        'grant ws-1: "net" matches all of its clients first; write ws-1 before it, or narrow "net"',
        'grant ws-5.corp.example: no line is about "ws-5.corp.example", as its DeviceId is "ws-5"; write that',
        f"grant squid: no file here matches {tmp_path}/*.lgo; correct it in its sources, or leave it out",
    ]
    del grants["ws-1"], grants["ws-5.corp.example"], grants["squid"]
    good = Settings.model_validate({"inputs": {"grants": grants}})
    assert checking.Finding(True, "grants: 4, each can match") in islice(checking.everything(good), 2)


def test_topic_that_differs_is_found(settings: Settings) -> None:
    """A topic's changed setting is found with the command that puts it right."""
    wiring.migrate(settings)
    name = topic_name(settings, REJECTS)
    change = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])
    admin = AdminClient(cluster.kafka_client_config(settings))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()

    (found,) = wrong(settings)
    assert found.startswith(f"topic {name}: retention.ms is 1000 instead of")
    assert f"--alter --topic {name} --add-config retention.ms=" in found


def test_column_that_is_missing_is_found(settings: Settings, engine: Engine) -> None:
    """A table that lost a column is found."""
    wiring.migrate(settings)
    with get_client(
        host=engine.host,
        port=engine.port,
        database=settings.clickhouse.database,
        password=engine.secret.get_secret_value(),
    ) as client:
        client.command("CREATE OR REPLACE VIEW Rejects AS SELECT * EXCEPT Reason FROM Rejects_versions")

    (found,) = wrong(settings)
    assert found.startswith("table Rejects: column Reason is missing")
    assert found.endswith("run `unproxy migrate`")
    assert wiring.migrate(settings) == ["view Rejects"]
    assert wrong(settings) == []


def test_lost_table_is_found_and_made_on_request(
    settings: Settings, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that `check` names for a lost table makes it; `migrate` without its option makes none and reports that."""
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    wiring.migrate(settings)
    with get_client(
        host=engine.host,
        port=engine.port,
        database=settings.clickhouse.database,
        password=engine.secret.get_secret_value(),
    ) as client:
        client.command("DROP TABLE Rejects_versions SYNC")
        client.command("DROP VIEW Rejects")

    (found,) = wrong(settings)
    assert found == "table Rejects: is lost with its rows; restore it, or run `unproxy migrate --lost`"
    assert run(["--config", str(file), "migrate"]) == 2
    assert "run `unproxy migrate --lost` to create them empty" in capsys.readouterr().err
    assert run(["--config", str(file), "migrate", "--lost", "--dry-run"]) == 0
    assert capsys.readouterr().out == "table Rejects\n"
    assert run(["--config", str(file), "migrate", "--lost"]) == 0
    assert capsys.readouterr().out == "table Rejects\nview Rejects\n"
    assert wrong(settings) == []


def test_check_goes_on_without_the_retention(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who may not read ClickHouse's tables of parts and mutations sees everything else; nothing is wrong."""

    def refused(client: Client, *_: object) -> list[Retention]:
        client.query("SELECT * FROM system.no_such_table")
        return []

    wiring.migrate(settings)
    monkeypatch.setattr(checking, "retentions", refused)
    found = list(checking.everything(settings))

    assert [one.what.partition(": ")[0] for one in found if one.what.startswith("retention")] == ["retention"]
    assert wrong(settings) == []


def test_retention_is_shown_and_needs_consent(
    settings: Settings, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another retention than the settings' is found; rows that it removes at once are named and kept without `--yes`."""
    wiring.migrate(settings)
    shorter = settings.model_copy(update={"retention": RetentionSettings(total_days=30)})
    file = tmp_path / "settings.toml"
    write_settings(shorter, file)
    with get_client(
        host=engine.host,
        port=engine.port,
        database=settings.clickhouse.database,
        password=engine.secret.get_secret_value(),
    ) as client:
        client.command(
            "INSERT INTO Rejects_versions (RecordId, IngestedAt) VALUES ('a', '2026-01-02 00:00:00')",
            settings={"insert_allow_materialized_columns": 1},
        )
        shown = [finding.what for finding in checking.everything(settings) if finding.what.startswith("retention")]
        assert shown == ["retention Rejects: unlimited; oldest rows written in 2026-01"]
        assert (
            "retention Rejects: unlimited; oldest rows written in 2026-01; the settings state 30 days; run `unproxy migrate`"
            in wrong(shorter)
        )

        loss = "the retention removes Rejects: 1 stored rows, written in 2026-01"
        assert run(["--config", str(file), "migrate", "--dry-run"]) == 0
        printed = capsys.readouterr()
        assert loss in printed.err
        assert "retention Rejects: unlimited -> 30 days\n" in printed.out
        assert run(["--config", str(file), "migrate"]) == 2
        assert f"{loss}; run `unproxy migrate --yes`" in capsys.readouterr().err
        assert (
            client.command(
                "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '% TTL %'"
            )
            == 0
        )
        assert run(["--config", str(file), "migrate", "--yes"]) == 0
        assert "retention Rejects: unlimited -> 30 days\n" in capsys.readouterr().out
    assert wrong(shorter) == []


def test_missing_topics_are_found_and_made(settings: Settings) -> None:
    """Topics that are not there are found, and `topics --create` makes them, once."""
    kafka = KafkaSettings.model_validate(
        {"bootstrap": settings.kafka.bootstrap, "topic_prefix": settings.kafka.topic_prefix + "other-"}
    )
    other = settings.model_copy(update={"kafka": kafka})
    wiring.migrate(settings)
    missing = (
        len(TABLE_OF_TOPIC) + 2
    )  # telemetry and indicators; the changelog is called after the group, so it is there

    assert sum("run `unproxy topics --create`" in what for what in wrong(other)) == missing
    with pytest.raises(Fixable, match="has no topic"):
        cluster.partitions_of(other, topic_name(other, REJECTS))
    assert len(cluster.create_topics(other, -1)) == missing
    assert cluster.create_topics(other, -1) == []
    assert wrong(other) == []


def test_unreachable_is_reported_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Kafka and ClickHouse, both are named with what to do, and the exit code is 1."""
    monkeypatch.setattr(cluster, "KAFKA_SECS_MAX", 0.5)
    monkeypatch.setattr(checking, "KAFKA_SECS_MAX", 0.5)
    monkeypatch.setenv("UNPROXY_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("UNPROXY_CLICKHOUSE__URL", "http://127.0.0.1:1")

    assert run(["check"]) == 1
    out = capsys.readouterr().out
    assert "WRONG  kafka: 127.0.0.1:1: no Kafka answers there" in out
    assert "WRONG  clickhouse: http://127.0.0.1:1: no ClickHouse answers there" in out
    for verb in ("migrate", "topics --create"):
        assert run(verb.split()) == 1
        assert "127.0.0.1:1" in capsys.readouterr().err


def test_failed_creation_is_reported(settings: Settings) -> None:
    """A cluster that refuses a topic is quoted."""
    kafka = settings.kafka.model_copy(update={"topic_prefix": "too/odd"})
    with pytest.raises(Failed, match=r"too/odd.* cannot be created"):
        cluster.create_topics(settings.model_copy(update={"kafka": kafka}), -1)
