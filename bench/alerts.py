"""How long it takes from an HTTP-level event on its way to Kafka until its alert can be read: without load, and at half of it.

The worker, the broker and the load are processes of their own; this one only sends the events and reads the alerts, by one
clock. Every event raises an alert that was not there before, so none is held back (`protection.alert_gap_secs`).

    python -m bench.alerts --rate 10000 --secs 60

is the load alone, on the cluster that the environment's settings name.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
import psutil
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.child import child
from bench.cluster import SECS_MAX, ToSend, cpu_secs, environment, part_of, publish
from bench.figures import Case, report_progress
from bench.fleet import Fleet
from bench.hits import START, Asking, Way, domain, listed
from bench.worker import DEVICES, at_full_speed, lines
from common.kafka import client_config
from producers.publish.publisher import producer_config
from schemas.clock import MICROS
from schemas.indicator_topic import PARTITION, key_of, value_of
from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, INDICATORS, TELEMETRY, topic_name, topics
from streams.worker.indicator_feed import GRACE_MS
from unproxy.local.servers.broker import create_topics

EVENTS = 500_000
"""To find the worker's full speed with."""
LINES_PER_MESSAGE = 100
SHARE = 0.5
"""Of the full speed."""
RATE = 20
"""Events a second that raise an alert each."""
COUNT = 1_200
ASKING_DEVICES = 300
"""Every other one's protection blocks; the others have none."""
WARM_SECS = 5.0
ENDLESS = 10**12


class Raised(NamedTuple):
    """What distinguishes an alert from all others."""

    device: str
    domain: str
    way: str


class AlertMessage(msgspec.Struct):
    """The fields of a message that identify its alert."""

    Kind: str
    DeviceId: str
    DestinationDomain: str


class Watch:
    """Reads the alerts all the time, in a thread of its own, and keeps when each was first there."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(
            {**client_config(settings.kafka), "group.id": "bench-alerts", "enable.auto.commit": False, "log_level": 2}
        )
        topic = topic_name(settings, BLOCK_ALERTS)
        places = self._consumer.list_topics(topic, 10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in places])
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._read, name="watch")
        self.seen: dict[Raised, float] = {}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._enough.set()
        self._thread.join()
        self._consumer.close()

    def await_all(self, wanted: Sequence[Raised], worker: psutil.Process) -> None:
        """Wait until these are there. Raises RuntimeError when they do not come."""
        deadline = time.monotonic() + SECS_MAX
        while missing := [one for one in wanted if one not in self.seen]:
            if time.monotonic() > deadline or worker.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"the worker ended, or {len(missing)} alerts did not come, {missing[0]} for one")
            time.sleep(0.05)

    def _read(self) -> None:
        decode = msgspec.json.Decoder(AlertMessage).decode
        while not self._enough.is_set():
            message = self._consumer.poll(0.1)
            now = time.monotonic()
            if message is not None and message.error() is None:
                alert = decode(message.value() or b"")
                self.seen.setdefault(Raised(alert.DeviceId, alert.DestinationDomain, alert.Kind), now)


class Askers:
    """Devices that ask for what is listed, one event a message, each for a domain that it never asked for before."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topic_name(settings, TELEMETRY)
        self._producer = Producer(producer_config(settings, lambda error: report_progress(f"kafka: {error.str()}")))
        self._numbers = count()
        self.sent: dict[Raised, float] = {}
        self.acknowledged: dict[Raised, float] = {}

    def ask(self, how_many: int) -> list[Raised]:
        """Send so many at the steady rate; gives the alerts that they must raise."""
        asked = []
        begun = time.monotonic()
        for turn, number in enumerate(islice(self._numbers, how_many)):
            while (wait := begun + turn / RATE - time.monotonic()) > 0:
                self._producer.poll(wait)
            asked.append(self._send(number))
        assert self._producer.flush(SECS_MAX) == 0, "Kafka did not take everything"
        return asked

    def _send(self, number: int) -> Raised:
        turn, device = divmod(number, ASKING_DEVICES)
        way = Way.NOT_ENFORCED if device % 2 else Way.BLOCKED
        name = f"asker-{device:05d}"
        asking = Asking(
            name, f"10.99.{device // 250}.{device % 250}", turn, START + number * MICROS // RATE, domain(turn)
        )
        value = asking.connect(way) if device % 4 < 2 else asking.get(way)
        headers: dict[str, str | bytes | None] = {"dialect": "suricata", "sensor": "bench", "seq": str(turn + 1)}
        raised = Raised(name, asking.domain, way)
        self.sent[raised] = time.monotonic()
        then = partial(self._delivered, raised)
        self._producer.produce(self._topic, value, name.encode(), on_delivery=then, headers=headers)
        return raised

    def _delivered(self, raised: Raised, error: KafkaError | None, _: Message) -> None:
        assert error is None, f"publishing failed: {error}"
        self.acknowledged[raised] = time.monotonic()


