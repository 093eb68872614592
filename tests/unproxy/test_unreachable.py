"""Kafka or ClickHouse away, silent, or lost on the way: each command reports it in one line and ends on request."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from schemas.settings import Settings
from schemas.topics import topics
from unproxy import wiring
from unproxy.cli import EXIT_INTERRUPTED
from unproxy.errors import Failed
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine
from unproxy.query.client import Client, of_settings

ROOT = Path(__file__).parents[2]
SECS_MAX = 60.0
END_SECS_MAX = 10.0
"""A second where nothing else runs; what would end a command by itself takes several times as long."""
AGAIN_SECS = 3.0
NO_LISTENER = "127.0.0.1:1"
"""An address without a listener."""
AT_ONCE = 8


Place = Callable[[], AbstractContextManager[tuple[str, threading.Event]]]


class Verb(NamedTuple):
    """A command line, and what it prints when no server answers."""

    arguments: str
    expected: str


ONE_SHOTS = (
    Verb("query SELECT-1", "set clickhouse.url"),
    Verb("timeline dev-b", "set clickhouse.url"),
    Verb("event abcdefgh", "set clickhouse.url"),
    Verb("alerts", "set clickhouse.url"),
    Verb("rejects", "set clickhouse.url"),
    Verb("rejects --replay", "set kafka.bootstrap"),
    Verb("detach-damaged", "set clickhouse.url"),
    Verb("indicators add evil.example", "set kafka.bootstrap"),
    Verb("indicators list", "set kafka.bootstrap"),
    Verb("suppress list", "set kafka.bootstrap"),
    Verb("migrate", "set clickhouse.url"),
    Verb("topics --create", "set kafka.bootstrap"),
    Verb("check", "set clickhouse.url"),
)
SERVICES = (
    Verb("produce --follow sockets:sockets.jsonl", "set kafka.bootstrap"),
    Verb("produce sockets:sockets.jsonl", "set kafka.bootstrap"),
    Verb("worker", "set kafka.bootstrap"),
    Verb("sink", "set kafka.bootstrap"),
    Verb("alerts --follow", "set kafka.bootstrap"),
    Verb("forward", "set kafka.bootstrap"),
)


class Ended(NamedTuple):
    """A command that ended."""

    verb: str
    code: int
    text: str
    """Both outputs."""
    secs: float
    """From the signal to the end."""


class Running:
    """A command as a process of its own, in a folder of its own."""

    def __init__(
        self, folder: Path, verb: Verb, kafka: str, clickhouse: str, answer_secs_max: int = 1, password: str = ""
    ) -> None:
        folder.mkdir()
        lines = gzip.decompress((ROOT / "unproxy/samples/sockets.jsonl.gz").read_bytes())
        (folder / "sockets.jsonl").write_bytes(lines)
        self.verb = verb
        self._log = folder / "log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "UNPROXY_KAFKA__BOOTSTRAP": kafka,
            "UNPROXY_CLICKHOUSE__URL": clickhouse,
            "UNPROXY_CLICKHOUSE__PASSWORD": password,
            "UNPROXY_CLICKHOUSE__TIMEOUT_SECS": str(answer_secs_max),
            "UNPROXY_WORKER__SESSION_TIMEOUT_SECS": "6",
            "UNPROXY_FORWARD__URL": f"http://{NO_LISTENER}",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "unproxy", *verb.arguments.split()],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def until_it_prints(self, words: str) -> None:
        """Wait for words, as long as it lives."""
        until(lambda: words in self.text or self.process.poll() is not None, f"{self.verb.arguments}: {words}")
        assert words in self.text

    def end(self, how: signal.Signals | None = None) -> Ended:
        """Wait for its end, after a signal if one is given."""
        asked = time.monotonic()
        if how:
            self.process.send_signal(how)
        code = self.process.wait(SECS_MAX)
        return Ended(self.verb.arguments, code, self.text, time.monotonic() - asked)

    def interrupt(self) -> Ended:
        """Ctrl-C, and again where nothing happens, as a person does.

        Python handles a signal that comes right before a blocking call only when the call returns; one more that comes
        while Python ends kills the process.
        """
        asked = time.monotonic()
        code: int | None = None
        pressed = 0
        while code is None:
            assert time.monotonic() - asked < SECS_MAX, self.text
            self.process.send_signal(signal.SIGINT)
            pressed += 1
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(AGAIN_SECS)
        if pressed > 1 and code == -signal.SIGINT:
            code = EXIT_INTERRUPTED
        return Ended(self.verb.arguments, code, self.text, time.monotonic() - asked)

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()


def until(fact: Callable[[], bool], what: str) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + SECS_MAX
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {SECS_MAX:g} s"
        pause.wait(0.05)


@contextmanager
def silent() -> Iterator[tuple[str, threading.Event]]:
    """A place that takes connections and never answers, and whether there was one."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as held:

        def take() -> None:
            with suppress(OSError):
                while True:
                    held.enter_context(server.accept()[0])
                    asked.set()

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def refusing() -> Iterator[tuple[str, threading.Event]]:
    """An address without a listener."""
    yield NO_LISTENER, threading.Event()


