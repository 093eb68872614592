"""Every bound through which a row could be missing, different or unresolved is in the table of docs/design/bounds.md.

Collected are all settings that are numbers, and the constants of `PACKAGES` that hold a number and are named or annotated as a
limit: the name ends in `MAX` or `MIN` or has a unit in it, or the annotation is `Micros`. Each is in the table with its value, or
in `tests/streams/harmless_bounds.py` with the reason why it cannot change a row.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from schemas.settings import Settings
from tests.streams.harmless_bounds import HARMLESS

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "schemas", "common", "producers/sensor", "sinks")
LIMIT = re.compile(r"_?(?:[A-Z0-9]+_)*(?:MAX|MIN|SECS|MILLIS|MS|MICROS|NS|BYTES|CHARS)(?:_[A-Z]+)*")


FORMATS = {
    "_EXIT_CODE", "COUNTRY_CODE_LENGTH", "NANOSECOND_DIGITS", "SECONDS_DIGITS", "NATIVE_FIELDS", "OLD_FILTER_TO",
    "_SNARE_COLUMNS", "_MESSAGE_HEAD",
}  # fmt: skip
"""Positions and sizes in a format, not limits."""


def constants() -> Iterator[tuple[str, str, float, bool]]:
    """Yield module, name and value of each limit, and whether it is in microseconds."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text()).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                is_time = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "Micros"
                names = [n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)]
                for name in names if isinstance(node, ast.Assign | ast.AnnAssign) else ():
                    if name.isupper() and (is_time or LIMIT.fullmatch(name)):
                        value = getattr(importlib.import_module(module), name)
                        if isinstance(value, int | float):
                            yield module, name, value, is_time


def settings() -> Iterator[tuple[str, float]]:
    """Yield name and default of each setting that is a number."""
    for section, field in Settings.model_fields.items():
        for name, one in type(field.default).model_fields.items():
            if isinstance(one.default, int | float) and not isinstance(one.default, bool):
                yield f"{section}.{name}", one.default


def harmless() -> list[str]:
    """Return the qualified names of the limits that cannot change a row."""
    found = []
    for text in HARMLESS.values():
        module = ""
        for word in text.split():
            if word.isupper():
                found.append(f"{module}.{word}")
            elif word.count(".") == 1 and word.partition(".")[0] in Settings.model_fields:
                found.append(word)
            else:
                module = word
    return found


def table() -> dict[str, str]:
    """Return the value column of docs/design/bounds.md by the name of a limit."""
    section = (ROOT / "docs" / "design" / "bounds.md").read_text().partition("\n## Bounds")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        cells = line.strip("|").split(" | ")
        if line.startswith("| ") and len(cells) == 4:
            for name in re.findall(r"`(\w+\.\w+)`", cells[0]):
                assert name not in found, f"{name} has two rows"
                found[name] = cells[1]
    return found


def spellings(name: str, value: float, *, is_time: bool) -> set[str]:
    """Return the forms in which the table may write a value."""
    found = {f"{value:,}", f"{value:g}", f"/{value:g}"}
    for unit, size in {"KiB": 2**10, "MiB": 2**20}.items():
        found |= {f"{value // size:,} {unit}"} if value % size == 0 else set()
    found |= {f"{value:,} KiB"} if "_KB_" in name else set()
    units = {"MICROS": 1e-6, "NS": 1e-9, "MS": 1e-3, "MILLIS": 1e-3, "SECS": 1.0}
    by_unit = next((size for unit, size in units.items() if unit in name.upper().split("_")), 0.0)
    seconds = value * (1e-6 if is_time else by_unit)
    for unit, length in {"ms": 1e-3, "s": 1, "min": 60, "h": 3_600, "day": 86_400, "days": 86_400}.items():
        found |= {f"{round(seconds / length, 6):,.10g} {unit}"} if by_unit or is_time else set()
    return found


def test_every_bound_is_documented_or_cannot_change_a_row() -> None:
    """A limit is in the table, or with a reason in the list of harmless ones."""
    documented, cannot = set(table()), harmless()
    limits = {f"{module}.{name}": f"{module.rpartition('.')[2]}.{name}" for module, name, _, _ in constants()}
    limits |= {name: name for name, _ in settings()}
    assert [name for name, short in limits.items() if short not in documented and name not in cannot] == []

    # A name that no limit has, or that both lists have, is an error.
    in_table = [short for name, short in limits.items() if name not in cannot]
    assert sorted(documented) == sorted(in_table)
    assert sorted(cannot) == sorted(set(cannot) & set(limits))


def test_the_table_has_the_values_of_the_code() -> None:
    """The table has each limit's value, in the unit of its name or a larger one."""
    cells, cannot = table(), harmless()
    limits = [(f"{m}.{name}", f"{m.rpartition('.')[2]}.{name}", value, t) for m, name, value, t in constants()]
    limits += [(name, name, value, False) for name, value in settings()]
    wrong = {}
    for name, short, value, is_time in limits:
        if name not in cannot:
            accepted = spellings(name.rpartition(".")[2], value, is_time=is_time)
            if not any(re.search(rf"(?<![\w,.]){re.escape(text)}(?![\w]|[,.]\d)", cells[short]) for text in accepted):
                wrong[short] = (cells[short], accepted)

    assert wrong == {}


def limits_of_lengths(tree: ast.AST) -> Iterator[str]:
    """Yield constants that a length is compared with, or that a sequence is cut at."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            found += sides if any(ast.unparse(side).startswith("len(") for side in sides) else []
        elif isinstance(node, ast.Slice):
            found.append(node.upper)
        elif isinstance(node, ast.keyword) and node.arg == "maxlen":
            found.append(node.value)
        yield from (one.id for one in found if isinstance(one, ast.Name) and one.id.isupper())


def test_what_limits_a_length_is_named_as_a_limit() -> None:
    """A constant that limits a length has a name by which it is collected."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    used = {(path.name, name) for path in paths for name in limits_of_lengths(ast.parse(path.read_text()))}

    assert [(file, name) for file, name in sorted(used) if not LIMIT.fullmatch(name) and name not in FORMATS] == []
