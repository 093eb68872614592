"""The embedded ClickHouse engine as its clients meet it."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # it has none
import psutil
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from unproxy.local.servers.child import module_command
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import EmbeddedError, free_port, port_is_free

TABLE = """
CREATE TABLE rows (n UInt32, text String) ENGINE = MergeTree ORDER BY n
SETTINGS non_replicated_deduplication_window = 100
"""
KQL = {"dialect": "kusto", "allow_experimental_kusto_dialect": "1", "default_format": "JSONEachRow"}


def connect(engine: Engine, database: str = "") -> Client:
    # Without a session, as the client runs only one statement at a time in one.
    return clickhouse_connect.get_client(
        host=engine.host,
        port=engine.port,
        password=engine.secret.get_secret_value(),
        database=database or "default",
        autogenerate_session_id=False,
    )


def login(engine: Engine) -> str:
    """The header of a client that knows the secret."""
    pair = f"default:{engine.secret.get_secret_value()}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.fixture
def client(engine: Engine, unique: str) -> Iterator[Client]:
    """A client of the run's engine in a database of its own, with the table `rows`."""
    with connect(engine) as admin:
        admin.command(f"CREATE DATABASE {unique}")
    with connect(engine, unique) as made:
        made.command(TABLE)
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Engine]:
    """An engine of this test alone, running."""
    server = Engine(tmp_path / "clickhouse")
    server.start()
    yield server
    server.stop()


def ask(
    engine: Engine, path: str, body: bytes | Iterator[bytes] = b"", method: str = "POST", **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of an HTTP request with login."""
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=20)
    try:
        named = {"Authorization": login(engine), **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, named, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.headers)
    finally:
        connection.close()


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n":%d,"text":"line %d"}\n' % (n, n) for n in numbers)


def numbers(client: Client) -> list[int]:
    return [row[0] for row in client.query("SELECT n FROM rows ORDER BY n").result_rows]


def until_running(client: Client, text: str) -> None:
    """Wait until a statement with this text is under way."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if client.command(
            f"SELECT count() FROM system.processes WHERE query LIKE '%{text}%' AND query NOT LIKE '%LIKE%'"
        ):
            return
    raise AssertionError(f"{text} never ran")


def test_ping(engine: Engine) -> None:
    """Monitors find it alive."""
    assert ask(engine, "/ping", method="GET")[:2] == (200, "Ok.\n")
    assert ask(engine, "/", method="GET")[:2] == (200, "Ok.\n")
    assert ask(engine, "/nothing", method="GET")[0] == 404


def test_client_dialogue(client: Client) -> None:
    """The ordinary client's ways of asking and inserting work, in the database it named."""
    client.insert("rows", [[1, "one"], [2, "zwei ü"]], column_names=["n", "text"])
    summary = client.raw_insert("rows", insert_block=lines(3), fmt="JSONEachRow")

    assert summary.written_rows == 1
    assert client.command("SELECT currentDatabase()") == client.database
    assert client.query("SELECT text FROM rows WHERE n = 2").result_rows == [("zwei ü",)]
    assert client.query("SELECT count() AS c FROM rows").column_names == ("c",)
    assert client.raw_query("SELECT n FROM rows WHERE n > 1 ORDER BY n", fmt="CSV") == b"2\n3\n"
    assert client.command("INSERT INTO rows SELECT 4, 'four'") is not None
    assert numbers(client) == [1, 2, 3, 4]


@pytest.mark.parametrize("text", ["it's", "a\nb\t\\", "ü€", "x" * 20_000], ids=["quote", "control", "unicode", "long"])
def test_parameters(client: Client, text: str) -> None:
    """Query parameters arrive as they were given; long ones come as a form."""
    found = client.query("SELECT {t:String}, {n:Int32} + 1", parameters={"t": text, "n": 41}).result_rows

    assert found == [(text, 42)]


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
def test_compressed_inserts(client: Client, compression: str | None) -> None:
    """Rows arrive whatever they were compressed with, bytes that are no UTF-8 included."""
    plain = lines(*range(5000)) + b'{"n":5000,"text":"\xff\xfe"}\n'
    packed = {None: bytes, "gzip": gzip.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress}[compression](plain)
    client.raw_insert("rows", insert_block=packed, fmt="JSONEachRow", compression=compression)

    assert numbers(client) == list(range(5001))
    assert client.command("SELECT hex(text) FROM rows WHERE n = 5000") == "FFFE"


