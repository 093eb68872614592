"""Files survive what a crash leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.base import SinkBusy, SinkRefused
from sinks.jsonl import JsonlConfig, JsonlSink


def write(folder: Path, *tokens: str) -> None:
    """One row a token, through a sink of its own."""
    sink = JsonlSink(JsonlConfig(folder))
    for token in tokens:
        sink.write("T", [f'{{"token":"{token}"}}'.encode()], token)
    sink.close()


def lines(folder: Path) -> list[str]:
    """What is in the file."""
    return (folder / "T.jsonl").read_text().splitlines()


def test_torn_rows_are_repaired(tmp_path: Path) -> None:
    """Rows beyond what the index says were cut off by a crash; they go, and the repeated write brings them whole."""
    write(tmp_path, "a")
    with (tmp_path / "T.jsonl").open("ab") as file:
        file.write(b'{"token":"b"}\n{"tok')

    write(tmp_path, "b")

    assert lines(tmp_path) == ['{"token":"a"}', '{"token":"b"}']


def test_torn_index_is_repaired(tmp_path: Path) -> None:
    """An index line that was cut off does not count, nor do its rows."""
    write(tmp_path, "a", "b")
    index = tmp_path / "T.tokens"
    index.write_bytes(index.read_bytes()[:-2])

    write(tmp_path, "b", "c")

    assert lines(tmp_path) == ['{"token":"a"}', '{"token":"b"}', '{"token":"c"}']


def test_index_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the latest tokens are kept."""
    monkeypatch.setattr("sinks.jsonl.TOKENS_MAX", 2)
    write(tmp_path, "a", "b", "c")
    write(tmp_path, "b", "c")
    write(tmp_path, "a")

    assert [line[10] for line in lines(tmp_path)] == ["a", "b", "c", "a"]
    assert len((tmp_path / "T.tokens").read_text().splitlines()) <= 3


def test_missing_rows_are_told(tmp_path: Path) -> None:
    """A file that is shorter than its index was tampered with: a person must look."""
    write(tmp_path, "a")
    (tmp_path / "T.jsonl").write_bytes(b"")

    with pytest.raises(SinkRefused, match="put it back"):
        write(tmp_path, "b")


def test_foreign_file_is_left_alone(tmp_path: Path) -> None:
    """A file that we did not write is not cut."""
    (tmp_path / "T.jsonl").write_bytes(b"precious\n")

    with pytest.raises(SinkRefused, match="move it away"):
        write(tmp_path, "a")
    assert lines(tmp_path) == ["precious"]


def test_no_place_is_busy(tmp_path: Path) -> None:
    """A folder that cannot be made now may be there later."""
    (tmp_path / "file").touch()

    with pytest.raises(SinkBusy, match="cannot be written"):
        write(tmp_path / "file", "a")
