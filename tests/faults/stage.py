"""The stage: a real broker, a ClickHouse engine, workers, sinks and a producer, and every way to disturb them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Producer

from producers.simulation import confirmed_proxies
from schemas.settings import PREFIX, Settings
from schemas.topics import TELEMETRY, topic_name, topics
from sinks.clickhouse import connect
from sinks.migrate import migrate
from tests.faults.disk import SmallDisk
from tests.faults.parts import Keeper, Part
from tests.faults.schedule import Fault, Kind
from tests.faults.stubborn import POISON, STALL_SECS_MAX, STUBBORN, message
from tests.faults.tcp_proxy import TcpProxy
from tests.faults.wishes import PROTECTION, publish_before
from tests.sinks.sink_world import damage
from tests.streams.worker.worker_process import PARTITIONS
from unproxy.local.parts import write_settings
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import EmbeddedError, free_port

SESSION_SECS = 6.0
WORKERS = 2
SINKS = 2
DISK_MB = 400
INSERT_BYTES_MIN = 2_000
INSERT_SECS_MAX = 5.0
"""How long an insert to die in is waited for."""
START_TRIES_MAX = 20
PROXIED = "PROXIED"


class ProxiedBroker(Broker):
    """A broker that advertises a proxy's address to the parts; the run itself connects directly."""

    def __init__(self, folder: Path, inner_port: int, proxy_port: int) -> None:
        super().__init__(folder, login=False)
        self._inner_port, self._proxy_port = inner_port, proxy_port

    def _prepare(self, port: int) -> tuple[list[str], dict[str, str]]:
        command, environment = super()._prepare(port)
        text = self._properties_file.read_text()
        for key, listener in (
            ("listeners", f"{PROXIED}://127.0.0.1:{self._inner_port}"),
            ("advertised.listeners", f"{PROXIED}://127.0.0.1:{self._proxy_port}"),
            ("listener.security.protocol.map", f"{PROXIED}:PLAINTEXT"),
        ):
            text = text.replace(f"\n{key}=", f"\n{key}={listener},")
        self._properties_file.write_text(text)
        return command, dict(environment)