def test_chunked_body(engine: Engine, client: Client) -> None:
    """A body without a length is data all the same."""
    address = f"/?database={client.database}&query=INSERT%20INTO%20rows%20FORMAT%20JSONEachRow"

    assert ask(engine, address, iter([lines(1), lines(2, 3)]))[0] == 200
    assert numbers(client) == [1, 2, 3]


def test_statement_and_data_in_pieces(engine: Engine, client: Client) -> None:
    """What the address begins the body may go on with, as at a server."""
    status, text, headers = ask(
        engine, f"/?database={client.database}&query=SELECT%201%20AS%20x,", b"2 AS y FORMAT JSONEachRow"
    )

    assert (status, text) == (200, '{"x":1,"y":2}\n')
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert json.loads(headers["X-ClickHouse-Summary"])["read_rows"] == "1"


@pytest.mark.parametrize(
    ("statement", "code", "status"),
    [
        ("SELECT nothing", 47, 404),
        ("SELECT * FROM system.nothing", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("", 62, 400),
    ],
)
def test_errors(engine: Engine, statement: str, code: int, status: int) -> None:
    """A refusal carries the status and the code that a server gives, and the connection stays usable."""
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=20)
    connection.request("POST", "/", statement, {"Authorization": login(engine)})
    response = connection.getresponse()
    text = response.read().decode()
    connection.request("POST", "/", "SELECT 1", {"Authorization": login(engine)})
    after = connection.getresponse().read()
    connection.close()

    assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert "(version " in text
    assert after == b"1\n"


def test_client_sees_the_code(client: Client) -> None:
    """The client raises its own error with ClickHouse's code and name."""
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM nothing")

    assert (caught.value.code, caught.value.name) == (60, "UNKNOWN_TABLE")


def test_unknown_setting_and_database(engine: Engine) -> None:
    """Names that do not exist are refused, not dropped."""
    assert ask(engine, "/?no_such_setting=1", b"SELECT 1")[2]["X-ClickHouse-Exception-Code"] == "115"
    assert ask(engine, "/?odd%20name=1", b"SELECT 1")[2]["X-ClickHouse-Exception-Code"] == "115"
    assert ask(engine, "/?database=nowhere", b"SELECT 1")[2]["X-ClickHouse-Exception-Code"] == "81"


def test_bad_row_inserts_nothing(client: Client) -> None:
    """An insert lands whole or not at all."""
    with pytest.raises(DatabaseError, match="Cannot parse"):
        client.raw_insert("rows", insert_block=lines(*range(20_000)) + b'{"n":"x"}\n', fmt="JSONEachRow")

    assert numbers(client) == []


def test_client_gone_in_the_middle(engine: Engine, client: Client) -> None:
    """Half a body is no insert."""
    head = (
        f"POST /?database={client.database}&query=INSERT+INTO+rows+FORMAT+JSONEachRow HTTP/1.1\r\nHost: localhost\r\n"
    )
    head += f"Authorization: {login(engine)}\r\n"
    with socket.create_connection((engine.host, engine.port)) as gone:
        gone.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n" + lines(1, 2))
        gone.shutdown(socket.SHUT_WR)
        answer = gone.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert numbers(client) == []


def test_wrong_encoding(engine: Engine) -> None:
    """A body that does not match its header is refused."""
    assert ask(engine, "/", b"SELECT 1", Content_Encoding="zstd")[0] == 400
    assert ask(engine, "/?decompress=1", b"SELECT 1")[0] == 501


def test_get_only_reads(engine: Engine, client: Client) -> None:
    """GET changes nothing."""
    address = f"/?database={client.database}&query=INSERT+INTO+rows+VALUES+(1,'x')"

    assert ask(engine, address, method="GET")[2]["X-ClickHouse-Exception-Code"] == "164"
    assert numbers(client) == []


