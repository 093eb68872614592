"""The watchdog: what it takes for standing still, that it acts on a real Kafka, and that it is watched itself."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.group_lag import Progress
from common.health import Looks
from schemas.settings import Settings
from schemas.topics import TICK_DIALECT
from streams.worker.guards import watchdog
from streams.worker.guards.at_hand import AtHand
from streams.worker.guards.exit_codes import Exit
from streams.worker.guards.watchdog import Pulse, Stall
from tests.streams.worker.worker_process import commit, produce, wait_until

SettingsFor = Callable[..., Settings]


def test_a_stall_is_lag_without_commit() -> None:
    """Only input that waits without any commit for too long is a stall; commits, work and pauses restart the time."""
    stall = Stall(30)
    lag = {0: Progress(5, 9), 1: Progress(9, 9)}

    assert not stall.stalled(lag, 0)
    assert not stall.stalled(lag, 30)
    assert list(stall.stalled(lag, 31)) == [0]
    assert not stall.stalled({0: Progress(6, 9)}, 32)
    assert not stall.stalled({0: Progress(6, 9)}, 90, "recovery at 7")
    stall.forget()
    assert not stall.stalled({0: Progress(6, 9)}, 200, "recovery at 7")
    assert list(stall.stalled({0: Progress(6, 9)}, 231, "recovery at 7")) == [0]


def test_a_partition_that_waits_for_its_turn_is_no_stall() -> None:
    """While others of the worker go on, a partition may stand four times as long, and its health does not show it."""
    stall = Stall(30)
    for now in range(0, 121, 10):
        assert not stall.stalled({0: Progress(5, 9), 1: Progress(now, 999)}, now)
        assert stall.standing_since(everywhere=False) == now

    assert stall.stalled({0: Progress(5, 9), 1: Progress(130, 999)}, 130) == [0]
    assert stall.standing_since(everywhere=False) == 0
    fresh = Stall(30)
    assert not fresh.stalled({0: Progress(5, 9), 1: Progress(1, 999)}, 0)
    assert list(fresh.stalled({0: Progress(5, 9), 1: Progress(1, 999)}, 31)) == [0, 1]


def test_a_log_without_ticks_has_no_pulse() -> None:
    """Growth of any partition, work, and an absence of Kafka restart the time; commits and other partitions do as well."""
    pulse = Pulse(60)
    still = {0: Progress(9, 9), 1: Progress(5, 7)}

    assert not pulse.stopped(still, 0)
    assert not pulse.stopped(still, 60)
    assert pulse.stopped(still, 61)
    assert pulse.stopped({0: Progress(9, 9), 1: Progress(6, 7)}, 62), "a commit is no tick"
    assert not pulse.stopped({0: Progress(9, 9), 1: Progress(6, 8)}, 63)
    assert not pulse.stopped({0: Progress(9, 9)}, 124)
    assert not pulse.stopped({0: Progress(9, 9)}, 185, "recovery at 7")
    pulse.forget()
    assert not pulse.stopped({0: Progress(9, 9)}, 300, "recovery at 7")
    assert pulse.stopped({0: Progress(9, 9)}, 361, "recovery at 7")


def test_a_watchdog_that_fails_ends_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any error in the watchdog ends the worker: it does not go on unwatched."""
    ended: list[Exit] = []
    monkeypatch.setattr(watchdog, "end", lambda code, _why: ended.append(code))
    monkeypatch.setattr(watchdog, "ROUND_SECS", 0)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    nothing = dict.fromkeys(("own_partitions", "sign_of_work", "stop_asked", "busy"), lambda: None)
    limits = {"stall_secs_max": 1, "stop_secs_max": 1, "partitions": 1}
    guard: Any = watchdog.Watchdog
    guard(None, Looks(), **limits, **nothing, stopping=lambda: 1 / 0, at_hand=AtHand(tmp_path)).run()

    assert ended == [Exit.UNEXPECTED]


