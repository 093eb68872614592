"""Recorded files: the merge, the pace, and what happens to damaged ones."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from producers.files.replay import PAUSE_SECS_MAX, paced, piped, replay
from producers.sources.source import Line, SourceDamaged, SourceError, parse_source
from schemas.parsers import dialects

SAMPLE = Path(__file__).parents[2] / "data" / "suricata"
EveMaker = Callable[..., bytes]
Writer = Callable[[Path, Iterable[bytes]], None]


def numbers(lines: Iterable[Line]) -> list[int]:
    return [int(line.value.split(b'"n":')[1].split(b",")[0]) for line in lines]


def test_merge_is_by_time(tmp_path: Path, eve: EveMaker, write: Writer) -> None:
    """Lines of two files come in the order they were written; each file keeps its own."""
    write(tmp_path / "a", [eve(1, at=1), eve(4, at=4), eve(5, at=None), eve(3, at=3.99), eve(7, at=7)])
    write(tmp_path / "b", [eve(2, at=2), eve(6, at=6), eve(8, at=8)])
    sources = [parse_source(f"suricata:{tmp_path}/a"), parse_source(f"suricata:{tmp_path}/b")]

    assert numbers(replay(sources)) == [1, 2, 4, 5, 3, 6, 7, 8]


def test_line_from_the_future_does_not_delay_others(tmp_path: Path, eve: EveMaker, write: Writer) -> None:
    """One line with its clock far ahead does not put the rest of its file behind all others."""
    write(tmp_path / "a", [eve(1, at=1), eve(3, at=1e8), eve(4, at=3), eve(6, at=5)])
    write(tmp_path / "b", [eve(2, at=2), eve(5, at=4), eve(7, at=6)])
    sources = [parse_source(f"suricata:{tmp_path}/*")]

    assert numbers(replay(sources)) == [1, 2, 3, 4, 5, 6, 7]


def test_sample_comes_whole_and_in_order() -> None:
    """Every line of the real sample is given once, with its sensor, nearly sorted by time."""
    sources = [parse_source(f"suricata:{SAMPLE}/dev-*.eve.json.gz"), parse_source(f"sockets:{SAMPLE}/sockets.jsonl.gz")]
    lines = list(replay(sources))

    expected = sorted(
        line for path in sorted(SAMPLE.glob("*.gz")) for line in gzip.decompress(path.read_bytes()).splitlines()
    )
    assert sorted(line.value for line in lines) == expected
    assert {Path(line.sensor).name for line in lines} == {path.name for path in SAMPLE.glob("*.gz")}
    per_file: dict[str, int] = {}
    for line in lines:
        assert line.start == per_file.get(line.sensor, 0)
        per_file[line.sensor] = line.end


def test_overlapping_patterns_give_a_file_once(tmp_path: Path, eve: EveMaker, write: Writer) -> None:
    """A file that two sources name is read once."""
    write(tmp_path / "a", [eve(1)])

    assert numbers(replay([parse_source(f"suricata:{tmp_path}/a"), parse_source(f"suricata:{tmp_path}/*")])) == [1]


def test_truncated_gzip_gives_what_it_can(tmp_path: Path, eve: EveMaker, write: Writer) -> None:
    """Lines before the damage and all lines of other files come; then the error names which file it was."""
    lines = [eve(number, at=number) + os.urandom(40).hex().encode() for number in range(5_000)]
    whole = gzip.compress(b"\n".join(lines))
    (tmp_path / "damaged.gz").write_bytes(whole[: len(whole) // 2])
    write(tmp_path / "sound", [eve(number, at=number) for number in range(6_000, 6_100)])
    got: list[Line] = []
    with pytest.raises(SourceDamaged, match=r"damaged\.gz: is damaged after \d+ bytes"):
        got.extend(replay([parse_source(f"suricata:{tmp_path}/*")]))

    damaged = [line.value for line in got if line.file.path.endswith("gz")]
    assert len(got) - len(damaged) == 100
    assert 1_000 < len(damaged) < 4_000
    assert damaged == lines[: len(damaged)]


@pytest.mark.parametrize("text", ["suricata", "suricata:", "nosuch:file"])
def test_wrong_source_lists_the_known_ones(text: str) -> None:
    """A source that is not DIALECT:PATH, or of an unknown dialect, is an error that lists the dialects."""
    with pytest.raises(SourceError, match=r"auditd, auto, .*sockets, .*suricata"):
        parse_source(text)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    """A path or pattern without a file is reported before anything is read."""
    for path in ("nothing", "nothing*"):
        with pytest.raises(SourceError, match="nothing"):
            list(replay([parse_source(f"suricata:{tmp_path}/{path}")]))


def test_pace_is_as_recorded(tmp_path: Path, eve: EveMaker, write: Writer) -> None:
    """Lines come when they are due on the clock, at the speed asked for; a long silence is cut."""
    write(tmp_path / "a", [eve(0, at=0), eve(1, at=2), eve(2, at=1.9), eve(3, at=4), eve(4, at=10_000)])
    steps = 0
    due = []

    def clock() -> float:
        return 100.0 + steps / 4

    for line in paced(replay([parse_source(f"suricata:{tmp_path}/a")]), 2.0, clock):
        if line is None:
            steps += 1
        else:
            due.append(clock() - 100.0)

    assert due == [0.0, 1.0, 1.0, 2.0, 2.0 + PAUSE_SECS_MAX / 2]


def test_pipe_does_not_hold_the_reader_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """From standard input lines come as they are written; while there are none the reader is informed."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin, open(writing, "wb", buffering=0) as sensor:
        monkeypatch.setattr("sys.stdin", stdin)
        lines = piped(parse_source("suricata:-"))
        assert next(lines) is None
        sensor.write(b"one\ntw")
        first = next(lines)
        assert next(lines) is None
        sensor.write(b"o")
        sensor.close()
        (second,) = [line for line in lines if line is not None]

    assert first is not None
    assert (first.value, second.value) == (b"one", b"two")


def test_dialects_are_the_real_ones() -> None:
    """The tests above read with the dialects that ship."""
    assert {"suricata", "sockets"} <= set(dialects())