def test_token_drops_a_retried_insert(client: Client) -> None:
    """The same token twice is one insert, whatever is in it; without one both count."""
    token = {"insert_deduplication_token": "batch 1"}
    big = lines(*range(70_000))
    client.raw_insert("rows", insert_block=big, fmt="JSONEachRow", settings=token)
    client.raw_insert("rows", insert_block=zstd.compress(big), fmt="JSONEachRow", settings=token, compression="zstd")
    client.raw_insert(
        "rows", insert_block=lines(90_000), fmt="JSONEachRow", settings={"insert_deduplication_token": "2"}
    )

    assert client.command("SELECT count() FROM rows") == 70_001


def test_settings_do_not_leak(client: Client) -> None:
    """A setting counts for its own request, however many follow on the same connections."""
    usual = client.command("SELECT getSetting('max_block_size')")
    with ThreadPoolExecutor(8) as pool:
        given = [{"max_block_size": 1000 + i} if i % 2 else {} for i in range(80)]
        found = list(pool.map(lambda s: client.command("SELECT getSetting('max_block_size')", settings=s), given))

    assert found == [s.get("max_block_size", usual) for s in given]


def test_kql_for_one_request(client: Client) -> None:
    """KQL works by settings in the address, and leaves the next request its SQL."""
    client.raw_insert("rows", insert_block=lines(1, 2, 3), fmt="JSONEachRow")

    def ask_one(i: int) -> bytes:
        if i % 2:
            return client.raw_query("rows | where n > 1 | project n | order by n asc", settings=KQL)
        return client.raw_query("SELECT n FROM rows WHERE n > 2", fmt="JSONEachRow")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask_one, range(40)))
    assert set(found[1::2]) == {b'{"n":2}\n{"n":3}\n'}
    assert set(found[0::2]) == {b'{"n":3}\n'}
    with pytest.raises(DatabaseError):
        client.raw_query("rows | where n > 1")


def test_slow_query_delays_no_other(client: Client) -> None:
    """Others are answered while a query runs."""
    slow = threading.Thread(target=client.command, args=("SELECT sleep(2)",))
    slow.start()
    until_running(client, "sleep(2)")
    answer = client.command("SELECT 1")

    assert answer == 1
    assert slow.is_alive()
    slow.join()


def test_insert_that_fails_at_its_end(client: Client) -> None:
    """What could be read and not be stored is an error with ClickHouse's code; the library itself does not report it."""
    client.command("ALTER TABLE rows MODIFY SETTING parts_to_delay_insert = 0, parts_to_throw_insert = 1")
    client.command("SYSTEM STOP MERGES rows")
    client.raw_insert("rows", insert_block=lines(1), fmt="JSONEachRow")
    for _ in range(2):
        with pytest.raises(DatabaseError, match="TOO_MANY_PARTS") as refused:
            client.raw_insert("rows", insert_block=lines(2), fmt="JSONEachRow")

    assert refused.value.code == 252
    assert numbers(client) == [1]


def test_insert_that_fails_beside_other_questions(engine: Engine, client: Client) -> None:
    """The error of another query is not the insert's error: the rows of the insert do not count as bad."""
    client.command("ALTER TABLE rows MODIFY SETTING parts_to_delay_insert = 0, parts_to_throw_insert = 1")
    client.command("SYSTEM STOP MERGES rows")
    client.raw_insert("rows", insert_block=lines(1), fmt="JSONEachRow")
    done = threading.Event()

    def ask_nonsense() -> None:
        while not done.is_set():
            ask(engine, "/", b"SELECT toInt32('x')")

    beside = threading.Thread(target=ask_nonsense)
    beside.start()
    try:
        for _ in range(20):
            with pytest.raises(DatabaseError) as refused:
                client.raw_insert("rows", insert_block=lines(2), fmt="JSONEachRow")
            assert refused.value.code == 252
    finally:
        done.set()
        beside.join()


