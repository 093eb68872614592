"""Following files: rotation, truncation, restarts, patterns."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from producers.files.position import Positions
from producers.files.tail import ROTATED_QUIET_SECS, Tail
from producers.sources.source import Line, parse_source

EveMaker = Callable[..., bytes]
Writer = Callable[[Path, Iterable[bytes]], None]


class Following:
    """A tail under a clock of its own; `new()` gives the values of one round."""

    def __init__(self, state: Path, *patterns: str) -> None:
        self.now = 0.0
        self.positions = Positions(state)
        sources = [parse_source(f"suricata:{pattern}") for pattern in patterns]
        self._lines: Iterator[Line | None] = Tail(
            sources, self.positions, line_bytes_max=1_000_000, clock=lambda: self.now
        ).lines()

    def new(self) -> list[bytes]:
        values = []
        while (line := next(self._lines)) is not None:
            line.file.taken = line.end
            values.append(line.value)
        return values

    def stop(self) -> None:
        self.positions.save([])
        self.positions.close()
        del self._lines


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., Following]]:
    """Starts a tail on patterns below tmp_path; the position is kept between two of them."""
    started: list[Following] = []

    def start(*patterns: str) -> Following:
        started.append(Following(tmp_path / "state", *(f"{tmp_path}/{pattern}" for pattern in patterns)))
        return started[-1]

    yield start
    started[-1].stop()


Follow = Callable[..., Following]


def test_lines_come_when_they_are_whole(tmp_path: Path, follow: Follow) -> None:
    """New lines are given once; a line without newline is held back until it comes."""
    log = tmp_path / "log"
    log.write_bytes(b"one\ntw")
    tail = follow("log")
    assert tail.new() == [b"one"]
    assert tail.new() == []
    with log.open("ab") as file:
        file.write(b"o\nthree\n")

    assert tail.new() == [b"two", b"three"]


def test_file_may_appear_later(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """A path or pattern without a file yet is looked for again."""
    tail = follow("log", "sub/*.json")
    assert tail.new() == []
    write(tmp_path / "log", [b"1"])
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "a.json", [b"2"])

    assert sorted(tail.new()) == [b"1", b"2"]


def test_backlog_of_files_is_merged(tmp_path: Path, follow: Follow, write: Writer, eve: EveMaker) -> None:
    """What several files hold already comes in the order it was written, as in a replay."""
    write(tmp_path / "a", [eve(1, at=1), eve(4, at=4)])
    write(tmp_path / "b", [eve(2, at=2), eve(3, at=3), eve(5, at=5)])

    assert follow("[ab]").new() == [eve(number, at=number) for number in (1, 2, 3, 4, 5)]


def test_rotation_reads_the_old_file_to_its_end(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """A renamed file is read on, also while its writer still writes, and before the new one."""
    log, old = tmp_path / "log", tmp_path / "log.1"
    write(log, [b"1"])
    tail = follow("log")
    assert tail.new() == [b"1"]
    write(log, [b"2"])
    log.rename(old)
    assert tail.new() == [b"2"]
    write(old, [b"3"])
    write(log, [b"4"])
    assert tail.new() == [b"3", b"4"]
    with old.open("ab") as file:
        file.write(b"no newline")
    assert tail.new() == []
    tail.now += ROTATED_QUIET_SECS + 1

    assert tail.new() == [b"no newline"]
    write(log, [b"5"])
    assert tail.new() == [b"5"]


def test_rotated_file_under_the_same_pattern_is_not_read_again(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """A pattern that also matches rotated files gives each line once."""
    for generation in range(3):
        if generation:
            for number in range(generation - 1, 0, -1):
                (tmp_path / f"log.{number}").rename(tmp_path / f"log.{number + 1}")
            (tmp_path / "log").rename(tmp_path / "log.1")
        else:
            tail = follow("log*")
        write(tmp_path / "log", [b"%d" % generation])
        assert tail.new() == [b"%d" % generation]
        tail.now += ROTATED_QUIET_SECS + 1
        assert tail.new() == []
        assert tail.new() == []


def test_copytruncate_is_noticed(tmp_path: Path, follow: Follow, write: Writer, eve: EveMaker) -> None:
    """A truncated file is read from its beginning, also when it is longer than before by the time we look."""
    log = tmp_path / "log"
    write(log, [eve(1, at=1), eve(2, at=2)])
    tail = follow("log")
    assert len(tail.new()) == 2
    os.truncate(log, 0)
    write(log, [eve(3, at=3)])
    assert tail.new() == [eve(3, at=3)]
    shutil.copy(log, tmp_path / "copy")
    os.truncate(log, 0)
    write(log, [eve(number, at=number) for number in range(4, 40)])

    assert tail.new() == [eve(number, at=number) for number in range(4, 40)]


def test_truncation_gives_up_the_unfinished_line(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """What was held back of a line without newline is given when the file is truncated: it does not vanish."""
    log = tmp_path / "log"
    log.write_bytes(b"one\nunfinished")
    tail = follow("log")
    assert tail.new() == [b"one"]
    os.truncate(log, 0)
    write(log, [b"two"])

    assert sorted(tail.new()) == [b"two", b"unfinished"]


def test_restart_goes_on(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """After a restart only what is new comes."""
    write(tmp_path / "log", [b"1", b"2"])
    tail = follow("log")
    assert tail.new() == [b"1", b"2"]
    tail.stop()
    write(tmp_path / "log", [b"3"])

    assert follow("log").new() == [b"3"]


def test_rotation_while_away_loses_nothing(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """A file that was rotated while no one read it is found beside its path, and its rest comes first."""
    write(tmp_path / "log", [b"1"])
    tail = follow("log")
    assert tail.new() == [b"1"]
    tail.stop()
    write(tmp_path / "log", [b"2"])
    (tmp_path / "log").rename(tmp_path / "log-20261124")
    write(tmp_path / "log", [b"3"])

    assert follow("log").new() == [b"2", b"3"]


def test_restart_in_the_middle_of_a_rotated_file(tmp_path: Path, follow: Follow, write: Writer) -> None:
    """A rotated file that was not read to its end is found again at each restart."""
    write(tmp_path / "log", [b"1"])
    tail = follow("log")
    assert tail.new() == [b"1"]
    tail.stop()
    write(tmp_path / "log", [b"2"])
    (tmp_path / "log").rename(tmp_path / "log.1")
    write(tmp_path / "log", [b"3"])
    tail = follow("log")
    assert tail.new() == [b"2", b"3"]
    tail.stop()
    write(tmp_path / "log.1", [b"late"])

    assert follow("log").new() == [b"late"]


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
def test_several_rotations_unseen_lose_nothing(
    tmp_path: Path, follow: Follow, write: Writer, away: bool, deleted: bool
) -> None:
    """Files that came and were rotated between two looks are read as well, away or held up by Kafka, in their order."""
    log = tmp_path / "log"
    write(log, [b"1"])
    tail = follow("log")
    assert tail.new() == [b"1"]
    if away:
        tail.stop()
    for number in (2, 3, 4):
        write(log, [b"%d" % number])
        os.utime(log, ns=(0, log.stat().st_mtime_ns + number))
        log.rename(tmp_path / f"log-2026112{number}")
    if deleted and not away:
        (tmp_path / "log-20261122").unlink()
    write(log, [b"5"])
    tail = follow("log") if away else tail

    assert tail.new() == [b"2", b"3", b"4", b"5"]


def test_unread_compressed_file_is_reported(
    tmp_path: Path, follow: Follow, write: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """When a file was rotated and compressed while no one read it, a log line names it."""
    log = tmp_path / "log"
    write(log, [b"1"])
    tail = follow("log")
    assert tail.new() == [b"1"]
    tail.stop()
    (tmp_path / "log.1.gz").write_bytes(gzip.compress(log.read_bytes() + b"2\n"))
    log.unlink()
    write(log, [b"3"])

    assert follow("log").new() == [b"3"]
    assert "rotated file was compressed, perhaps unread" in caplog.text


def test_compressed_files_are_left_out(
    tmp_path: Path, follow: Follow, write: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """A compressed file under the pattern is reported once and not read as lines."""
    (tmp_path / "log.1.gz").write_bytes(b"\x1f\x8b\x08\x00")
    write(tmp_path / "log", [b"1"])
    tail = follow("log*")

    assert tail.new() == [b"1"]
    assert tail.new() == []
    assert caplog.text.count("compressed file is not followed") == 1
