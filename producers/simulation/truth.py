"""The truth in a file, one request a line, in the order in which they were asked, by a right clock."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self


class TruthFile:
    """Writes what it is told."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def tell(self, truth: dict[str, object]) -> None:
        """Keep one request."""
        self._file.write(json.dumps(truth).encode() + b"\n")


def part_of(path: Path, shard: int) -> Path:
    """Where a share of the devices writes its truth until all are merged."""
    return path.with_name(f"{path.name}.part{shard}")


def merge(parts: Iterable[Path], path: Path) -> None:
    """Make one file of several, in the same order as if there had been one from the beginning; the parts are removed."""
    parts = list(parts)
    with ExitStack() as opened, path.open("wb") as file:
        files = [opened.enter_context(part.open("rb")) for part in parts]
        file.writelines(line for _, line in heapq.merge(*map(_timed, files)))
    for part in parts:
        part.unlink()


def _timed(lines: Iterable[bytes]) -> Iterator[tuple[tuple[str, str], bytes]]:
    for line in lines:
        truth = json.loads(line)
        yield (truth["at"], truth["device"]), line
