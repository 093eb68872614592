"""Kept positions: which file is which, and that only acknowledged lines count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from producers.files.batcher import Batch
from producers.files.position import Positions
from producers.sources.source import SourceError, SourceFile, parse_source

Writer = Callable[[Path, Iterable[bytes]], None]


def adopt(positions: Positions, path: Path, *, growing: bool = True) -> SourceFile:
    with path.open("rb") as stream:
        return positions.adopt(parse_source(f"suricata:{path}"), str(path), stream, growing=growing)


def batch(file: SourceFile, start: int, seq: int = 0, lines: int = 0) -> Batch:
    return Batch("dev-a", "suricata", "sensor", file, start, 0, 0.0, seq=seq, lines=[b"x"] * lines)


def test_kept_offset_is_the_first_unacknowledged(tmp_path: Path, write: Writer) -> None:
    """After a restart reading goes on at the oldest line that Kafka did not acknowledge."""
    write(tmp_path / "log", [b"0123456789"] * 10)
    positions = Positions(tmp_path / "state")
    file = adopt(positions, tmp_path / "log")
    file.taken = 99
    positions.save([batch(file, 55), batch(file, 22), batch(file, 33)])
    positions.close()

    again = Positions(tmp_path / "state")
    assert adopt(again, tmp_path / "log").taken == 22
    again.close()


def test_everything_acknowledged_is_kept_as_read(tmp_path: Path, write: Writer) -> None:
    """With nothing outstanding, the kept offset is where reading ended; the count of lines is kept, too."""
    write(tmp_path / "log", [b"0123456789"] * 10)
    positions = Positions(tmp_path / "state")
    file = adopt(positions, tmp_path / "log")
    file.taken = 110
    positions.acknowledge(batch(file, 0, seq=5, lines=3))
    positions.acknowledge(batch(file, 0, seq=1, lines=4))
    positions.save([])
    positions.close()

    again = Positions(tmp_path / "state")
    assert adopt(again, tmp_path / "log").taken == 110
    assert again.seqs == {("dev-a", "suricata", "sensor"): 7}
    again.close()


def test_what_is_sent_again_keeps_its_number(tmp_path: Path, write: Writer) -> None:
    """Where a later message was acknowledged before an earlier one, the count goes back with the offset."""
    write(tmp_path / "log", [b"0123456789"] * 10)
    positions = Positions(tmp_path / "state")
    file = adopt(positions, tmp_path / "log")
    positions.acknowledge(batch(file, 0, seq=1, lines=2))
    positions.acknowledge(batch(file, 55, seq=6, lines=5))
    positions.save([batch(file, 22, seq=3, lines=3), batch(file, 99)])
    positions.close()

    again = Positions(tmp_path / "state")
    assert adopt(again, tmp_path / "log").taken == 22
    assert again.seqs == {("dev-a", "suricata", "sensor"): 2}
    again.close()


def test_renamed_file_is_the_same(tmp_path: Path, write: Writer) -> None:
    """Rotation renames a file; its position goes with it, and the new file begins at its beginning."""
    write(tmp_path / "log", [b"old"])
    positions = Positions(tmp_path / "state")
    old = adopt(positions, tmp_path / "log")
    old.taken = 4
    (tmp_path / "log").rename(tmp_path / "log.1")
    write(tmp_path / "log", [b"new"])

    assert adopt(positions, tmp_path / "log.1") is old
    assert adopt(positions, tmp_path / "log").taken == 0
    positions.close()


def test_truncated_file_is_a_new_one(tmp_path: Path, write: Writer) -> None:
    """A file that is shorter than before, or begins otherwise, is read from its beginning."""
    write(tmp_path / "log", [b"first content"])
    positions = Positions(tmp_path / "state")
    adopt(positions, tmp_path / "log").taken = 14
    os.truncate(tmp_path / "log", 6)
    shorter = adopt(positions, tmp_path / "log")
    assert shorter.taken == 0
    shorter.taken = 6
    os.truncate(tmp_path / "log", 0)
    write(tmp_path / "log", [b"second content, longer than before"])

    assert adopt(positions, tmp_path / "log").taken == 0
    positions.close()


def test_grown_file_is_the_same(tmp_path: Path, write: Writer) -> None:
    """A file that was shorter than the remembered beginning is still known when it has grown, also after that."""
    write(tmp_path / "log", [b"a"])
    positions = Positions(tmp_path / "state")
    file = adopt(positions, tmp_path / "log")
    for _ in range(3):
        file.taken = (tmp_path / "log").stat().st_size
        write(tmp_path / "log", [b"b" * 600])
        assert adopt(positions, tmp_path / "log") is file

    assert file.head_bytes == 1024
    positions.close()


def test_compressed_file_may_be_shorter_than_its_content(tmp_path: Path, write: Writer) -> None:
    """The offset of a compressed file counts its content, so its size proves nothing."""
    write(tmp_path / "log.gz", [b"short"])
    positions = Positions(tmp_path / "state")
    file = adopt(positions, tmp_path / "log.gz")
    file.taken = 1_000_000

    assert adopt(positions, tmp_path / "log.gz", growing=False) is file
    positions.close()


def test_folder_has_one_owner(tmp_path: Path) -> None:
    """Two producers never write the same positions."""
    first = Positions(tmp_path)
    with pytest.raises(SourceError, match=r"another producer .* publisher\.state_dir"):
        Positions(tmp_path)
    first.close()

    Positions(tmp_path).close()


def test_torn_file_is_reported(tmp_path: Path) -> None:
    """A position file that cannot be read is an error with the way out, never silently forgotten."""
    (tmp_path / "positions.json").write_bytes(b'{"files":[')
    with pytest.raises(SourceError, match=r"positions\.json: is not a position file .*; remove it"):
        Positions(tmp_path)
