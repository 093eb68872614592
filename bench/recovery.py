"""How long it takes until results come again after something broke: workers and broker are real, so is the load.

Progress means all of it: in every partition of the input a new commit, and on the topic of rows a new message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bench.cluster import committed
from bench.figures import Case, report_progress
from bench.worker_fleet import RESTART_SECS, Seen, WorkerFleet, await_progress, load
from schemas.settings import Settings
from schemas.topics import topics
from unproxy.local.servers.broker import Broker, create_topics

COMMIT_SECS = 0.3
NAMES = ("alone, 12 s", "alone, 6 s", "standby", "dead, 12 s", "dead, 6 s", "broker", "rolling 2", "rolling 3")
"""A worker is killed and started again, without and with a standby; dies for good; the broker is killed and started; workers
are stopped and started one after the other. Seconds are the session's."""
STEADY_SECS = 3.0
"""Under load before anything happens, and between two workers of a rolling restart."""
_numbers = count()


def run_cases(broker: Broker, folder: Path, names: Iterable[str] = NAMES) -> list[Case]:
    """Each case with topics and workers of its own."""
    ways: dict[str, Callable[[str], Case]] = {
        "alone, 12 s": lambda name: _after(name, broker, folder, _kill_and_restart, session_timeout_secs=12),
        "alone, 6 s": lambda name: _after(name, broker, folder, _kill_and_restart, session_timeout_secs=6),
        "standby": lambda name: _after(name, broker, folder, _kill_and_restart, size=2, standby_replicas=1),
        "dead, 12 s": lambda name: _after(
            name, broker, folder, _kill, size=2, standby_replicas=1, session_timeout_secs=12
        ),
        "dead, 6 s": lambda name: _after(
            name, broker, folder, _kill, size=2, standby_replicas=1, session_timeout_secs=6
        ),
        "broker": lambda name: _after(name, broker, folder, lambda _: _broker_again(broker)),
        "rolling 2": lambda name: _rolling(name, broker, folder, 2),
        "rolling 3": lambda name: _rolling(name, broker, folder, 3),
    }
    return [ways[name](name) for name in names]


@contextmanager
def _worker_fleet(broker: Broker, folder: Path, size: int, **worker: Any) -> Iterator[WorkerFleet]:
    """Workers under load that have begun to commit everywhere."""
    number = next(_numbers)
    own = folder / f"recovery-{number}"
    own.mkdir()
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap": broker.bootstrap, "topic_prefix": f"r{number}-"},
            "worker": {"group": f"r{number}", "standby_replicas": 0, **worker},
        }
    )
    create_topics(broker.settings, topics(settings))
    with WorkerFleet(settings, own, size) as worker_fleet:
        with load(settings):
            await_progress(settings, committed(settings), more=10)
            time.sleep(STEADY_SECS)
            yield worker_fleet
        # What was published last is committed, too: the rows on the topic are final.
        await_progress(settings, committed(settings))


def _kill(worker_fleet: WorkerFleet) -> float:
    """One worker dies and stays dead."""
    moment = time.time()
    worker_fleet.kill(0)
    return moment


def _kill_and_restart(worker_fleet: WorkerFleet) -> float:
    moment = _kill(worker_fleet)
    time.sleep(RESTART_SECS)
    worker_fleet.start(0)
    return moment


def _broker_again(broker: Broker) -> float:
    """The moment when the broker answers again; no client can do anything before."""
    broker.kill()
    broker.start()
    return time.time()


def _after(
    name: str, broker: Broker, folder: Path, breaks: Callable[[WorkerFleet], float], *, size: int = 1, **worker: Any
) -> Case:
    """One fault; from the moment that it gives to progress everywhere."""
    report_progress(f"recovery: {name}")
    with _worker_fleet(broker, folder, size, **worker) as worker_fleet:
        began = time.time()
        moment = breaks(worker_fleet)
        done = await_progress(worker_fleet.settings, committed(worker_fleet.settings))
        time.sleep(STEADY_SECS)
        settings = worker_fleet.settings
    seen = Seen.of(settings)
    return Case(
        "recovery",
        name,
        {
            "s to a commit": max(0.0, done - moment),
            "s to a row": max(0.0, seen.first_after(moment) - moment),
            **_output(seen, began, done),
        },
    )


def _rolling(name: str, broker: Broker, folder: Path, size: int) -> Case:
    """All workers, one after the other, as a new version is brought out."""
    report_progress(f"recovery: {name}")
    stops = []
    with _worker_fleet(broker, folder, size, standby_replicas=1) as worker_fleet:
        began = time.time()
        for number in range(size):
            stops.append(worker_fleet.stop(number))
            worker_fleet.start(number)
            await_progress(worker_fleet.settings, committed(worker_fleet.settings))
            time.sleep(STEADY_SECS)
        done = time.time()
        settings = worker_fleet.settings
    return Case("recovery", name, {"slowest stop, s": max(stops), **_output(Seen.of(settings), began, done)})


def _output(seen: Seen, began: float, done: float) -> dict[str, float]:
    return {
        "longest gap in a partition, s": seen.longest_gap(began, done),
        "rows there once more": seen.doubled,
        "rows of a commit interval": seen.rows_within(COMMIT_SECS, began - STEADY_SECS, began),
        "rows": seen.rows.total(),
    }
