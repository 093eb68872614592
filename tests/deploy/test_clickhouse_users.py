"""ClickHouse's users on the real engine: each does its whole work with its grants, and is refused everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.ddl import VERSIONS, identity, migrations
from schemas.joined_tables import JOINED
from schemas.settings import PREFIX
from schemas.tables import TABLES
from sinks.clickhouse import ClickHouseSink, connect
from tests.deploy.engine_as import MIGRATOR, READER, SUPER, USERS, WRITER, EngineAs
from unproxy.cli import run
from unproxy.local.servers.engine import Engine

DATABASE = "unproxy"
ACCESS_DENIED, READONLY, CONSTRAINT, NO_SUCH_TABLES = 497, 164, 452, 636


@contextmanager
def engine_as(folder: Path, user: str) -> Iterator[Engine]:
    """The engine while the block runs."""
    engine = EngineAs(folder, user)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def name(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    """Have commands ask this engine."""
    patch.setenv(f"{PREFIX}CLICKHOUSE__URL", engine.url)
    patch.setenv(f"{PREFIX}CLICKHOUSE__PASSWORD", engine.secret.get_secret_value())


@contextmanager
def client_of(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings(DATABASE)) as client:
        yield client


ROLLUPS = ("FirstSeenDomains", "DestinationsByProcessDay", "DomainRarity", "BeaconCandidates")
HISTORIES = ("DeviceNetworkEvents_history",)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data whose tables the migrator made by `unproxy migrate`; a version of a row is in each."""
    folder = tmp_path_factory.mktemp("clickhouse-users")
    with engine_as(folder, MIGRATOR) as engine, pytest.MonkeyPatch.context() as patch:
        name(engine, patch)
        assert run(["migrate"]) == 0
        assert run(["migrate", "--dry-run"]) == 0
    with engine_as(folder, SUPER) as engine, client_of(engine) as client:
        for view in (*TABLES, *ROLLUPS, *HISTORIES):
            # To the library, `default` made them.
            client.command(f"ALTER TABLE {DATABASE}.{view} MODIFY DEFINER = {MIGRATOR} SQL SECURITY DEFINER")
    return folder


@pytest.fixture(scope="module")
def filled(migrated: Path) -> Path:
    """The same with a row in each table, which the sink wrote as the writer."""
    with engine_as(migrated, WRITER) as engine:
        sink = ClickHouseSink(engine.settings(DATABASE))
        for table in TABLES:
            row = json.dumps(dict.fromkeys(identity(table)[0], f"{table}-1")).encode()
            sink.write(table, [row], f"{table}-1")
            sink.write(table, [row], f"{table}-1", again=True)
        sink.close()
    return migrated


def refused(client: Client, statement: str) -> int:
    """The code with which the engine refuses a statement; 0 where it does not."""
    try:
        client.command(statement)
    except ClickHouseError as error:
        return int(getattr(error, "code", 0) or -1)
    return 0


def test_views_have_their_makers_rights(migrated: Path) -> None:
    """Every view reads its table with the rights of who migrated, and no table stands open beside it."""
    with engine_as(migrated, SUPER) as engine, client_of(engine) as client:
        found = client.query(f"SELECT name, definer FROM system.tables WHERE database = '{DATABASE}'").result_rows

    assert {name: definer for name, definer in found if definer} == dict.fromkeys(
        [*TABLES, *ROLLUPS, *HISTORIES], MIGRATOR
    )
    assert {name for name, definer in found if not definer} == {f"{t}{VERSIONS}" for t in TABLES} | {
        "schema_migrations",
        *JOINED,
    }
    assert migrations()[-1].number >= 5


QUESTIONS = (
    ("query", f"select count() from {DATABASE}.DeviceNetworkEvents where DeviceId = 'DeviceNetworkEvents-1'"),
    ("query", "--kql", "DeviceNetworkEvents | take 10"),
    ("query", "--format", "csv", "select * from BlockAlerts"),
    ("timeline", "DeviceNetworkEvents-1"),
    ("coverage", "DeviceNetworkEvents-1"),
    ("event", "DeviceNetworkEvents-1"),
    ("alerts",),
    ("rejects",),
)


