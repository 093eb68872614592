"""Lines of the greatest length that is read, made of one thing over and over: no parser may take long for one.

Each real line of a dialect is blown up at several places by runs of one character, of pairs, nested brackets and repeated keys.
All are tried at a 32nd of the length; those that took longest are tried again at full length. The CPU time of the slowest
is reported for each reader of a dialect (`parse`, `claims`, …), for the whole pipeline and for `auto`, which asks all dialects.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from schemas.dialect import Dialect
from schemas.parsers import dialects
from schemas.parsers.recognition import NOBODYS, dialect_of_each
from schemas.settings import CorrelationSettings
from streams.messages import LINE_BYTES_MAX
from streams.pipeline import Message, Pipeline
from streams.rejects import MISTAKE
from tests.fuzz.corpus import corpus

TEMPLATES_MAX = 4
PLACES_MAX = 2
"""Places in a line that are blown up, besides its beginning and its end."""
SHARE = 32
CANDIDATES = 8
TRIES = 4
CHARACTERS = (
    *(bytes((byte,)) for byte in b" \t\"\\'0aA=|[]{}()<>,;:%&@/.-_\r\x00\x1e\xff"),
    "é".encode(),
    "\u2028".encode(),
)
REPEATED = (
    *(b'\\"', b"\\\\", b" a", b" \t", b" a=", b" a=b", b"\ta=", b'a="b" ', b' "', b'" "', b"a|b", b"1.", b"1:", b"1 ", b"-1/"),
    *(b"A_", b"a.", b"a.b=", b" - ", b"[a]", b'[a="b"]', b"<1>", b"<a>", b"</", b"&lt;", b"&#1;", b"CEF:", b"url=", b" url=x"),
    *(b"%40", b"%2f", b"//a@", b"://", b":\\/\\/", b"%3a%2f%2f", b"TCP_", b" Image: ", b"User: ", b"<Event>", b"<Event></Event>"),
    *(b"<Data Name='a'>b</Data>", b"<Data Name='Image'>&amp;</Data>", b"\\u0041", b"\\n", b"\\nImage:"),
    *(b'"a":1,', b'"a.b.c":1,', b'"message":"",', b'"event":{},', b'"a":[],', b"[],", b"{},", b'"",', b"1,", b'{"message":'),
    *(b'{"a":', b"[{", b'{"event":{', b'{"":['),
)  # fmt: skip
"""Pairs, keys and brackets."""
_BEHIND = re.compile(rb'[ \t=":,|>(\[]')


class Slowest(NamedTuple):
    """The line that took a reader longest."""

    reader: str
    ms: float
    unit: bytes
    line: bytes


def lines_of(dialect: Dialect, length: int, chance: random.Random) -> Iterator[tuple[bytes, Callable[[int], bytes]]]:
    """What is repeated, and what makes the line of a length."""
    reals = [real.value for real in corpus(dialect.name).lines if len(real.value) < length // 2]
    for value in (b"", *chance.sample(reals, min(TEMPLATES_MAX, len(reals)))):
        ends = [found.end() for found in _BEHIND.finditer(value)]
        places = {0, len(value), *chance.sample(ends, min(PLACES_MAX, len(ends)))}
        for place in sorted(places):
            for unit in (*CHARACTERS, *REPEATED):
                before, after = value[:place], value[place:]

                def of(size: int, before: bytes = before, unit: bytes = unit, after: bytes = after) -> bytes:
                    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

                yield unit, of


def readers(dialect: Dialect) -> dict[str, Callable[[bytes], object]]:
    """Everything that reads a line of a dialect."""
    found: dict[str, Callable[[bytes], object]] = {
        "parse": dialect.parse,
        "claims": dialect.claims,
        "written_at": dialect.written_at,
        "device_of": dialect.device_of,
        "pipeline": lambda line: _through_pipeline(dialect.name, line),
        "auto": dialect_of_each(NOBODYS, _raise),
    }
    return found if dialect.split is None else {**found, "split": dialect.split}


def _raise(_: Dialect, error: Exception) -> None:
    """Let an exception in `claims` be seen."""
    raise error


def slowest(name: str, seed: int, length: int = LINE_BYTES_MAX) -> list[Slowest]:
    """The slowest line of each reader of a dialect. Raises what a reader raises."""
    dialect = dialects()[name]
    chance = random.Random(f"{seed}/{name}")
    found = []
    made = list(lines_of(dialect, length // SHARE, chance))
    for reader, read in readers(dialect).items():
        short = sorted(((_ms(read, of(length // SHARE)), unit, of) for unit, of in made), key=lambda one: -one[0])
        long = []
        for _, unit, of in short[:CANDIDATES]:
            line = of(length)
            long.append(Slowest(reader, min(_ms(read, line) for _ in range(TRIES)), unit, line))
        found.append(max(long, key=lambda one: one.ms))
    return found


def _through_pipeline(name: str, line: bytes) -> None:
    """One message. Raises AssertionError for a mistake of the parser."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(1, 1_795_547_248_000, b"dev", line, name))
    for reject in pipeline.drain().rejects:
        assert not reject.detail.startswith(MISTAKE), reject.detail


def _ms(read: Callable[[bytes], object], line: bytes) -> float:
    began = time.thread_time_ns()
    read(line)
    return (time.thread_time_ns() - began) / 1e6