def run_cases(
    settings: Settings, folder: Path, events: int = EVENTS, how_many: int = COUNT, devices: int = DEVICES
) -> list[Case]:
    """The worker's full speed, then another worker with topics of its own: without load, and at half of that speed."""
    fleet = Fleet(devices, LINES_PER_MESSAGE)
    _, published, used = at_full_speed(settings, folder, "alerts", fleet, events)
    speed = published.total / used.wall_secs
    own = _prepared(settings, folder, how_many)
    cases: list[Case] = []
    with part_of(own, "worker", folder) as worker, Watch(own) as watch:
        askers = Askers(own)
        watch.await_all(askers.ask(RATE), worker)
        for name, rate in (("idle", 0.0), ("half load", SHARE * speed)):
            report_progress(f"alerts: {name}: {rate:,.0f} lines a second, {how_many:,} alerts")
            with _load(own, folder, rate, devices, WARM_SECS + how_many / RATE) as load:
                time.sleep(WARM_SECS)
                before, begun = cpu_secs(worker), time.monotonic()
                asked = askers.ask(how_many)
                cores = (cpu_secs(worker) - before) / (time.monotonic() - begun)
                watch.await_all(asked, worker)
                sent = _achieved_rate(load)
            figures = _figures(asked, askers, watch)
            if cases:
                figures |= {
                    f"{what}, times idle": figures[what] / cases[0].figures[what] for what in ("p50 ms", "p99 ms")
                }
            figures |= {"alerts": how_many, "alerts/s": RATE, "load, lines/s": sent, "full speed, lines/s": speed}
            cases.append(
                Case("alerts", name, figures | {"load of the full speed": sent / speed, "worker's cores": cores})
            )
    return cases


def _prepared(settings: Settings, folder: Path, how_many: int) -> Settings:
    """Topics for another worker, with indicators for every domain that will be asked for."""
    given = settings.model_dump(exclude_unset=True)
    own = Settings.model_validate(
        {
            **given,
            "kafka": {**given["kafka"], "topic_prefix": f"{settings.kafka.topic_prefix}alerts-"},
            "worker": {"group": f"{settings.worker.group}-alerts", "data_dir": str(folder / "alerts-worker")},
        }
    )
    create_topics(own.kafka, topics(own))
    domains = (RATE + 2 * how_many) // ASKING_DEVICES + 1
    output = (ToSend(key_of(one), value_of(one), 1, {}, PARTITION) for one in listed(domains))
    publish(own, topic_name(own, INDICATORS), output)
    time.sleep(2 * GRACE_MS / 1_000)  # what is published before they hold raises no alert
    return own


def _figures(asked: Sequence[Raised], askers: Askers, watch: Watch) -> dict[str, float]:
    took = {one: 1e3 * (watch.seen[one] - askers.sent[one]) for one in asked}
    acknowledged = [1e3 * (askers.acknowledged[one] - askers.sent[one]) for one in asked]
    everything = list(took.values())
    return {
        "p50 ms": quantile(everything, 0.5),
        "p90 ms": quantile(everything, 0.9),
        "p99 ms": quantile(everything, 0.99),
        "max ms": max(everything),
        **{
            f"{way}, p99 ms": quantile([ms for one, ms in took.items() if one.way == way], 0.99)
            for way in (Way.BLOCKED, Way.NOT_ENFORCED)
        },
        "event acknowledged, p50 ms": quantile(acknowledged, 0.5),
        "event acknowledged, p99 ms": quantile(acknowledged, 0.99),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@contextmanager
def _load(
    settings: Settings, folder: Path, rate: float, devices: int, secs: float
) -> Iterator[subprocess.Popen[bytes] | None]:
    """So many lines a second from a process of its own; none at all is no process."""
    if not rate:
        yield None
        return
    command = [
        sys.executable,
        "-m",
        "bench.alerts",
        "--rate",
        str(rate),
        "--devices",
        str(devices),
        "--secs",
        str(secs),
    ]
    with child(command, cwd=folder, env=environment(settings), stdout=subprocess.PIPE) as process:
        yield process


def _achieved_rate(load: subprocess.Popen[bytes] | None) -> float:
    """The lines a second that the load really was."""
    if load is None:
        return 0.0
    output, _ = load.communicate()
    if load.returncode:
        raise RuntimeError("the load failed; its words are above")
    return float(output)


def send_load(settings: Settings, rate: float, devices: int, secs: float) -> float:
    """Lines at a steady rate for so long; gives the rate that it came to."""
    topic = topic_name(settings, TELEMETRY)
    producer = Producer(producer_config(settings, lambda error: report_progress(f"kafka: {error.str()}")))
    sent, begun = 0, time.monotonic()
    for one in lines(Fleet(devices, LINES_PER_MESSAGE), ENDLESS):
        while (wait := begun + sent / rate - time.monotonic()) > 0:
            producer.poll(wait)
        if time.monotonic() - begun >= secs:
            break
        producer.produce(topic, one.value, one.key, headers=one.headers)
        sent += one.weight
    took = time.monotonic() - begun
    assert producer.flush(SECS_MAX) == 0, "Kafka did not take everything"
    return sent / took


def main() -> int:
    """The load alone; on stdout the lines a second that it came to."""
    parser = argparse.ArgumentParser(prog="python -m bench.alerts", description="The load of the alerts' bench.")
    parser.add_argument("--rate", type=float, required=True, help="lines a second")
    parser.add_argument("--secs", type=float, default=60.0, help="for so long (default %(default)s)")
    parser.add_argument("--devices", type=int, default=DEVICES, help="devices that send them (default %(default)s)")
    given = parser.parse_args()
    print(send_load(Settings(), given.rate, given.devices, given.secs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
