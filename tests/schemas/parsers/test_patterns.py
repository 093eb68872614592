"""No pattern takes more than linear time, whatever a line holds: docs/dialects/README.md states how they are written."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

import producers
import schemas

LENGTH = 8_192
SECS_MAX = 0.05
"""A linear pattern takes some 0.0003 s for so long a text; one whose time grows with the square 0.07 s to 2 s."""
TRIES = 3
UNBOUNDED = 256
"""A repetition of more counts as one without end."""
RUNS = (
    *" \t\"\\0aA=|[]{},;:%<>&/.-@_\n\x00é",
    *(" a", " \t", "a ", " =", "a=", ' "', '\\"', "\\\\", "/a", "%2", "1.", "A_", "][", '""', "<a", "&a", ": ", "\ta"),
)  # fmt: skip
_parser: Any = importlib.import_module("re._parser")
_SEARCHED = r"\.(?:search|finditer|findall|sub|split)\("
_ANCHORED = r"\.(?:match|fullmatch)\b"


class Used:
    """A pattern, the names that it has, and whether it is looked for anywhere in a text."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.pattern = pattern
        self.names: set[str] = set()

    @property
    def is_searched(self) -> bool:
        """True unless every use of its names is anchored at a place."""
        names = "|".join(re.escape(name) for name in self.names)
        used = rf"\b(?:{names})\b(?:\[[^\]]*\])*"
        anchored = re.search(used + _ANCHORED, _sources()) is not None
        return not anchored or re.search(used + _SEARCHED, _sources()) is not None


@cache
def _modules() -> list[Any]:
    """All modules of the packages that read lines; `producers.sensor` reads packets and the kernel's own files."""
    names = [
        info.name
        for package in (schemas, producers)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]
    return [importlib.import_module(name) for name in names if not name.startswith("producers.sensor")]


@cache
def _sources() -> str:
    return "\n".join(inspect.getsource(module) for module in _modules())


def patterns_in(value: object, deeper: int = 4) -> Iterator[re.Pattern[Any]]:
    """The patterns that are a value, or in it."""
    if isinstance(value, re.Pattern):
        yield value
    elif deeper and isinstance(value, dict):
        for inner in (*value, *value.values()):
            yield from patterns_in(inner, deeper - 1)
    elif deeper and isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from patterns_in(inner, deeper - 1)


@cache
def patterns() -> dict[str, Used]:
    """Every pattern of a module, also those in its containers and classes, by what is written in it."""
    found: dict[str, Used] = {}
    for module in _modules():
        values = dict(vars(module))
        for owner in [
            value for value in values.values() if inspect.isclass(value) and value.__module__ == module.__name__
        ]:
            values |= {f"{owner.__name__}.{name}": value for name, value in vars(owner).items()}
        for name, value in values.items():
            if not name.startswith("__"):
                for pattern in patterns_in(value):
                    found.setdefault(f"{pattern.pattern!r} {pattern.flags}", Used(pattern)).names.add(name)
    return found


def beginnings(pattern: re.Pattern[Any]) -> set[str]:
    """Texts that lead into each repetition without end of a pattern, and the empty one."""
    found = {""}
    _collect(
        _parser.parse(
            pattern.pattern, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags
        ),
        "",
        found,
    )
    return found


def _collect(items: Any, before: str, found: set[str]) -> str:
    for kind, value in items:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = value
            example = _collect(inner, before, found)[len(before) :]
            if int(most) >= UNBOUNDED:
                found.update((before, before + example))
            before += example * int(least)
        elif name == "SUBPATTERN":
            before = _collect(value[-1], before, found)
        elif name == "ATOMIC_GROUP":
            before = _collect(value, before, found)
        elif name == "BRANCH":
            before, *_ = [_collect(branch, before, found) for branch in value[1]]
        elif name in ("ASSERT", "ASSERT_NOT"):
            _collect(value[1], before, found)
        elif name == "LITERAL":
            before += chr(value)
        elif name in ("NOT_LITERAL", "ANY", "IN"):
            before += _one_of(kind, value)
    return before


def _one_of(kind: Any, value: Any) -> str:
    """A character that a set takes."""
    tree = _parser.SubPattern(_parser.State(), [(kind, value)])
    compiled = importlib.import_module("re._compiler").compile(tree)
    return next(
        char
        for char in map(chr, (*range(97, 123), *range(32, 97), *range(123, 127), *range(32), 160))
        if compiled.match(char)
    )


def longest(used: Used) -> tuple[float, str]:
    """The CPU seconds of the slowest text, and how it begins."""
    pattern = used.pattern
    is_bytes = isinstance(pattern.pattern, bytes)
    read: Callable[[Any], object] = pattern.match
    if used.is_searched:
        read = lambda text: sum(1 for _ in pattern.finditer(text))  # noqa: E731
    slowest = (0.0, "")
    for beginning in beginnings(pattern):
        for run in RUNS:
            text = beginning + run * (LENGTH // len(run)) + "\x01"
            secs = min_secs(read, text.encode() if is_bytes else text)
            slowest = max(slowest, (secs, f"{beginning}{run * 3}"[:200]))
    return slowest


def min_secs(read: Callable[[Any], object], text: Any) -> float:
    """The shortest of some tries where one is above the limit: a busy machine does not make it so each time."""
    secs = 0.0
    for _ in range(TRIES):
        began = time.thread_time()
        read(text)
        secs = time.thread_time() - began
        if secs <= SECS_MAX:
            break
    return secs


@pytest.mark.parametrize("written", sorted(patterns()))
def test_every_pattern_is_linear(written: str) -> None:
    """Long runs of each character and of pairs, behind what leads into each repetition, at the place or anywhere."""
    used = patterns()[written]
    secs, text = longest(used)

    assert secs <= SECS_MAX, (
        f"{sorted(used.names)} takes {secs:.1f} s of CPU time for {LENGTH} characters like {text!r}"
    )


def test_every_parser_has_patterns_that_are_held() -> None:
    """The walk finds those at the top of a module, in containers and those of the producers."""
    names = {name for used in patterns().values() for name in used.names}

    assert {"_LABEL", "_SPELLINGS", "_DATA", "_NEW", "_NATIVE_WIDE", "_HANDLERS"} <= names
    assert len(patterns()) > 100


@pytest.mark.parametrize("pattern", [r"(?:\A|\s)[ \t]*(Image):", r"<\d>\S*\S*x", r"\s*x"])
def test_a_quadratic_pattern_is_found(pattern: str) -> None:
    """What this test is for: time that grows with the square of a run, or faster."""
    used = Used(re.compile(pattern))
    used.names.add("searched_by_unknown")

    assert longest_at(used, 8_192) > longest_at(used, 1_024) * 16


def longest_at(used: Used, length: int) -> float:
    """The CPU seconds of the slowest text of a length."""
    return max(
        min(_secs(used.pattern, beginning + run * length) for _ in range(TRIES))
        for beginning in beginnings(used.pattern)
        for run in (" ", "[", "a")
    )


def _secs(pattern: re.Pattern[str], text: str) -> float:
    began = time.thread_time()
    sum(1 for _ in pattern.finditer(text))
    return time.thread_time() - began
