"""The disk under the worker's state fails: the worker logs it, comes back by itself, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import rocksdict

from schemas.settings import Settings
from schemas.topics import STATE_CHANGELOG
from streams.worker.guards import disk as worker_disk
from streams.worker.guards.disk import DAMAGED, FULL, TOUCHES, blame_disk, watch_store
from streams.worker.guards.exit_codes import Exit
from streams.worker.rocksdb import StateStore
from tests.streams.worker.test_worker_chaos import goes_on, input_flows
from tests.streams.worker.worker_oracle import judge
from tests.streams.worker.worker_process import WorkerProcess, committed, ends, read_all, wait_until

SettingsFor = Callable[..., Settings]


def cut(file: Path) -> None:
    """Half of a file is gone."""
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    """As long as before, and wrong in the middle: it opens, and cannot be read."""
    with file.open("r+b") as there:
        there.seek(file.stat().st_size // 3)
        there.write(bytes(file.stat().st_size // 3))


def test_the_local_store_holds_nothing_that_the_changelog_lacks(
    kafka_settings_for: SettingsFor, tmp_path: Path
) -> None:
    """Killed right before or after a write: else it would stand beside what others made of the same input meanwhile."""
    settings = kafka_settings_for(worker={"session_timeout_secs": 6, "batch_messages_max": 10})
    worker = WorkerProcess(settings, tmp_path / "log", crash=0.1)
    with input_flows(settings):
        deaths = 0
        while deaths < 4:
            code = worker.start().wait()
            assert code in (-signal.SIGKILL, Exit.HOLE), (
                "what was read before an assignment may be passed over: it starts again"
            )
            deaths += code == -signal.SIGKILL
    published = {(raw.key(), raw.value()) for raw in read_all(settings, STATE_CHANGELOG)}
    kept = [entry for folder in Path(settings.worker.data_dir).rglob("*.db") for entry in _kept(folder)]

    assert kept
    assert set(kept) <= published


def _kept(folder: Path) -> list[tuple[bytes, bytes]]:
    """State entries of a store whose process is dead; Faust's own note is none."""
    db = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))
    every = [(key, value) for key, value in db.items() if isinstance(key, bytes) and isinstance(value, bytes)]
    return [entry for entry in every if entry[0].startswith(b"dev")]


