"""What the embedded engine refuses: requests without its secret, requests of web pages, and all that leaves its folder."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from clickhouse_connect.driver.client import Client

from sinks.clickhouse import connect
from unproxy.local.servers.engine import Engine

REFUSED = 497
"""ACCESS_DENIED: what ClickHouse answers where a grant is missing."""
UNKNOWN_LOGIN = 516
READONLY = 164
CANNOT_OPEN = 76
HARMLESS_FUNCTIONS = {
    **dict.fromkeys(("numbers", "numbers_mt", "zeros", "zeros_mt", "primes"), "make numbers"),
    **dict.fromkeys(("generateSeries", "generate_series", "generateRandom"), "make values"),
    **dict.fromkeys(("values", "SQLStandardValues", "null", "input", "format"), "rows of the statement itself"),
    **dict.fromkeys(("fuzzJSON", "fuzzQuery"), "change texts of the statement"),
    **dict.fromkeys(("view", "viewExplain", "viewIfPermitted", "loop", "merge"), "read tables that may be read anyhow"),
    **dict.fromkeys(("dictionary",), "reads a dictionary, and none can be made"),
    **dict.fromkeys(
        (
            *("mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", "mergeTreeCodecBlockCounts", "mergeTreeIndex"),
            *("mergeTreeProjection", "mergeTreeTextIndex"),
        ),
        "read how a table of the engine is stored",
    ),
    **dict.fromkeys(
        (
            *("prometheusQuery", "prometheusQueryRange", "timeSeriesData", "timeSeriesMetricFamilies"),
            *("timeSeriesMetrics", "timeSeriesSamples", "timeSeriesSelector", "timeSeriesTags"),
        ),
        "read a table of the engine TimeSeries",
    ),
}
OFF = {
    "arrowstream": "reads what the process registers, and it registers nothing",
    "eval": "experimental, and the setting that switches it on cannot be changed",
    "executable": "its folder of programs does not exist, and the kernel lets the process execute none",
    "sqlite": "opens the file before it asks for the grant: the kernel refuses that",
    "python": "switched off in access.xml",
}
S3 = "'http://127.0.0.1:1/bucket/rows.csv'"
ARGUMENTS = (
    *("'http://127.0.0.1:1/'", "'/etc/passwd', 'LineAsString'", "'127.0.0.1:1', 'a', 'b', 'c', 'd'"),
    *("'a', 'TSV', 'a String'", "'a.db', 't'", "'a', 'b', 'c', 'd'", S3, f"{S3}, 'CSV', 'a String'"),
    *("'127.0.0.1:1', 'k', 'k String, v String'", "'http://127.0.0.1:1', '//a', 'b', 'a String'"),
    "'127.0.0.1:1', 'a', 'b', 'c', 'd', 'a String'",
)
OFF_DATABASES = {
    "Backup": "reads backups, and none is reached: see below",
    "DataLakeCatalog": "experimental, and the settings that switch it on cannot be changed",
    "Replicated": "there is no Keeper",
}
NO_CLUSTER = 701
"""CLUSTER_DOESNT_EXIST: no configuration names one."""
HARMLESS_ENGINES = {
    **dict.fromkeys(("Memory", "Null", "Set", "Join", "Log", "StripeLog", "TinyLog"), "in the data folder"),
    **dict.fromkeys(
        ("View", "MaterializedView", "Merge", "Buffer", "Alias", "Loop", "Dictionary"), "over other tables"
    ),
    **dict.fromkeys(("Executable", "ExecutablePool"), "run nothing, as the table function"),
    **dict.fromkeys(("FuzzJSON", "FuzzQuery", "GenerateRandom"), "make values"),
}
OFF_ENGINES = {
    "ArrowStream": "as the table function",
    "EmbeddedRocksDB": "the kernel keeps it in the data folder",
    "FileLog": "there is no folder of users' files",
    "KeeperMap": "there is no Keeper",
    "QueryRunner": "runs statements with the same grants, in the same process",
    "TimeSeries": "experimental, over tables of the engine",
}


@pytest.fixture
def client(engine: Engine, unique: str) -> Iterator[Client]:
    """A client with login in a database of its own, with the table `rows`."""
    with connect(engine.settings("")) as made:
        made.command(f"CREATE DATABASE {unique}")
        made.database = unique
        made.command("CREATE TABLE rows (a String) ENGINE = MergeTree ORDER BY a")
        yield made


def ask(engine: Engine, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> tuple[int, int, str]:
    """Status, ClickHouse's code (0 for none) and text of a request with exactly these headers."""
    lines = [f"{method} {target} HTTP/1.1", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    with socket.create_connection((engine.host, engine.port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    head, _, text = answer.partition("\r\n\r\n")
    named = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    return int(head.split()[1]), int(named.get("X-ClickHouse-Exception-Code", 0)), text


def basic(user: str, password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def code_of(engine: Engine, statement: str, *, method: str = "POST", settings: str = "") -> int:
    """ClickHouse's code for a statement with login; 0 where it was carried out."""
    secret = engine.secret.get_secret_value()
    where = ["Host: localhost", basic("default", secret)]
    if method == "GET":
        return ask(engine, f"/?{settings}&query={quote(statement)}", *where)[1]
    return ask(engine, f"/?{settings}", *where, method="POST", body=statement.encode())[1]


def count(client: Client) -> Any:
    return client.command("SELECT count() FROM rows")


def test_every_request_needs_the_secret(engine: Engine) -> None:
    """In each of the ways that a ClickHouse server takes; only /ping, which reveals nothing, is open."""
    secret = engine.secret.get_secret_value()
    host = "Host: 127.0.0.1"
    right = [
        ("/?query=SELECT+1", basic("default", secret)),
        ("/?query=SELECT+1", "X-ClickHouse-User: default\r\nX-ClickHouse-Key: " + secret),
        ("/?query=SELECT+1", "X-ClickHouse-Key: " + secret),
        (f"/?query=SELECT+1&user=default&password={secret}", "Accept: */*"),
    ]
    wrong = [
        ("/?query=SELECT+1", "Accept: */*"),
        ("/?query=SELECT+1&user=default&password=", "Accept: */*"),
        (f"/?query=SELECT+1&user=other&password={secret}", "Accept: */*"),
        (f"/?query=SELECT+1&password={secret}", basic("default", "")),
        ("/?query=SELECT+1", basic("default", secret[:-1])),
        ("/?query=SELECT+1", basic("default", secret + "x")),
        ("/?query=SELECT+1", basic("DEFAULT", secret)),
        ("/?query=SELECT+1", "Authorization: Basic !"),
        ("/?query=SELECT+1", "Authorization: Bearer " + secret),
        ("/?query=SELECT+1", "X-ClickHouse-Key: ü"),
        ("/nothing", "Accept: */*"),
    ]

    assert [ask(engine, target, host, header)[::2] for target, header in right] == [(200, "1\n")] * len(right)
    assert [ask(engine, target, host, header)[:2] for target, header in wrong] == [(403, UNKNOWN_LOGIN)] * len(wrong)
    assert ask(engine, "/?query=SELECT+1", host, method="POST")[1] == UNKNOWN_LOGIN
    assert ask(engine, "/ping", host) == (200, 0, "Ok.\n")


@pytest.mark.parametrize(
    "sent",
    [
        "Host: evil.example",
        "Host: localhost.evil.example:18123",
        "Host: evil.example@localhost",
        "Host: localhost/evil.example",
        "Host: 192.0.2.1",
        "Host:",
        "Accept: */*",
        "Host: localhost\r\nHost: evil.example",
        "Host: localhost\r\nOrigin: https://evil.example",
        "Host: localhost\r\nOrigin: http://localhost:8000",
        "Host: localhost\r\nOrigin: null",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script",
    ],
)
def test_web_pages_are_refused(engine: Engine, client: Client, sent: str) -> None:
    """A page of another host, or of another port, changes and learns nothing even where its browser sends the login."""
    secret = engine.secret.get_secret_value()
    statement = f"/?readonly=0&query={quote(f'DROP TABLE {client.database}.rows')}"

    for method in ("GET", "POST"):
        assert ask(engine, statement, sent, basic("default", secret), method=method)[:2] == (403, REFUSED)
    assert ask(engine, "/ping", sent)[0] == 403
    assert count(client) == 0


def test_a_browsers_own_window_is_answered(engine: Engine) -> None:
    """What a person types into the address bar is no page's request."""
    secret = engine.secret.get_secret_value()
    sent = [f"Host: localhost:{engine.port}", "Sec-Fetch-Site: none", basic("default", secret)]

    assert ask(engine, "/?query=SELECT+1", *sent)[0] == 200


@pytest.mark.parametrize(
    "settings", ["", "readonly=0", "readonly=2", "readonly=0&readonly=0", "readonly=1", "max_threads=1"]
)
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE {db}.rows",
        "INSERT INTO {db}.rows VALUES ('x')",
        "INSERT INTO {db}.rows SETTINGS readonly=0 VALUES ('x')",
        "INSERT INTO {db}.rows SELECT 'x' SETTINGS readonly = 0",
        "SET readonly = 0",
        "CREATE TABLE {db}.more (a String) ENGINE = Memory",
        "SELECT 1 SETTINGS readonly = 0",
    ],
)
def test_get_only_reads(engine: Engine, client: Client, statement: str, settings: str) -> None:
    """Neither the address nor the statement can take that back."""
    text = statement.format(db=client.database)

    assert code_of(engine, text, method="GET", settings=settings) == READONLY
    assert count(client) == 0


def test_one_statement_a_request(engine: Engine, client: Client) -> None:
    """However far behind the first one the second stands; and it could not leave read-only on GET."""
    far = f"SELECT 1 /*{'x' * 100_000}*/; INSERT INTO {client.database}.rows VALUES ('x')"

    assert code_of(engine, far) == 62
    assert code_of(engine, "SELECT 1; SET readonly = 0; DROP TABLE rows", method="GET") == 62
    assert count(client) == 0


def test_every_table_function_is_refused_or_harmless(engine: Engine, client: Client) -> None:
    """Each of the engine's list, with arguments that would read a file, a web server or another database."""
    names = {name for (name,) in client.query("SELECT name FROM system.table_functions").result_rows}
    codes = {
        name: {code_of(engine, f"SELECT * FROM {name}({arguments})") for arguments in ARGUMENTS}
        for name in names - HARMLESS_FUNCTIONS.keys()
    }
    refused = {name for name, found in codes.items() if found & {REFUSED, NO_CLUSTER}}

    assert {name: found for name, found in codes.items() if 0 in found} == {}
    assert codes.keys() - refused == OFF.keys()
    assert {name for name, found in codes.items() if NO_CLUSTER in found} == {
        name for name in names if "luster" in name
    }


def test_every_table_engine_is_refused_or_stays_in_the_folder(engine: Engine, client: Client) -> None:
    """Each of the engine's list; those of the MergeTree family are what the tables are made of."""
    names = {name for (name,) in client.query("SELECT name FROM system.table_engines").result_rows}
    kinds = {name for name in names if not name.endswith("MergeTree")} - HARMLESS_ENGINES.keys()
    assert kinds >= OFF_ENGINES.keys()
    forms = ("ENGINE = {}", *(f"ENGINE = {{}}({arguments})" for arguments in ARGUMENTS))
    codes = {
        kind: {
            code_of(engine, f"CREATE TABLE {client.database}.{kind}_{at} (a String) {form.format(kind)}")
            for at, form in enumerate(forms)
        }
        for kind in kinds
    }

    assert {kind: found for kind, found in codes.items() if 0 in found} == {}
    assert {kind for kind, found in codes.items() if REFUSED not in found} == OFF_ENGINES.keys()


def test_every_database_engine_is_refused_or_stays_in_the_folder(engine: Engine, client: Client, unique: str) -> None:
    """A database could be a folder, or another server."""
    names = {name for (name,) in client.query("SELECT name FROM system.database_engines").result_rows}
    forms = ("{}", *(f"{{}}({arguments})" for arguments in ARGUMENTS))
    codes = {
        name: {code_of(engine, f"CREATE DATABASE {unique}_x ENGINE = {form.format(name)}") for form in forms}
        for name in names - {"Atomic", "Memory", "Ordinary", "Dictionary"}
    }

    assert {name: found for name, found in codes.items() if 0 in found} == {}
    assert {name for name, found in codes.items() if REFUSED not in found} == OFF_DATABASES.keys()


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE {db}.r (a String) ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a", 1001),
        ("CREATE DATABASE {db}_x ENGINE = Backup('{db}', File('{kept}'))", REFUSED),
        ("CREATE DATABASE {db}_x ENGINE = Backup('{db}', Disk('default', 'x'))", REFUSED),
        ("SET allow_database_iceberg = 1", 452),
        ("SET allow_experimental_database_iceberg = 1", 452),
        ("SET allow_database_unity_catalog = 1", 452),
        ("SET allow_database_glue_catalog = 1", 452),
        ("SET allow_experimental_database_hms_catalog = 1", 452),
        ("SET allow_experimental_database_paimon_rest_catalog = 1", 452),
        ("SET allow_experimental_eval_table_function = 1", 452),
        ("SELECT 'x' INTO OUTFILE '{out}'", CANNOT_OPEN),
        ("SELECT 'x' INTO OUTFILE '{kept}' APPEND FORMAT TSVRaw", CANNOT_OPEN),
        ("SELECT 'x' INTO OUTFILE '{kept}' TRUNCATE", CANNOT_OPEN),
        ("(SELECT 'x') /* a */ INTO /* b */ OUTFILE '{out}'", CANNOT_OPEN),
        ("SELECT 'x' AS x FORMAT Protobuf SETTINGS output_format_schema = '{out}'", CANNOT_OPEN),
        ("INSERT INTO {db}.rows FROM INFILE '{kept}' FORMAT LineAsString", CANNOT_OPEN),
        ("SELECT file('{kept}')", CANNOT_OPEN),
        ("SELECT file('/proc/1/environ')", CANNOT_OPEN),
        ("INSERT INTO FUNCTION file('{out}', 'TSV', 'a String') SELECT 'x'", REFUSED),
        ("INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'TSV', 'a String') SELECT 'x'", REFUSED),
        ("SELECT * FROM (SELECT * FROM file('{kept}', 'LineAsString'))", REFUSED),
        ("SELECT (SELECT count() FROM url('http://127.0.0.1:1/', 'LineAsString'))", REFUSED),
        ("CREATE VIEW {db}.v AS SELECT * FROM file('{kept}', 'LineAsString')", REFUSED),
        ("CREATE TABLE {db}.c AS file('{kept}', 'LineAsString')", REFUSED),
        ("SELECT * FROM default.`{kept}`", REFUSED),
        ("BACKUP TABLE {db}.rows TO File('{out}')", REFUSED),
        ("BACKUP TABLE {db}.rows TO Disk('default', 'out')", REFUSED),
        ("RESTORE TABLE {db}.rows FROM File('{kept}')", REFUSED),
        ("CREATE FUNCTION f AS (x) -> x", REFUSED),
        ("CREATE USER u IDENTIFIED WITH no_password", REFUSED),
        ("CREATE NAMED COLLECTION c AS url = 'http://127.0.0.1:1/'", REFUSED),
        ("GRANT ALL ON *.* TO default", REFUSED),
        ("SYSTEM SHUTDOWN", REFUSED),
        ("SYSTEM RELOAD CONFIG", 1),
        ("SYSTEM FLUSH LOGS", REFUSED),
        (
            "CREATE DICTIONARY {db}.d (a String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV')) "
            "LAYOUT(COMPLEX_KEY_DIRECT())",
            REFUSED,
        ),
        (
            "CREATE TABLE {db}.w (a String) ENGINE = MergeTree ORDER BY a "
            "SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')",
            452,
        ),
        ("ALTER TABLE {db}.rows MODIFY SETTING storage_policy = 'other'", 452),
        ("SET allow_python_table_function = 1", 392),
    ],
)
def test_nothing_leaves_the_folder(engine: Engine, client: Client, tmp_path: Path, statement: str, code: int) -> None:
    """Neither a file nor another server can be read or written, by POST with the secret as little as by GET."""
    kept, out = tmp_path / "kept", tmp_path / "out"
    kept.write_text("mine\n")
    kept.chmod(0o666)
    tmp_path.chmod(0o777)
    text = statement.format(db=client.database, kept=kept, out=out)

    assert code_of(engine, text) == code
    assert code_of(engine, text, method="GET") in (code, READONLY)
    assert kept.read_text() == "mine\n"
    assert not out.exists()
    assert count(client) == 0