class Stage:
    """Everything that runs in one run."""

    def __init__(
        self,
        folder: Path,
        *,
        standby_replicas: int,
        files: list[str],
        broken: str = "",
        damages: bool = False,
        hangs: bool = False,
    ) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.worker_disks = [SmallDisk(folder / f"disk-worker-{n}", DISK_MB) for n in range(WORKERS + 1)]
        self.engine_disk = SmallDisk(folder / "disk-clickhouse", DISK_MB)
        inner, proxy_port, http_port = free_port(), free_port(), free_port()
        self.broker = ProxiedBroker(folder / "kafka", inner, proxy_port)
        self.engine = Engine(self.engine_disk.folder / "clickhouse")
        self.broker.start()
        self.engine.start()
        self.to_kafka = TcpProxy(proxy_port, inner)
        self.to_clickhouse = TcpProxy(http_port, self.engine.port)
        worker = {"session_timeout_secs": SESSION_SECS, "standby_replicas": standby_replicas}
        self.settings = Settings.model_validate(
            {
                "kafka": {"bootstrap": f"127.0.0.1:{proxy_port}"},
                "clickhouse": {
                    "url": f"http://127.0.0.1:{http_port}",
                    "password": self.engine.secret,
                    "timeout_secs": 6,
                },
                "correlation": {"lateness_secs": 2, "patience_secs": 4, "proxies": confirmed_proxies()},
                "publisher": {"state_dir": str(folder / "producer")},
                "worker": worker | ({"stall_secs_max": STALL_SECS_MAX} if hangs else {}),
                "protection": PROTECTION,
                "sink": {"session_timeout_secs": SESSION_SECS, "retry_secs_max": 2},
            }
        )
        self._damages = damages
        self.sent: Counter[bytes] = Counter()
        """Lines that no sensor wrote and that we sent into the log."""
        self.config = config = folder / "settings.toml"
        write_settings(self.settings, config)
        self.direct = self.settings.model_copy(
            update={
                "kafka": self.settings.kafka.model_copy(update={"bootstrap": self.broker.bootstrap}),
                "clickhouse": self.settings.clickhouse.model_copy(update={"url": self.engine.url, "timeout_secs": 60}),
            }
        )
        """The same, past the proxies."""
        create_topics(self.broker.settings, topics(self.settings))
        publish_before(self.direct)
        client = connect(self.direct.clickhouse)
        migrate(client, self.settings.clickhouse.database)
        client.close()
        self.workers = [self._worker(number, config, broken) for number in range(WORKERS + 1)]
        self.sinks = [self._sink(number, config) for number in range(SINKS)]
        command = ["-m", "unproxy", "produce", "--follow", *files]
        self.producer = Part("producer", command, config, {}, self.logs / "producer.log")
        self.parts = [*self.workers, *self.sinks, self.producer]
        self._keeper = Keeper(self.parts)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start our own parts; the last worker waits until it is asked to join."""
        for part in (*self.workers[:WORKERS], *self.sinks, self.producer):
            part.start()

    def pids(self) -> dict[str, int]:
        """Every process that runs, by name; 0 where there is none at the moment."""
        servers = {"kafka": self._pid_of(self.broker), "clickhouse": self._pid_of(self.engine)}
        return {part.name: part.pid for part in self.parts} | servers

    def close(self) -> None:
        """End whatever still runs."""
        self._keeper.close()
        for part in self.parts:
            part.kill()
        for pid in (self._pid_of(self.broker), self._pid_of(self.engine)):
            if pid:
                _go_on(pid)
        for proxy in (self.to_kafka, self.to_clickhouse):
            proxy.close()
        self.engine.kill()
        self.broker.kill()
        for disk in (*self.worker_disks, self.engine_disk):
            disk.close()

    def report_where_they_stand(self) -> None:
        """Our own parts write their stacks into their logs, and end."""
        for part in self.parts:
            part.report_where_it_stands()

    def keep_logs(self, folder: Path) -> None:
        """Copy the output to where it is kept."""
        shutil.copytree(self.logs, folder, dirs_exist_ok=True)
        for server in (self.broker, self.engine):
            if server.log_file.exists():
                shutil.copy(server.log_file, folder)

    def inject(self, fault: Fault) -> Callable[[], object]:
        """Let it go wrong; gives what ends it."""
        match fault.kind:
            case Kind.WORKER_HANGS:
                return self._send_poison(fault.target % PARTITIONS)
            case Kind.BROKER_HANGS:
                return self._hang(self._pid_of(self.broker))
            case Kind.CLICKHOUSE_HANGS:
                return self._hang(self._pid_of(self.engine))
            case Kind.CLICKHOUSE_DIES:
                return self._die_in_an_insert()
        begin, end = self._begin_and_end(fault.target)[fault.kind]
        begin()
        return end

    def _begin_and_end(self, target: int) -> dict[Kind, tuple[Callable[[], object], Callable[[], object]]]:
        number = target % WORKERS
        worker, disk, sink = self.workers[number], self.worker_disks[number], self.sinks[target % SINKS]
        spare = self.workers[WORKERS]
        restart_broker = partial(self._start_again, self.broker)
        return {
            Kind.WORKER_KILL: (worker.kill, _nothing),
            Kind.WORKER_CRASH: (partial(worker.signal, signal.SIGUSR1), _nothing),
            Kind.WORKER_TERM: (partial(worker.signal, signal.SIGTERM), _nothing),
            # It stops itself in the middle of a batch, where a zombie could do harm.
            Kind.WORKER_ZOMBIE: (partial(worker.signal, signal.SIGUSR2), partial(worker.signal, signal.SIGCONT)),
            Kind.WORKER_JOINS: (spare.start, spare.stop),
            Kind.WORKER_LEAVES: (worker.stop, worker.start),
            Kind.WORKER_DISK_LOST: (partial(worker.kill, disk.folder), _nothing),
            Kind.WORKER_DISK_FULL: (disk.fill, disk.free),
            Kind.SINK_KILL: (sink.kill, _nothing),
            Kind.SINK_TERM: (partial(sink.signal, signal.SIGTERM), _nothing),
            Kind.SINK_ZOMBIE: (partial(sink.signal, signal.SIGSTOP), partial(sink.signal, signal.SIGCONT)),
            Kind.SINK_LEAVES: (sink.stop, sink.start),
            Kind.PRODUCER_KILL: (self.producer.kill, _nothing),
            Kind.BROKER_KILL: (self.broker.kill, restart_broker),
            Kind.BROKER_AWAY: (self.broker.stop, restart_broker),
            Kind.NETWORK_CUT: (self.to_kafka.cut, _nothing),
            Kind.NETWORK_STALLS: (self.to_kafka.stall, self.to_kafka.heal),
            Kind.CLICKHOUSE_REFUSES: (self.to_clickhouse.refuse, self.to_clickhouse.heal),
            Kind.CLICKHOUSE_DISK_FULL: (
                self.engine_disk.fill,
                self._free_and_damage if self._damages else self.engine_disk.free,
            ),
        }

    def _free_and_damage(self) -> None:
        """The disk has space again, and a part lacks its marks, as ClickHouse's own merges may leave it."""
        self.engine_disk.free()
        for _ in range(START_TRIES_MAX):
            # The part may be merged away just when it is cut.
            with suppress(OSError, ValueError, ClickHouseError):
                damage(self.direct.clickhouse, "DeviceNetworkEvents")
                return
            time.sleep(0.1)
        raise RuntimeError("no part could be damaged")

    def _send_poison(self, partition: int) -> Callable[[], object]:
        """Kafka may be away at the moment: gives what waits for it."""
        key, value = message(self.sent[POISON])
        self.sent.update(value.split(b"\n"))
        producer = Producer(
            {"bootstrap.servers": self.direct.kafka.bootstrap, "enable.idempotence": True, "log_level": 0}
        )
        producer.produce(
            topic_name(self.settings, TELEMETRY), value, key, partition, headers={"dialect": STUBBORN.encode()}
        )
        return producer.flush

    def _die_in_an_insert(self) -> Callable[[], None]:
        dead = threading.Event()

        def die() -> None:
            self.engine.kill()
            dead.set()

        def live_again() -> None:
            dead.wait(INSERT_SECS_MAX)
            # Else an insert that comes later would end an engine that is not started again.
            self.to_clickhouse.forget_upload()
            self._start_again(self.engine)

        self.to_clickhouse.at_upload(INSERT_BYTES_MIN, die)
        return live_again

    @staticmethod
    def _hang(pid: int) -> Callable[[], None]:
        if not pid:
            return _nothing
        os.kill(pid, signal.SIGSTOP)
        return lambda: _go_on(pid)

    @staticmethod
    def _pid_of(server: Broker | Engine) -> int:
        return server.pid if server.running else 0

    def _start_again(self, server: Broker | Engine) -> None:
        """Two faults of one server may overlap; where the disk is full at the moment, try on."""
        with self._lock:
            for _ in range(START_TRIES_MAX):
                try:
                    server.start()
                    return
                except EmbeddedError:
                    time.sleep(0.5)
            raise RuntimeError(f"{server.name} does not start again")

    def _worker(self, number: int, config: Path, broken: str) -> Part:
        name = f"worker-{number + 1}"
        own = {
            f"{PREFIX}WORKER__NAME": name,
            f"{PREFIX}WORKER__DATA_DIR": str(self.worker_disks[number].folder / "state"),
        }
        command = ["-m", "tests.faults.worker", *([broken] if broken else [])]
        return Part(name, command, config, own, self.logs / f"{name}.log")

    def _sink(self, number: int, config: Path) -> Part:
        name = f"sink-{number + 1}"
        own = {f"{PREFIX}SINK__NAME": name}
        return Part(name, ["-m", "unproxy", "sink"], config, own, self.logs / f"{name}.log")


def _nothing() -> None:
    """For what is over as soon as it is done."""


def _go_on(pid: int) -> None:
    """Another fault may have killed it meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
