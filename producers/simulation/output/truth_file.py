"""The file of the truth: the requests that were really sent, in the order of time by a correct clock."""

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
    """Return the file to which the process of a shard writes its truth, until all are merged."""
    return path.with_name(f"{path.name}.part{shard}")


def merge(parts: Iterable[Path], path: Path) -> None:
    """Merge the parts into one file, in the order in which one process would have written it, and remove the parts."""
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
