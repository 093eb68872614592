"""One run: a seed in, a verdict out."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from schemas.settings import Settings
from schemas.topics import TABLE_OF_TOPIC, TELEMETRY, topic_name
from tests.faults.cure import Cure
from tests.faults.load import Load
from tests.faults.memory import Memory
from tests.faults.oracle import Verdict, judge, judge_truth, missing_lines
from tests.faults.schedule import FIRST_SECS, Fault, Kind, Schedule, schedule
from tests.faults.stage import Stage
from tests.faults.stubborn import know_stubborn, reject
from tests.faults.watch import PARTITIONS, Watch, caught_up_after, went_on_after
from tests.faults.wishes import publish_in_the_middle

log = logging.getLogger(__name__)

DEVICES = 24
LINES_PER_SEC = 800
FIRST_COMMIT_SECS_MAX = 120.0
LOGGED_SECS_MAX = 60.0
STANDING_SECS_MAX = 90.0
"""How long to wait for a part without progress; one with progress is waited for."""
STOP_SECS_MAX = 10.0
TICKS_SECS = 3.0
OUTAGE_CALM_SECS = 150.0
"""Load after a long absence: it must catch up meanwhile."""
POLL_SECS = 0.1
EXITS = {-9, -10, -12, -15, 0, 75, 76, 77, 78}
"""How a part may end in a disturbed run: killed, stopped before it could listen, or by a guard that has a reason to."""
EXIT_FENCED = 1
EXIT_UNEXPECTED = 70
DAMAGE = Schedule((Fault(Kind.CLICKHOUSE_DISK_FULL, FIRST_SECS + 3.0, 4.0, 0),), 14.0)
"""For a run in which a part is damaged on purpose; by itself that happens once in many full disks."""
WORKER_GIVES_UP = {kind for kind in Kind if kind.startswith(("broker", "network"))} | {Kind.WORKER_DISK_FULL}
"""Where a worker may end itself with 70: it has no disk to write on, or Faust starts just when Kafka is away."""


@dataclass
class Result:
    """What a run gave."""

    seed: int
    verdict: Verdict = field(default_factory=Verdict)
    faults: list[tuple[str, float, float | None]] = field(default_factory=list)
    """Kind, when it began, and seconds until all partitions went on, where that was seen."""
    exits: dict[str, list[int]] = field(default_factory=dict)
    peak_mb: dict[str, int] = field(default_factory=dict)
    """Resident memory of each process at most."""
    caught_up_secs: float | None = None
    """After the last fault of the sinks or ClickHouse was over, until no rows waited any more."""
    stop_secs: float = 0.0
    """The longest graceful stop."""
    cured: list[str] = field(default_factory=list)
    """Parts that a full disk left damaged; they were detached, and their rows written again, before the verdict."""
    secs: float = 0.0
    trouble: str = ""
    """Why there is no verdict on the run, or what else is not as promised."""

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return self.verdict.good and not self.trouble

    def plain(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "good": self.good}


def run(
    seed: int,
    folder: Path,
    *,
    kinds: tuple[Kind, ...] = tuple(Kind),
    planned: Schedule | None = None,
    broken: str = "",
    damages: bool = False,
    keep: bool = False,
    devices: int = DEVICES,
    lines_per_sec: float = LINES_PER_SEC,
) -> Result:
    """Play one seed in a folder of its own. Logs are kept there when something is wrong, or when asked to.

    With `damages` a part is cut each time ClickHouse's disk was full.
    """
    began = time.monotonic()
    plan = planned or schedule(seed, kinds)
    result = Result(seed)
    load = Load(folder / "sensors", seed=seed, secs=plan.load_secs, devices=devices, lines_per_sec=lines_per_sec)
    hangs = any(fault.kind is Kind.WORKER_HANGS for fault in plan.faults)
    stage = Stage(folder, standby_replicas=seed % 2, files=load.sources, broken=broken, damages=damages, hangs=hangs)
    try:
        _play(stage, load, plan, result)
    except Exception as error:  # noqa: BLE001  # a run that fails in any way is a result, with its traceback
        result.trouble = f"{error!r}\n{traceback.format_exc()}"
        stage.report_where_they_stand()
    finally:
        result.exits = {part.name: part.exits for part in stage.parts}
        if strange := [
            (name, code) for name, codes in result.exits.items() for code in codes if not _may(name, code, plan)
        ]:
            result.trouble = result.trouble or f"a part ended as it should not: {strange}"
        if keep or not result.good:
            stage.keep_logs(folder / "kept")
        stage.close()
        for path in folder.iterdir():
            if path.name != "kept":
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        result.secs = round(time.monotonic() - began, 1)
    return result


def _may(name: str, code: int, plan: Schedule) -> bool:
    """Whether a part may end so in such a run."""
    if code == EXIT_UNEXPECTED:
        return any(fault.kind in WORKER_GIVES_UP for fault in plan.faults)
    # librdkafka gives up a static member whose old identity commits after a long absence; the next start goes on.
    return code in EXITS or (name.startswith("sink") and code == EXIT_FENCED)


def outage(secs: float) -> Schedule:
    """ClickHouse is away for so long, while everything else works."""
    return Schedule((Fault(Kind.CLICKHOUSE_REFUSES, FIRST_SECS, secs, 0),), FIRST_SECS + secs + OUTAGE_CALM_SECS)


def _play(stage: Stage, load: Load, plan: Schedule, result: Result) -> None:
    watch, memory = Watch(stage.direct), Memory(stage.pids)
    # A part that is damaged although no disk was full stays a failure.
    disk_full = any(fault.kind is Kind.CLICKHOUSE_DISK_FULL for fault in plan.faults)
    cure = Cure(stage.direct, stage.config) if disk_full else None
    stage.begin()
    _until(
        lambda: bool(watch.workers) and all(o >= 0 for o in watch.workers[-1].offsets),
        FIRST_COMMIT_SECS_MAX,
        "first commits",
    )
    load.begin()
    middle = threading.Timer(plan.load_secs / 2, publish_in_the_middle, [stage.direct])
    middle.start()
    ended = _disturb(stage, plan, time.monotonic())
    load.join()
    middle.join()
    for ender in ended:
        ender.join()
    written = load.values + stage.sent
    _until(lambda: not missing_lines(stage.direct, written), LOGGED_SECS_MAX, "all lines in the log", fatal=False)
    stage.producer.stop()
    correlation = stage.settings.correlation
    # From outside it cannot be seen when everything is decided; ticks of so many seconds ensure it.
    time.sleep(correlation.patience_secs + correlation.lateness_secs + TICKS_SECS)
    _drained(stage.direct, stage.settings.worker.group, [TELEMETRY])
    stops = [worker.stop() for worker in stage.workers]
    # A sink that looks for rows in a damaged part waits until it is put aside.
    meanwhile = cure.now_and_then if cure else _nothing
    _drained(stage.direct, stage.settings.sink.group, list(TABLE_OF_TOPIC), meanwhile)
    stops += [sink.stop() for sink in stage.sinks]
    if cure:
        cure.look()
        result.cured = cure.parts
    watch.close()
    memory.close()
    result.peak_mb = memory.peak_mb
    result.stop_secs = round(max(stops), 1)
    if result.stop_secs > STOP_SECS_MAX:
        result.trouble = f"a graceful stop took {result.stop_secs} s"
    for fault, ender in zip(plan.faults, ended, strict=True):
        rows_wait = fault.kind.startswith(("sink", "ClickHouse"))
        looks = watch.sinks if rows_wait else watch.workers
        if rows_wait:
            result.caught_up_secs = caught_up_after(watch.sinks, ender.over_at)
        result.trouble = result.trouble or ender.problem
        went_on = went_on_after(looks, ender.over_at)
        result.faults.append((fault.kind.value, fault.at_secs, None if went_on is None else round(went_on, 2)))
    know_stubborn(reject)
    result.verdict = judge(stage.direct, written)
    judge_truth(stage.direct, load.truth, result.verdict)


class _Ender(threading.Thread):
    """Ends one fault when its time is over."""

    def __init__(self, fault: Fault, end: Callable[[], object], at: float) -> None:
        super().__init__(name=f"end of {fault.kind}", daemon=True)
        self.over_at = at
        self.problem = ""
        self._fault, self._end = fault, end
        self.start()

    def run(self) -> None:
        """Wait, then end it."""
        time.sleep(self._fault.secs)
        try:
            self._end()
        except Exception as error:  # noqa: BLE001  # reported by the main thread
            self.problem = repr(error)
        self.over_at = time.monotonic()


def _disturb(stage: Stage, plan: Schedule, began: float) -> list[_Ender]:
    ended = []
    for fault in plan.faults:
        time.sleep(max(0.0, began + fault.at_secs - time.monotonic()))
        log.info("fault", extra={"kind": fault.kind.value, "target": fault.target, "secs": fault.secs})
        end = stage.inject(fault)
        ended.append(_Ender(fault, end, time.monotonic()))
    return ended


def _nothing() -> None:
    """For what needs no care while it is waited for."""


def _drained(settings: Settings, group: str, topics: list[str], meanwhile: Callable[[], None] = _nothing) -> None:
    """Return when the group has acknowledged everything that is in the topics now.

    However long that takes on a slow machine, as long as it goes on.
    """
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic_name(settings, topic), part) for topic in topics for part in range(PARTITIONS)]
        ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}
        waits, moved_at = -1, time.monotonic()
        while True:
            meanwhile()
            found = {(p.topic, p.partition): max(p.offset, 0) for p in consumer.committed(places, timeout=10)}
            behind = {place: end - found[place] for place, end in ends.items() if found[place] < end}
            if not behind:
                return
            now, still = time.monotonic(), sum(behind.values())
            if still != waits:
                waits, moved_at = still, now
            elif now - moved_at > STANDING_SECS_MAX:
                raise TimeoutError(f"{group} does not go on for {STANDING_SECS_MAX:.0f} s; messages behind: {behind}")
            time.sleep(POLL_SECS)
    finally:
        consumer.close()


def _until(fact: Callable[[], bool], secs_max: float, what: str, *, fatal: bool = True) -> None:
    deadline = time.monotonic() + secs_max
    while not fact():
        if time.monotonic() > deadline:
            if fatal:
                raise TimeoutError(f"not within {secs_max:.0f} s: {what}")
            return
        time.sleep(POLL_SECS)
