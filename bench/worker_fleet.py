"""Workers under load that are ended and started again as a supervisor would, and what can be seen of it from outside."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil
from confluent_kafka import KafkaException, Producer

from bench.cluster import POLL_SECS, SECS_MAX, committed, part_of, read_all
from bench.figures import report_progress
from bench.fleet import Fleet
from producers.publish.publisher import producer_config
from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, TELEMETRY, topic_name

RESTART_SECS = 1.0
"""What `unproxy up`, systemd and compose wait before they start a worker again."""
DEVICES, LINES_PER_MESSAGE = 40, 10
PAUSE_SECS = 0.1
"""Between two messages of every partition and their next ones."""
ROUNDS_MAX = 100_000


class WorkerFleet:
    """Workers of one group by number."""

    def __init__(self, settings: Settings, folder: Path, size: int) -> None:
        self.settings = settings
        self._folder = folder
        self._stack = ExitStack()
        self._members: dict[int, psutil.Process] = {}
        self.size = size

    def __enter__(self) -> WorkerFleet:
        for number in range(self.size):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, number: int) -> None:
        """Start one; its name and folder are the same each time."""
        own = self._folder / f"worker-{number}"
        own.mkdir(exist_ok=True)
        worker = self.settings.model_dump(exclude_unset=True)["worker"]
        worker |= {"name": f"worker-{number}", "data_dir": str(own / "state")}
        whole = Settings.model_validate({**self.settings.model_dump(exclude_unset=True), "worker": worker})
        self._members[number] = self._stack.enter_context(part_of(whole, "worker", own))

    def kill(self, number: int) -> None:
        """As a crash would."""
        self._members[number].kill()
        self._members[number].wait()

    def stop(self, number: int) -> float:
        """SIGTERM; gives the seconds until it has ended."""
        begun = time.monotonic()
        self._members[number].send_signal(signal.SIGTERM)
        code = self._members[number].wait(SECS_MAX)
        if code:
            raise RuntimeError(f"worker {number} ended with {code} when it was asked to stop")
        return time.monotonic() - begun


@contextmanager
def load(settings: Settings) -> Iterator[None]:
    """Publish into every partition all the time while the block runs, whether the broker is there or not."""
    enough = threading.Event()
    topic = topic_name(settings, TELEMETRY)

    partitions = len(committed(settings))

    def go_on() -> None:
        producer = Producer(producer_config(settings, lambda error: report_progress(f"kafka: {error.str()}")))
        for seq, one in enumerate(Fleet(DEVICES, LINES_PER_MESSAGE).rounds(ROUNDS_MAX)):
            if seq % (2 * partitions) == 0 and enough.wait(PAUSE_SECS):
                break
            device = int(one.device.rpartition("-")[2])
            headers: dict[str, str | bytes | None] = {"dialect": one.dialect, "sensor": "bench", "seq": str(seq)}
            producer.produce(topic, one.value, one.device.encode(), device % partitions, headers=headers)
            producer.poll(0)
        producer.flush(SECS_MAX)

    thread = threading.Thread(target=go_on, name="load")
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def await_progress(settings: Settings, since: Mapping[int, int], more: int = 1) -> float:
    """Wait for new commits in every partition; gives the time of day at which the last one was seen."""
    deadline = time.monotonic() + SECS_MAX
    while time.monotonic() < deadline:
        try:
            now = committed(settings)
        except KafkaException:
            now = {}
        if now and all(now[part] >= offset + more for part, offset in since.items()):
            return time.time()
        time.sleep(POLL_SECS)
    raise RuntimeError(f"no commit in every partition within {SECS_MAX:g} s; the group stands at {now}")


@dataclass(slots=True)
class Seen:
    """What lies on the topic of rows."""

    sent_at: dict[int, list[float]]
    """By partition, when each message was sent."""
    rows: Counter[tuple[str, int]]
    """How often each version of each row is there."""

    @classmethod
    def of(cls, settings: Settings) -> Seen:
        """Read all of it."""
        seen = cls({}, Counter())
        for message in read_all(settings, topic_name(settings, NETWORK_EVENTS)):
            seen.sent_at.setdefault(message.partition() or 0, []).append(message.timestamp()[1] / 1000)
            for line in (message.value() or b"").split(b"\n"):
                row = msgspec.json.decode(line)
                seen.rows[row["RecordId"], row["Version"]] += 1
        return seen

    @property
    def doubled(self) -> int:
        """Rows that are there once more."""
        return self.rows.total() - len(self.rows)

    def first_after(self, moment: float) -> float:
        """When every partition had a new message."""
        return max(min(at for at in times if at > moment) for times in self.sent_at.values())

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time in which some partition had nothing new."""
        gaps = [0.0]
        for times in self.sent_at.values():
            within = [since, *sorted(at for at in times if since < at < until), until]
            gaps += [after - before for before, after in pairwise(within)]
        return max(gaps)

    def rows_within(self, secs: float, since: float, until: float) -> float:
        """How many rows leave in so many seconds, on average of this time."""
        messages = sum(since < at < until for times in self.sent_at.values() for at in times)
        everything = sum(len(times) for times in self.sent_at.values())
        return messages / (until - since) * secs * self.rows.total() / everything
