"""The data folder of `up`: one user at a time, and what an `up` that died left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from unproxy.errors import Fixable
from unproxy.local.folder import Folder, Pid, Running, end_leftovers


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for input."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def silent(_: str) -> None:
    """Ignore whom the folder waits for."""


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """up.json keeps who runs and where; a torn or strange file counts as none."""
    folder = Folder(tmp_path)
    me = Pid.of(psutil.Process().pid)
    running = Running(me, "127.0.0.1:1", "http://127.0.0.1:2", "/settings.toml", {"worker-1": me})
    folder.write(running)

    assert folder.read() == running
    assert running.alive()
    (tmp_path / "up.json").write_text('{"up": 3}')
    assert folder.read() is None
    folder.forget()
    assert folder.read() is None


def test_leftovers_are_ended(process: subprocess.Popen[bytes]) -> None:
    """A part that still runs is ended and named."""
    assert end_leftovers(Running(Pid(1, 0.0), parts={"worker-1": Pid.of(process.pid)})) == ["worker-1"]
    assert not psutil.pid_exists(process.pid)


def test_stranger_is_never_ended(process: subprocess.Popen[bytes]) -> None:
    """A process that merely has the number of a part that died is left alone, and is not taken for a running `up`."""
    other = Pid(process.pid, Pid.of(process.pid).started - 60)

    assert end_leftovers(Running(other, parts={"worker-1": other})) == []
    assert not Running(other).alive()
    assert process.poll() is None


def test_second_user_learns_who_has_it(tmp_path: Path) -> None:
    """A second user gets an error that names the holder of the folder, at once when that is an `up`."""
    folder = Folder(tmp_path / "data")
    with (
        folder.opened("up", wait_secs=60, waiting=silent),
        pytest.raises(Fixable, match="is in use by up"),
        folder.opened("a query", wait_secs=60, waiting=silent),
    ):
        pass


def test_waits_for_a_query_and_reports_it(tmp_path: Path) -> None:
    """A query has the folder for a moment only, so one waits for it, but not for ever."""
    folder = Folder(tmp_path)
    reports: list[str] = []
    with (
        folder.opened("a query", wait_secs=0, waiting=silent),
        pytest.raises(Fixable, match="in use by a query"),
        folder.opened("up", wait_secs=0.3, waiting=reports.append),
    ):
        pass
    with folder.opened("up", wait_secs=0, waiting=silent):
        assert folder.holder().startswith("up (pid ")

    assert len(reports) == 1


def test_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """A file where the folder should be is the caller's mistake."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(Fixable, match="choose another folder"),
        Folder(tmp_path / "file").opened("up", wait_secs=0, waiting=silent),
    ):
        pass


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """A home folder given by mistake is not closed to others; an empty folder and a data folder are."""
    home, empty = tmp_path / "home", tmp_path / "empty"
    for made in (home, empty):
        made.mkdir(mode=0o755)
    (empty / "producer").mkdir()
    (home / "letter").touch()

    with pytest.raises(Fixable, match="holds files that are not of `unproxy up`; choose another folder with --data"):
        Folder(home).make()
    assert home.stat().st_mode & 0o777 == 0o755
    for _ in range(2):
        Folder(empty).make()
        assert empty.stat().st_mode & 0o777 == 0o700
        empty.chmod(0o755)
