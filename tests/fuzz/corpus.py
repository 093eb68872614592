"""The real lines that are mutated: everything recorded that lies in the project, under each dialect that can read it."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from schemas.dialect import Dialect
from schemas.events import Ignored, Reject
from schemas.parsers import dialects

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "tests/data", ROOT / "unproxy/samples")
LINES_MAX = 20_000
"""Real lines kept per dialect."""
IGNORED_MAX = 300
"""Of these, lines that hold nothing for us."""
VALUES_MAX = 300
"""Real values kept per dialect and key."""

_MEMBER = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*')


class Member(NamedTuple):
    """One member of a JSON object, wherever in the line: its key, and where it and its value stand."""

    key: str
    begin: int
    value_begin: int
    end: int


@dataclass
class Real:
    """One real line."""

    written_at: int
    dialect: str
    device: str
    value: bytes

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Its members in order, nested ones included; none where it is no JSON."""
        text = self.value.decode("latin-1")  # so that places in the text are places in the bytes
        return tuple(_members(text))


@dataclass
class Corpus:
    """All real lines in the order in which they were written, and all values by dialect and key."""

    lines: list[Real]
    values: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    def values_of(self, dialect: str, key: str) -> list[bytes]:
        """Return the values of a key in real lines."""
        return self.values[dialect, key]


@cache
def corpus(dialect: str = "") -> Corpus:
    """What is recorded of one dialect, or of all."""
    whole = _whole()
    if not dialect:
        return whole
    values = {(name, key): found for (name, key), found in whole.values.items() if name == dialect}
    return Corpus([real for real in whole.lines if real.dialect == dialect], values)


@cache
def _whole() -> Corpus:
    """Read it once. Every dialect must have real lines: one without cannot be fuzzed, so it must not pass unseen."""
    found: dict[tuple[str, bytes], Real] = {}
    kept: Counter[str] = Counter(dict.fromkeys(dialects(), 0))
    ignored: Counter[str] = Counter()
    for line in _recorded():
        for name, dialect in dialects().items():
            rows = dialect.split(line) if dialect.split is not None else [line]
            # An envelope is as good as its first row, and is mutated as it is.
            parsed = dialect.parse(rows[0])
            useless = isinstance(parsed, Ignored)
            if (name, line) in found or isinstance(parsed, Reject) or kept[name] >= LINES_MAX:
                continue
            if useless and ignored[name] >= IGNORED_MAX:
                continue
            found[name, line] = _real(dialect, line)
            kept[name] += 1
            ignored[name] += useless
    assert all(kept.values()), f"no real lines to mutate, put some under tests/data: {kept}"
    made = Corpus(sorted(found.values(), key=lambda real: real.written_at))
    for real in made.lines:
        for member in real.members:
            values = made.values.setdefault((real.dialect, member.key), [])
            if len(values) < VALUES_MAX:
                values.append(real.value[member.value_begin : member.end])
    return made


def _recorded() -> Iterator[bytes]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith((".md", ".out.jsonl")):
                content = path.read_bytes()
                lines = gzip.decompress(content) if path.suffix == ".gz" else content
                yield from filter(None, lines.split(b"\n"))


def _real(dialect: Dialect, line: bytes) -> Real:
    first = dialect.split(line)[0] if dialect.split is not None else line
    return Real(dialect.written_at(first), dialect.name, dialect.device_of(first), line)


def _members(text: str) -> Iterator[Member]:
    decode = json.JSONDecoder().raw_decode
    place = 0
    while (found := _MEMBER.search(text, place)) is not None:
        place = found.end()
        try:
            _, end = decode(text, place)
        except ValueError:
            continue
        yield Member(found[1], found.start(), place, end)