@pytest.mark.parametrize(("damage", "files"), [(cut, "*.sst"), (cut, "MANIFEST*"), (flip, "*.sst")])
def test_damaged_state_is_taken_from_kafka(
    kafka_settings_for: SettingsFor, tmp_path: Path, damage: Callable[[Path], None], files: str
) -> None:
    """The worker ends once, puts the damaged folder aside, and recovers all of it from the changelog."""
    settings = kafka_settings_for(worker={"session_timeout_secs": 6})
    worker = WorkerProcess(settings, tmp_path / "log")
    folder = Path(settings.worker.data_dir)
    try:
        with input_flows(settings):
            worker.start()
            goes_on(settings)
            worker.stop()
            worker.start()  # what the life before left in RocksDB's log becomes files with the next start
            goes_on(settings)
            worker.stop()
            damaged = [file for file in folder.rglob(files) if file.parent.name.endswith(".db")]
            for file in damaged:
                damage(file)
            worker.keep_alive()
            goes_on(settings)
        wait_until(lambda: all(committed(settings)[p] > end - 8 for p, end in ends(settings).items()), "all is handled")
        assert worker.stop() == 0
    finally:
        worker.discard()
    verdict = judge(settings)

    assert len(damaged) >= 4
    assert worker.exits == [70]
    assert worker.log_text().count("is damaged; the next start takes it from Kafka") == 1
    assert list(folder.parent.glob("worker.stale-*")) == []
    assert (verdict.lost, verdict.extra, verdict.wrong_state) == (0, 0, 0)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[tuple[Sequence[str], Path]]:
    """A file system of its own under a folder: what to put before a command that sees it, and where it is for us."""
    folder.mkdir()
    outside = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    script = f"mount -t tmpfs -o size={size} tmpfs '{folder}' && echo there && exec cat"
    holder = subprocess.Popen(
        ["unshare", *outside, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "there\n"
        inside = ["-m"] if os.geteuid() == 0 else ["-U", "-m", "--preserve-credentials"]
        yield ["nsenter", "-t", str(holder.pid), *inside, "--"], Path(f"/proc/{holder.pid}/root{folder}")
    finally:
        holder.communicate()


def fill(disk: Path) -> Path:
    """Leave no byte of a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as there:
        for size in (1 << 20, 1 << 12, 1):
            while shutil.disk_usage(disk).free >= size:
                there.write(bytes(size))
    return filler


def test_full_disk_costs_time_only(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """Without room the worker ends again and again, in clear words; with room it goes on, and nothing is lost."""
    disk = tmp_path / "disk"
    settings = kafka_settings_for(worker={"session_timeout_secs": 6, "data_dir": str(disk / "worker")})
    with small_disk(disk, "64m") as (prefix, seen), input_flows(settings):
        worker = WorkerProcess(settings, tmp_path / "log", prefix=prefix).keep_alive()
        try:
            goes_on(settings)
            filler = fill(seen)
            wait_until(lambda: len(worker.exits) >= 2, "it ends, and at its next start again")
            stood = committed(settings)
            filler.unlink()
            goes_on(settings)
            assert worker.stop() == 0
        finally:
            worker.discard()
        exits, logged = worker.exits, worker.log_text()
    verdict = judge(settings)

    assert all(committed(settings)[partition] > offset for partition, offset in stood.items())
    assert set(exits) == {70}
    assert logged.count("is full, make room there; nothing is lost") == len(exits)
    assert verdict.inputs > 100
    assert (verdict.lost, verdict.extra, verdict.wrong_state) == (0, 0, 0)


def test_a_block_that_cannot_be_read_is_no_end(tmp_path: Path) -> None:
    """Damage in the middle of a large store is an error, and not a state that is smaller than it was."""
    options = rocksdict.Options(raw_mode=True)
    for _ in range(2):  # the second time what was written lies in files
        db = rocksdict.Rdict(str(tmp_path), options)
        for number in range(10_000):
            db[b"dev%05d\0d00" % number] = os.urandom(200)
        db.close()
    flip(max(tmp_path.glob("*.sst"), key=lambda file: file.stat().st_size))
    table = SimpleNamespace(data=SimpleNamespace(offset_key=b"", _db_for_partition=lambda _: db))
    db = rocksdict.Rdict(str(tmp_path), options)

    with pytest.raises(Exception, match=DAMAGED[0]):
        list(StateStore(table).pieces(0))


class Ended(Exception):
    """The process would have ended."""


def test_faust_never_sees_the_disk_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way Faust takes to the store: it would go on with a warning, or take a while to give up."""

    def ended(code: Exit, why: str) -> None:
        raise Ended(code, why)

    def touch(trouble: str) -> None:
        raise OSError(trouble)

    monkeypatch.setattr(worker_disk, "end", ended)
    folder = tmp_path / "worker"
    for trouble, message, stays in (
        (f"IO error: {FULL[0]}: x", "is full", True),
        (f"{DAMAGED[0]} x", "damaged", False),
    ):
        store = SimpleNamespace(**dict.fromkeys(TOUCHES, touch))
        watch_store(store, folder)
        for name in TOUCHES:
            folder.mkdir(exist_ok=True)
            with pytest.raises(Ended, match=message):
                getattr(store, name)(trouble)
            assert folder.exists() == stays


def test_other_errors_are_none_of_the_disk(tmp_path: Path) -> None:
    """An error that is not of the disk leaves folder and process alone."""
    blame_disk(RuntimeError("failed on request"), tmp_path)

    assert tmp_path.exists()