def test_killed_and_started_again(own: Engine) -> None:
    """Acknowledged rows and tokens survive kill -9; the address stays."""
    token = {"insert_deduplication_token": "batch 1"}
    address = own.url
    with connect(own) as admin:
        admin.command("CREATE DATABASE own")
    with connect(own, "own") as client:
        client.command(TABLE)
        client.raw_insert("rows", insert_block=lines(1, 2), fmt="JSONEachRow", settings=token)
    killed = psutil.Process(own.pid)
    killed.kill()
    killed.wait(10)
    own.start()

    assert own.url == address
    with connect(own, "own") as client:
        client.raw_insert("rows", insert_block=lines(1, 2), fmt="JSONEachRow", settings=token)
        client.raw_insert("rows", insert_block=lines(3), fmt="JSONEachRow")
        assert numbers(client) == [1, 2, 3]


def test_left_running(tmp_path: Path) -> None:
    """An engine whose starter died is found, taken over and ended by the next one."""
    folder = tmp_path / "clickhouse"
    script = "import pathlib, sys, unproxy.local.servers.engine as e; e.Engine(pathlib.Path(sys.argv[1])).start()"
    subprocess.run([sys.executable, "-c", script, folder], check=True, capture_output=True, timeout=30)
    left = int((folder / "clickhouse.pid").read_text())
    engine = Engine(folder)
    engine.start()

    assert engine.pid == left
    assert ask(engine, "/", b"SELECT 1")[:2] == (200, "1\n")
    engine.stop()
    assert not psutil.pid_exists(left)


def test_taken_over(own: Engine) -> None:
    """A second start in the folder has the same process; a second process is refused with the reason."""
    other = Engine(own.folder)
    other.start()
    second = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "unproxy.local.servers.engine",
            "--folder",
            str(own.folder),
            "--port",
            str(free_port()),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (other.pid, other.url) == (own.pid, own.url)
    assert second.returncode == 2
    assert second.stderr.strip().endswith("is open in another process; ask that one, or end it first")


def test_port_is_taken(tmp_path: Path) -> None:
    """A port in use by another process is an error that names it, from the class and from the process."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} for the embedded clickhouse is taken"):
            Engine(tmp_path, port=port).start()
        command = module_command("unproxy.local.servers.engine", "--folder", str(tmp_path / "x"), "--port", str(port))
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 2
    assert f"port {port}: cannot be listened on" in done.stderr


def test_graceful_end(own: Engine) -> None:
    """Asked to end, it answers what is under way first, and then leaves its port."""
    answers: list[object] = []
    with connect(own) as client:
        slow = threading.Thread(target=lambda: answers.append(client.command("SELECT sleep(0.7) + 7")))
        slow.start()
        until_running(client, "sleep(0.7)")
        process = psutil.Process(own.pid)
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
        slow.join()

    assert answers == [7]
    assert code == 0
    assert port_is_free(own.port)


def test_end_does_not_wait_for_clients(own: Engine) -> None:
    """Asked to end, neither an idle connection nor a long query holds it for two seconds; what was written is kept."""
    failures: list[Exception] = []

    def ask_long() -> None:
        try:
            ask(own, "/?max_block_size=1", b"SELECT sleep(3) FROM numbers(20)")
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    with connect(own) as admin:
        admin.command("CREATE DATABASE own")
    with connect(own, "own") as client:
        client.command(TABLE)
        client.raw_insert("rows", insert_block=lines(1, 2), fmt="JSONEachRow")
        idle = http.client.HTTPConnection(own.host, own.port, timeout=20)
        idle.request("GET", "/ping")
        idle.getresponse().read()
        half = socket.create_connection((own.host, own.port))
        head = f"POST /?query=SELECT+1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {login(own)}\r\n"
        half.sendall(head.encode() + b"Content-Length: 10\r\n\r\n")
        slow = threading.Thread(target=ask_long)
        slow.start()
        until_running(client, "sleep(3)")
        process = psutil.Process(own.pid)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
        took = time.monotonic() - asked
        slow.join(10)
        idle.close()
        half.close()
    own.start()

    assert (code, len(failures)) == (0, 1)
    assert took < 2
    with connect(own, "own") as client:
        assert numbers(client) == [1, 2]


def test_loopback_only(own: Engine) -> None:
    """It is not reachable from outside."""
    listening = [c for c in psutil.Process(own.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]

    assert {(c.laddr.ip, c.laddr.port) for c in listening} == {("127.0.0.1", own.port)}