def test_an_absence_of_kafka_is_no_standstill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While it does not answer nothing can be known; both limits start again when it does."""
    ended: list[Exit] = []
    monkeypatch.setattr(watchdog, "end", lambda code, _why: ended.append(code))
    answers: list[dict[int, Progress] | None] = []
    group: Any = SimpleNamespace(progress=lambda _: answers[-1])
    nothing: dict[str, Any] = dict.fromkeys(("sign_of_work", "stopping", "stop_asked", "busy"), lambda: None)
    limits: dict[str, Any] = {"stall_secs_max": 30, "stop_secs_max": 1, "partitions": 1}
    guard = watchdog.Watchdog(group, Looks(), **limits, **nothing, own_partitions=lambda: [0], at_hand=AtHand(tmp_path))
    stall, pulse = Stall(30), Pulse(60)
    for waiting, last in ((1, 60), (0, 90)):
        for now, answer in ((0, True), (29, False), (30, True), (last, True), (last + 1, True)):
            answers.append({0: Progress(9 - waiting, 9)} if answer else None)
            guard._ask(stall, pulse, 1_000 * waiting + now)
            assert bool(ended) == (now > last)
        ended.clear()


STUCK = """
import sys, threading
from pathlib import Path
from streams.worker.guards import watchdog
from streams.worker.guards.at_hand import AtHand
from common.health import Looks
watchdog.STUCK_SECS_MAX = 1.0
nothing = dict.fromkeys(("sign_of_work", "stopping", "stop_asked", "busy"), lambda: False)
def hangs():
    threading.Event().wait()
watchdog.ASK_SECS = 0
watchdog.Watchdog(
    None, Looks(), **nothing, stall_secs_max=9, stop_secs_max=9, partitions=1, own_partitions=hangs,
    at_hand=AtHand(Path(sys.argv[1])),
).start()
threading.Event().wait(60)
"""


def test_a_watchdog_that_hangs_ends_the_worker(tmp_path: Path) -> None:
    """A watchdog that no longer runs, as when a library blocks all threads, ends the process; the log has all stacks."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path)], capture_output=True, text=True, timeout=50, check=False
    )

    assert done.returncode == 1
    assert "in hangs" in done.stderr


WATCHED = """
import sys, threading
from common.health import Looks
from schemas.settings import Settings
from pathlib import Path
from streams.worker.guards import watchdog
from streams.worker.guards.at_hand import AtHand
from streams.worker.group_offsets import GroupView
settings = Settings.model_validate_json(sys.stdin.read())
watchdog.ASK_SECS = 0.2
class ReportingLooks(Looks):
    def answered(self, *_):
        print("looked", flush=True)
nothing = dict.fromkeys(("sign_of_work", "stopping", "stop_asked", "busy"), lambda: False)
watchdog.Watchdog(
    GroupView(settings), ReportingLooks(), **nothing, stall_secs_max=1.5, stop_secs_max=9, partitions=4,
    own_partitions=lambda: [int(partition) for partition in sys.argv[2:]], at_hand=AtHand(Path(sys.argv[1])),
).start()
threading.Event().wait(50)
"""


def has_looked(log: Path, times: int) -> bool:
    """So often at the least."""
    return log.read_text().count("looked") >= times


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ([], "for 3 s no tick was published to any partition"),
        (["0"], "for 3 s no tick was published to partitions that"),
    ],
    ids=["without partitions", "with one"],
)
def test_a_worker_in_a_log_without_ticks_is_ended(
    own: list[str], why: str, kafka_settings_for: SettingsFor, tmp_path: Path
) -> None:
    """Nothing waits and Kafka answers: while ticks come it goes on, and without them it ends itself with 76."""
    settings = kafka_settings_for()
    log = tmp_path / "log"
    with log.open("wb") as out:
        watched = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(tmp_path), *own], stdin=subprocess.PIPE, stdout=out, stderr=out
        )
    assert watched.stdin is not None
    watched.stdin.write(settings.model_dump_json().encode())
    watched.stdin.close()
    for tick in range(1, 8):
        commit(settings, 0, tick)  # first, so that nothing waits
        produce(settings, [(0, b"", b"")], TICK_DIALECT)
        wait_until(partial(has_looked, log, 4 * tick), "four more looks, which take a second at least")
    lived = watched.poll() is None

    assert watched.wait(30) == 76
    assert lived
    assert why in log.read_text()