def test_reader_asks_all_questions(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that only asks is answered."""
    with engine_as(filled, READER) as engine:
        name(engine, monkeypatch)
        answers = {words: run(list(words)) for words in QUESTIONS}

    assert answers == dict.fromkeys(QUESTIONS, 0), capsys.readouterr().err


OUTSIDE = (
    "SELECT * FROM file('/etc/hostname', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "CREATE DATABASE mine",
    "CREATE USER mine",
    "SELECT * FROM system.users",
    "SYSTEM FLUSH LOGS",
)
"""Files, networks, programs, rights and the server itself are no user's."""
REFUSED = {
    READER: {
        **{f"SELECT count() FROM {DATABASE}.{table}{VERSIONS}": ACCESS_DENIED for table in TABLES},
        **{f"INSERT INTO {DATABASE}.{table}{VERSIONS} VALUES ()": ACCESS_DENIED for table in TABLES},
        f"SELECT * FROM {DATABASE}.schema_migrations": ACCESS_DENIED,
        f"SELECT * FROM merge('{DATABASE}', '{VERSIONS}$')": NO_SUCH_TABLES,
        "SELECT * FROM executable('x', 'TSV', 'a Int8')": ACCESS_DENIED,
        "CREATE TEMPORARY TABLE mine (a Int8)": ACCESS_DENIED,
        f"CREATE VIEW {DATABASE}.mine AS SELECT 1": ACCESS_DENIED,
        f"ALTER TABLE {DATABASE}.Rejects MODIFY SQL SECURITY INVOKER": ACCESS_DENIED,
        f"DROP VIEW {DATABASE}.Rejects": ACCESS_DENIED,
        "SELECT 1 SETTINGS readonly = 0": READONLY,
        "SELECT 1 SETTINGS max_memory_usage = 0": CONSTRAINT,
        "SELECT 1 SETTINGS max_execution_time = 0": CONSTRAINT,
        "SELECT 1 SETTINGS max_threads = 64": CONSTRAINT,
    },
    WRITER: dict.fromkeys(
        [
            f"SELECT count() FROM {DATABASE}.DeviceNetworkEvents",
            f"ALTER TABLE {DATABASE}.Rejects{VERSIONS} DELETE WHERE 1",
            f"ALTER TABLE {DATABASE}.Rejects{VERSIONS} DROP PARTITION 202611",
            f"TRUNCATE TABLE {DATABASE}.Rejects{VERSIONS}",
            f"DROP TABLE {DATABASE}.Rejects{VERSIONS}",
            f"INSERT INTO {DATABASE}.schema_migrations (number) VALUES (99)",
            f"CREATE TABLE {DATABASE}.mine (a Int8) ENGINE = ReplacingMergeTree ORDER BY a",
        ],
        ACCESS_DENIED,
    ),
    MIGRATOR: dict.fromkeys(
        [
            f"DROP DATABASE {DATABASE}",
            f"DROP TABLE {DATABASE}.Rejects{VERSIONS}",
            f"TRUNCATE TABLE {DATABASE}.Rejects{VERSIONS}",
            f"GRANT SELECT ON {DATABASE}.Rejects TO {READER}",
            f"CREATE VIEW {DATABASE}.mine DEFINER = {WRITER} SQL SECURITY DEFINER AS SELECT 1",
        ],
        ACCESS_DENIED,
    ),
}


@pytest.mark.parametrize("user", REFUSED)
def test_the_rest_is_refused(filled: Path, user: str) -> None:
    """A reader sees no table behind a view and lifts no limit; a writer only adds rows; a migrator drops no table."""
    wanted = {**REFUSED[user], **dict.fromkeys(OUTSIDE, ACCESS_DENIED)}
    with engine_as(filled, user) as engine, client_of(engine) as client:
        found = {statement: refused(client, statement) for statement in wanted}

    assert found == wanted


def test_migrator_looks_after_damaged_parts(filled: Path) -> None:
    """What `unproxy detach-damaged` asks and does is the migrator's right."""
    table = f"{DATABASE}.Rejects{VERSIONS}"
    statements = (
        f"CHECK TABLE {table}",
        "SELECT name FROM system.parts",
        "SELECT name FROM system.detached_parts",
        "SELECT table FROM system.mutations",
        f"ALTER TABLE {table} MODIFY TTL toStartOfMonth(IngestedAt) + INTERVAL 1 MONTH + INTERVAL 90 DAY",
        f"ALTER TABLE {table} MATERIALIZE TTL",
        f"ALTER TABLE {table} DETACH PARTITION 190001",
        f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 10000",
    )
    with engine_as(filled, MIGRATOR) as engine, client_of(engine) as client:
        assert {statement: refused(client, statement) for statement in statements} == dict.fromkeys(statements, 0)


def test_the_file_names_every_table() -> None:
    """A table that a later version adds is not forgotten here."""
    text = USERS.read_text(encoding="utf-8")

    for table in TABLES:
        assert f"GRANT SELECT ON {DATABASE}.{table}<" in text
        assert f"GRANT SELECT, INSERT ON {DATABASE}.{table}{VERSIONS}<" in text