@contextmanager
def hanging_up() -> Iterator[tuple[str, threading.Event]]:
    """A place that takes connections, reads the question and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        connection.recv(65_536)

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", threading.Event()
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def running(
    folder: Path, verb: Verb, kafka: str, clickhouse: str, answer_secs_max: int = 1, password: str = ""
) -> Iterator[Running]:
    """A command that ends with the test."""
    made = Running(folder, verb, kafka, clickhouse, answer_secs_max, password)
    try:
        yield made
    finally:
        made.kill()


def in_parallel(work: Callable[[Path, Place, Verb], Ended], cases: Sequence[tuple[Place, Verb]]) -> list[Ended]:
    """The work for each case, some at a time."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        folders = [Path(folder) / str(number) for number in range(len(cases))]
        return list(pool.map(work, folders, *zip(*cases, strict=True)))


def error_lines(ended: Ended) -> list[str]:
    """The error lines of a command that failed, without its findings."""
    return [line for line in ended.text.splitlines() if line.startswith("unproxy: ")]


PLACES = (silent, refusing, hanging_up)


def test_commands_state_what_to_do() -> None:
    """A command whose server is away fails with one line that names the address and what to do."""

    def work(folder: Path, place: Place, verb: Verb) -> Ended:
        with place() as (address, _), running(folder, verb, address, f"http://{address}") as command:
            ended = command.end()
            assert address in ended.text
            return ended

    # Those first that wait longest.
    cases = [(place, verb) for verb in reversed(ONE_SHOTS) for place in PLACES]
    for ended, (place, verb) in zip(in_parallel(work, cases), cases, strict=True):
        assert ended.code == 1, ended
        assert "Traceback" not in ended.text
        if ended.verb == "check":
            assert ended.text.count("WRONG") == 2
        else:
            (line,) = error_lines(ended)
            assert verb.expected in line or (place is hanging_up and "is no ClickHouse" in line), ended


def test_commands_end_at_once() -> None:
    """Ctrl-C while a command waits for an answer that does not come ends it, with 130 and no stack."""

    def work(folder: Path, place: Place, verb: Verb) -> Ended:
        # Longer than the end may take, so that it is the signal that ends it.
        patience = round(5 * END_SECS_MAX)
        with place() as (address, asked), running(folder, verb, address, f"http://{address}", patience) as command:
            assert asked.wait(SECS_MAX)
            return command.interrupt()

    for ended in in_parallel(work, [(silent, verb) for verb in ONE_SHOTS]):
        assert (ended.code, error_lines(ended)) == (130, []), ended
        assert "Traceback" not in ended.text
        assert ended.secs < END_SECS_MAX, ended


def test_services_wait() -> None:
    """A service prints what is missing and waits for it; Ctrl-C and SIGTERM end it at once, with 0."""

    def work(folder: Path, place: Place, verb: Verb) -> Ended:
        how = (signal.SIGINT, signal.SIGTERM)[(SERVICES.index(verb) + PLACES.index(place)) % 2]
        with place() as (address, _), running(folder, verb, address, f"http://{address}") as service:
            service.until_it_prints(verb.expected)
            assert address in service.text
            return service.end(how)

    for ended in in_parallel(work, [(place, verb) for place in PLACES for verb in SERVICES]):
        assert ended.code == 0, ended
        assert "Traceback" not in ended.text
        assert ended.secs < END_SECS_MAX, ended


def test_services_that_lose_both(tmp_path: Path) -> None:
    """Kafka and ClickHouse die under working services: these keep running, log it, and end at once on a signal."""
    broker, engine = Broker(tmp_path / "kafka", login=False), Engine(tmp_path / "clickhouse")
    verbs = [verb for verb in SERVICES if verb.arguments != "produce sockets:sockets.jsonl"]
    with ExitStack() as stack:
        for server in (broker, engine):
            stack.callback(server.kill)
            server.start()
        settings = Settings(kafka=broker.settings, clickhouse=engine.settings("unproxy"))
        create_topics(broker.settings, topics(settings))
        wiring.migrate(settings)
        services = [
            stack.enter_context(
                running(
                    tmp_path / str(number),
                    verb,
                    broker.bootstrap,
                    engine.url,
                    password=engine.secret.get_secret_value(),
                )
            )
            for number, verb in enumerate(verbs)
        ]
        client = of_settings(settings)
        until(lambda: client.rows("SELECT count() AS n FROM DeviceNetworkEvents")[0]["n"] > 100, "rows")
        broker.kill()
        engine.kill()
        expected = ("out of reach", "Kafka does not answer", "in trouble", "went away", "in trouble")
        for service, words in zip(services, expected, strict=True):
            service.until_it_prints(words)

        for service, how in zip(services, cycle((signal.SIGINT, signal.SIGTERM)), strict=False):
            ended = service.end(how)
            assert ended.code == 0, ended
            assert "Traceback" not in ended.text
            assert ended.secs < END_SECS_MAX, ended


def test_answer_that_breaks_off() -> None:
    """ClickHouse that dies in the middle of its answer is an error in words."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}\n")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end

        half = threading.Thread(target=answer_half)
        half.start()
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", "")
        with pytest.raises(Failed, match=r"the answer broke off|no ClickHouse answers there"):
            client.rows("SELECT 1")
        half.join()