def test_programs_are_not_run(engine: Engine, client: Client) -> None:
    """A table over a program can be made, and not be read."""
    client.command("CREATE TABLE programs (a String) ENGINE = Executable('/usr/bin/id', 'TSV')")

    assert code_of(engine, f"SELECT * FROM {client.database}.programs") == 1


def test_the_kernel_confines_the_process(engine: Engine) -> None:
    """What no grant refuses the kernel does: all threads are confined, and what they could reveal of us is little."""
    threads = list(Path(f"/proc/{engine.pid}/task").iterdir())
    environment = psutil.Process(engine.pid).environ()

    assert threads
    assert all("NoNewPrivs:\t1" in (thread / "status").read_text() for thread in threads)
    assert "Landlock" not in engine.log_file.read_text()
    assert not environment.keys() - {
        *("PATH", "HOME", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "TMPDIR",
    }


def test_only_its_owner_reads_the_secret(engine: Engine) -> None:
    """It is in a file for the owner alone, and neither in a command line, nor in an environment, nor in a log."""
    secret = engine.secret.get_secret_value()
    process = psutil.Process(engine.pid)
    file = engine.folder / "secret"

    assert len(secret) >= 40
    assert file.read_text() == secret
    assert file.stat().st_mode & 0o777 == 0o600
    assert engine.folder.stat().st_mode & 0o777 == 0o700
    assert secret not in " ".join([*process.cmdline(), *process.environ().values(), engine.log_file.read_text()])


def test_modules_of_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a configuration of the engine's that lies there."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("psutil", "logging", "chdb", "unproxy"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    (here / "config.xml").write_text("<clickhouse><users_config>users.xml</users_config></clickhouse>")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    engine = Engine(tmp_path / "clickhouse")
    engine.start()
    try:
        assert code_of(engine, "SELECT 1") == 0
    finally:
        engine.stop()

    assert not (tmp_path / "run").exists()
