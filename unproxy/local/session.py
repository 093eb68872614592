"""One run of `up`: it starts all parts, publishes the files, shows the results and stops all parts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import typer
from confluent_kafka import KafkaException

from schemas.settings import Settings
from schemas.topics import topics
from unproxy import wiring
from unproxy.errors import Failed, Fixable
from unproxy.kafka import cluster
from unproxy.local import balance, parts, show
from unproxy.local.connect import DATABASE
from unproxy.local.folder import Folder, Pid, Running, end_leftovers
from unproxy.local.meter import Meter, Reading
from unproxy.local.progress import Progress
from unproxy.local.readiness import Readiness
from unproxy.local.servers import confinement
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.jars import KAFKA_VERSION, cache_folder
from unproxy.local.servers.service import private_files
from unproxy.local.supervisor import Part, Supervisor
from unproxy.options import SAMPLE
from unproxy.output import colored
from unproxy.query.client import Client, of_settings

LOCK_SECS_MAX = 60.0
LOOK_SECS = 0.1
DECIDE_SECS_EXTRA = 10.0
"""Seconds added to patience and lateness in the wait for connections to be decided.

They are for ticks, which come once a second, and for a worker that was killed and starts again.
"""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@dataclass(slots=True)
class Up:
    """A run of `unproxy up`: its options and its processes. `theirs` are the settings of the user."""

    theirs: Settings
    folder: Folder
    files: Sequence[str]
    once: bool
    workers: int
    running: Running = field(init=False)
    supervisor: Supervisor = field(init=False)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Create the supervisor; nothing runs yet."""
        self.running = Running(Pid.of(os.getpid()))
        self.supervisor = Supervisor(warn=self.warn, changed=self._write_down)

    def run(self) -> int:
        """Run from start to stop; return the exit code."""
        with (
            private_files(),
            self.folder.opened("up", wait_secs=LOCK_SECS_MAX, waiting=lambda who: notify(f"waiting for {who} …")),
        ):
            self._end_leftovers()
            self._write_down()
            try:
                self.supervisor.interrupts.listen()
                return self._live()
            except KeyboardInterrupt:
                return EXIT_INTERRUPTED if self.once else 0
            finally:
                self._stop()

    def _live(self) -> int:
        settings = self._start()
        client = of_settings(settings)
        asked = self._play(settings)
        reading = self._until_all_is_written(settings, asked)
        balanced = self._show(settings, client, reading)
        if self.once:
            return 0 if balanced else EXIT_FAILED
        notify("up; Ctrl-C ends it")
        while True:
            self.supervisor.look()
            time.sleep(LOOK_SECS)

    def _end_leftovers(self) -> None:
        left = self.folder.read()
        if left and (names := end_leftovers(left)):
            notify(f"an earlier `up` died and left {', '.join(names)} running; ended")

    def _start(self) -> Settings:
        if not (cache_folder() / f"kafka-{KAFKA_VERSION}.jars").exists():
            notify(
                f"first start on this machine: fetching Apache Kafka {KAFKA_VERSION} (44 MB) into {cache_folder()} …"
            )
        notify("starting Kafka …")
        broker, engine = Broker(self.folder.kafka), Engine(self.folder.clickhouse)
        self.supervisor.start_server("kafka", broker)
        notify("starting the ClickHouse engine …")
        self.supervisor.start_server("clickhouse", engine)
        if not confinement.version():
            self.warn(
                f"no Landlock in this kernel: statements with the login in {engine.folder} reach all files of yours"
            )
        settings = parts.embedded_settings(self.theirs, self.folder, broker.settings, engine.settings(DATABASE))
        parts.write_settings(settings, self.folder.settings)
        create_topics(settings.kafka, topics(settings))
        wiring.migrate(settings)
        self.running.kafka, self.running.clickhouse = broker.bootstrap, engine.url
        self.running.settings = str(self.folder.settings.absolute())
        self._write_down()
        return settings

    def _play(self, settings: Settings) -> tuple[Meter, Part]:
        notify("starting worker and sink …")
        report = self.folder.path.absolute() / "producer.json"
        report.unlink(missing_ok=True)
        self.supervisor.start(parts.sink(self.folder))
        workers = parts.workers(self.folder, self.workers)
        for worker in workers.values():
            self.supervisor.start(worker)
        producer = parts.producer(self.folder, self.files, report)
        if self.files:
            self.supervisor.start(producer)
        else:
            producer.done = True
        return Meter(settings, list(workers), report), producer

    def _until_all_is_written(self, settings: Settings, asked: tuple[Meter, Part]) -> Reading:
        metered, producer = asked
        correlation = settings.correlation
        decide_secs = correlation.patience_secs + correlation.lateness_secs + DECIDE_SECS_EXTRA
        readiness = Readiness(metered.telemetry, metered.results, self.workers, decide_secs)
        readiness.again(time.monotonic())
        sent, restarts, ended = producer.done, 0, False
        metered.start()
        with Progress(metered.telemetry, metered.results) as self.progress:
            while True:
                self.supervisor.look()
                if (producer.done, self.supervisor.restarts) != (sent, restarts):
                    sent, restarts = producer.done, self.supervisor.restarts
                    self._raise_if_called_wrongly(producer)
                    readiness.again(time.monotonic())
                missing = readiness.look(metered.latest) if producer.done else "sending"
                if not missing and ended:
                    break
                if not missing:
                    cluster.publish_end_mark(settings)
                    ended, missing = True, "ending"
                    readiness.again(time.monotonic())
                self.progress.show(missing, metered.latest)
                time.sleep(LOOK_SECS)
        self.progress = None
        metered.stop()
        return metered.latest

    def _raise_if_called_wrongly(self, producer: Part) -> None:
        if producer.process and producer.process.returncode == parts.EXIT_CALLED_WRONGLY:
            raise Fixable(producer.last_words().removeprefix("unproxy: ") or "the producer does not start")

    def _show(self, settings: Settings, client: Client, reading: Reading) -> bool:
        proxy = show.busiest_proxy(client)
        typer.echo("")
        for line in show.hunts(client, proxy):
            typer.echo(line)
        balanced = self._show_book(settings, client, reading)
        if reading.dialects:
            found = sorted(reading.dialects.items(), key=lambda one: (-one[1], one[0]))
            typer.echo(f"Lines sent: {', '.join(f'{name} {count:,}' for name, count in found)}")
        typer.echo("")
        for line in show.going_on(self.running, self.folder.path, client, proxy):
            typer.echo(line)
        if reading.damage:
            colored(f"not everything could be read: {reading.damage}", "red", err=True)
        sys.stdout.flush()
        return balanced

    def _show_book(self, settings: Settings, client: Client, reading: Reading) -> bool:
        lines = balance.of_workers(reading.book)
        try:
            lines.extend(balance.of_rows(settings, client, reading.end, reading.committed))
        except (KafkaException, Failed) as error:
            colored(f"The rows could not be counted: {error}", "red")
            return False
        balanced = all(line.balances for line in lines)
        typer.echo("The book balances:" if balanced else "The book:")
        for line in lines:
            if line.balances:
                typer.echo(f"  {line}")
            else:
                colored(f"  DOES NOT BALANCE: {line}", "red")
        return balanced

    def warn(self, text: str) -> None:
        """Print a warning above the progress."""
        if self.progress:
            self.progress.print_line(text, "yellow")
        else:
            colored(text, "yellow", err=True)

    def _write_down(self) -> None:
        self.running.parts = {
            part.name: Pid.of(part.process.pid)
            for part in self.supervisor.parts
            if part.process and part.process.poll() is None
        }
        self.folder.write(self.running)

    def _stop(self) -> None:
        self.supervisor.interrupts.ignore()
        notify("stopping …")
        self.supervisor.stop()
        self.folder.forget()
        notify("stopped; the data is kept in " + str(self.folder.path))


def notify(text: str) -> None:
    """Write one line to stderr, without the name of the program."""
    typer.echo(text, err=True)


def files_to_play(folder: Folder, given: Sequence[str]) -> Sequence[str]:
    """Return the given files after a check. If none are given, return the sample, unless the folder has the user's data.

    Raises SourceError if a file is missing or cannot be read.
    """
    mark = folder.path / "sample"
    if given:
        wiring.sources(given)
        return given
    if folder.has_tables() and not mark.exists():
        notify(f"{folder.path} holds data of your own, so the sample is not added to it")
        return ()
    folder.make()
    mark.touch(mode=0o600)
    samples = resources.files("unproxy").joinpath("samples")
    return [text.replace("unproxy/samples", str(samples)) for text in SAMPLE.split()]
