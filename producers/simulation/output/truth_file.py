"""The file of the truth: what was really asked, in order of time by a right clock."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def truth_file(path: Path) -> Iterator[Callable[[dict[str, object]], object]]:
    """Provide a function that appends a request to a new file."""
    with path.open("wb") as file:
        yield lambda truth: file.write(json.dumps(truth).encode() + b"\n")


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
