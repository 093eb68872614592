"""The worker under kill -9, lost disks and pauses: nothing lost, nothing wrong, nothing new the second time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.settings import Settings
from tests.streams.worker.worker_oracle import judge
from tests.streams.worker.worker_process import WorkerProcess, committed, ends, produce, wait_until

SettingsFor = Callable[..., Settings]
OLD_DEVICES = 12_000
"""Recovering them takes some seconds."""
MOVES = 2
"""Each time the guest comes when a recovery begins; on a quick machine it may be over first."""


@contextmanager
def input_flows(settings: Settings, line: str = "row", messages: int = 8, every_secs: float = 0.02) -> Iterator[None]:
    """A producer that goes on while the block runs: 40 devices, a reject and an alert now and then."""
    enough = threading.Event()

    def go_on() -> None:
        number = 0
        while not enough.wait(every_secs):
            batch = []
            for _ in range(messages):
                number += 1
                device = number % 40
                kind = "reject" if number % 50 == 0 else "alert" if number % 51 == 0 else line
                batch.append((device % 4, b"dev%d" % device, f"{kind}{number}\nrow{number}".encode()))
            produce(settings, batch)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def goes_on(settings: Settings) -> None:
    """Wait until new rows arrive in every partition."""
    before = committed(settings)
    wait_until(lambda: all(committed(settings)[p] > before[p] + 3 for p in before), "the worker continues")


def begins_to_recover(worker: WorkerProcess) -> None:
    """Wait until a worker that was killed has its partitions again."""
    before = worker.log_text().count("partitions move")
    wait_until(lambda: worker.log_text().count("partitions move") > before, "it has partitions again")


def test_killed_again_and_again(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """Kill -9 at any moment, at the worst ones too, with the disk kept or lost: every input counts exactly once."""
    settings = kafka_settings_for(worker={"batch_messages_max": 40, "session_timeout_secs": 6})
    worker = WorkerProcess(settings, tmp_path / "log", crash=0.01)
    with input_flows(settings):
        worker.keep_alive()
        try:
            for lost_disk in (False, True, False):
                goes_on(settings)
                worker.kill(Path(settings.worker.data_dir) if lost_disk else None)
            goes_on(settings)
        except BaseException:  # whatever it is, no process is left behind
            worker.discard()
            raise
    worker.crash = 0.0
    worker.kill()
    wait_until(lambda: all(committed(settings)[p] > end - 8 for p, end in ends(settings).items()), "all is handled")
    code = worker.stop()
    verdict = judge(settings)

    assert code == 0
    # 78 before a partition's first commit: Faust dropped what it had read ahead (docs/delivery.md).
    assert {-signal.SIGKILL} <= set(worker.exits) <= {-signal.SIGKILL, 78}
    assert len(worker.exits) >= 4
    assert verdict.inputs > 500
    assert (verdict.lost, verdict.extra, verdict.wrong_state) == (0, 0, 0)


def test_a_zombie_writes_nothing(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """A worker stopped in a batch for longer than its session harms nothing of what another took over."""
    first = kafka_settings_for(worker={"session_timeout_secs": 6})
    other = first.worker.model_copy(update={"name": f"{first.worker.name}-b", "data_dir": str(tmp_path / "b")})
    second = first.model_copy(update={"worker": other})
    sleeper = WorkerProcess(first, tmp_path / "a.log").keep_alive()
    waker = WorkerProcess(second, tmp_path / "b.log")
    try:
        with input_flows(first, "slow", messages=4, every_secs=1.0):
            goes_on(first)
            sleeper.send(signal.SIGSTOP)
            waker.keep_alive()
            goes_on(first)
            sleeper.send(signal.SIGCONT)
            goes_on(first)
        wait_until(lambda: all(committed(first)[p] > end - 8 for p, end in ends(first).items()), "all is handled")
        wait_until(lambda: sleeper.log_text().count("worker starts") > len(sleeper.exits), "the sleeper is up again")
        codes = (sleeper.stop(), waker.stop())
    finally:
        sleeper.discard()
        waker.discard()
    verdict = judge(first)

    assert codes == (0, 0)
    assert set(sleeper.exits) <= {75}
    assert waker.exits == []
    assert (verdict.lost, verdict.extra, verdict.wrong_state) == (0, 0, 0)


def test_partitions_move_while_a_table_recovers(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """One worker recovers all it knows, its disk lost, while another joins; then that one dies and all moves back."""
    first = kafka_settings_for(worker={"session_timeout_secs": 6})
    other = first.worker.model_copy(update={"name": f"{first.worker.name}-b", "data_dir": str(tmp_path / "b")})
    second = first.model_copy(update={"worker": other})
    stayer = WorkerProcess(first, tmp_path / "a.log")
    guest = WorkerProcess(second, tmp_path / "b.log")
    produce(first, ((number % 4, b"old%d" % number, b"row") for number in range(OLD_DEVICES)))
    try:
        with input_flows(first):
            stayer.keep_alive()
            goes_on(first)
            for _ in range(MOVES):
                wait_until(lambda: min(committed(first).values()) > OLD_DEVICES / 4, "the old devices are known")
                guest.start()
                wait_until(lambda: "worker starts" in guest.log_text(), "the guest is about to join")
                guest.send(signal.SIGSTOP)
                stayer.kill(Path(first.worker.data_dir))
                begins_to_recover(stayer)
                guest.send(signal.SIGCONT)
                goes_on(first)
                guest.kill(Path(other.data_dir))
                guest.log.rename(guest.log.with_suffix(f".{len(stayer.exits)}"))
            goes_on(first)
        wait_until(lambda: all(committed(first)[p] > end - 8 for p, end in ends(first).items()), "all is handled")
        assert stayer.stop() == 0
    finally:
        stayer.discard()
        guest.discard()
    verdict = judge(first)

    assert set(stayer.exits) == {-signal.SIGKILL}
    assert (verdict.lost, verdict.extra, verdict.wrong_state) == (0, 0, 0)
