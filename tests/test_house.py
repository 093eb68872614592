"""Rules of the project that no other tool checks: folders, docstrings of modules, links, locks."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from schemas.parsers import dialects
from schemas.settings import Settings
from schemas.topics import INDICATORS, topics
from tests import words

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "bench",
    "common",
    "console",
    "deploy",
    "producers",
    "schemas",
    "sinks",
    "streams",
    "tests",
    "tools",
    "unproxy",
)
MODULES_MAX = 20
CORRELATOR = "streams.correlate.correlator"
HISTORY = {"CHANGELOG.md", "changelog.d"}
"""Pages that describe earlier versions."""
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".lock", ".service", ".sql", ".sh", ""}
PASSED_OVER = {".coverage", ".git", ".venv", "__pycache__", "node_modules", "dist", ".unproxy", "data", "samples"}


def _files(folder: Path = ROOT) -> Iterator[Path]:
    """Yield our text files, without generated ones and lines of sensors."""
    for path in sorted(folder.iterdir()):
        if path.name in PASSED_OVER or path.name.endswith("_cache") or path.name == ".hypothesis":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix in TEXTS:
            yield path


def _modules() -> Iterator[Path]:
    for path in _files():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ROOMS:
            yield path


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything a module imports; for a name from a package both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _offenders(pattern: str) -> list[str]:
    wanted = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if wanted.search(line)
    ]


def test_every_module_opens_with_a_sentence() -> None:
    """Every module has a docstring."""
    silent = [
        str(path.relative_to(ROOT))
        for path in _modules()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert silent == []


def test_no_package_under_tests() -> None:
    """No `__init__.py` under tests/ hides the real streams from the runner."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("name", ["common", "producers", "schemas", "sinks", "streams", "deploy", "unproxy"])
def test_ours_is_the_one_imported(name: str) -> None:
    """Our top-level packages are those imported, not packages of the same name in another distribution."""
    module = importlib.import_module(name)

    assert [Path(place) for place in module.__path__] == [ROOT / name]


def test_nothing_is_left_to_do() -> None:
    """No comment marks unfinished work."""
    assert _offenders(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b") == []


def test_no_folder_is_crowded() -> None:
    """A folder holds at most 20 modules, so that its listing can be read."""
    sizes = Counter(path.parent.relative_to(ROOT) for path in _modules())

    assert [str(folder) for folder, modules in sizes.items() if modules > MODULES_MAX] == []


def test_no_machine_is_named() -> None:
    """No file contains a path of the machine it was written on, or the host of a package registry."""
    folders = r"(?<![\w.])/(root|home|Users|work)/\w"
    registries = r"pypi\.or" r"g|pythonhosted\.or" r"g|repo1?\.maven|crates\.i" r"o|proxy\.golan" r"g|npmj" r"s"

    assert _offenders(f"{folders}|{registries}") == []


def test_tests_go_through_the_pipeline() -> None:
    """No test imports the correlator: `Pipeline` is the only entry point of streams."""
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if CORRELATOR in _imported(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert offenders == []


@pytest.mark.parametrize("statement", ["import {0}", "from {0} import Correlator", "from {1} import {2} as other"])
def test_every_import_of_the_correlator_is_found(statement: str) -> None:
    """Each form of the import counts, also inside a function."""
    package, _, module = CORRELATOR.rpartition(".")
    tree = ast.parse(f"def test() -> None:\n    {statement.format(CORRELATOR, package, module)}\n")

    assert CORRELATOR in _imported(tree)


def test_topics_have_the_same_partitions() -> None:
    """All topics keyed by device have one number of partitions, so a device has one partition."""
    keyed_by_device = [topic for topic in topics(Settings()) if topic.name != INDICATORS]
    assert len({topic.partitions for topic in keyed_by_device}) == 1


def test_dialects_are_called_like_their_files() -> None:
    """A dialect has the name of its file."""
    files = {
        path.stem
        for path in (ROOT / "schemas/parsers").rglob("*.py")
        if "\nDIALECT = " in path.read_text(encoding="utf-8")
    }

    assert set(dialects()) == files


def test_changelog_describes_this_version() -> None:
    """CHANGELOG has a section for the version of the package."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    """Every relative link in a page points to an existing file."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in _files()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if not re.match(r"\w+:", target) and not (page.parent / target).exists()
    ]

    assert broken == []


QUOTED_TEST = re.compile(r"(?<![\w/.*])((?:\w+/)*test_[\w*]+(?:\.py)?)(?:::(test_[\w*]+))?")


def _missing_tests(text: str) -> list[str]:
    """Return the test files and tests that a page quotes and that do not exist; `*` stands for any characters."""
    paths = list((ROOT / "tests").rglob("test_*.py"))
    tests = {
        path: re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in paths
    }
    missing = []
    for file, test in QUOTED_TEST.findall(text):
        named = [path for path in paths if path.match(file)] if file.endswith(".py") else paths
        wanted = test or ("" if file.endswith(".py") else file)
        if not named or (wanted and not any(fnmatch.filter(tests[path], wanted) for path in named)):
            missing.append("::".join(filter(None, (file, test))))
    return missing


def test_quoted_tests_exist() -> None:
    """Each test and test file that a page quotes exists."""
    pages = [path for path in _files() if path.suffix == ".md" and path.relative_to(ROOT).parts[0] not in HISTORY]
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages
        for name in _missing_tests(page.read_text(encoding="utf-8"))
    ]

    assert missing == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`tests/test_house.py`, `test_house.py::test_quoted_tests_exist[x]`", []),
        ("`tests/test_ho*.py`, `test_quoted_*` and `test_quoted_tests_exist`", []),
        ("`tests/test_none.py`", ["tests/test_none.py"]),
        ("`test_house.py::test_of_another_time`", ["test_house.py::test_of_another_time"]),
        ("`test_quoted`, `test_of_another_*`", ["test_quoted", "test_of_another_*"]),
    ],
)
def test_quoted_tests_that_are_gone_are_found(text: str, missing: list[str]) -> None:
    """A page may quote a path, a file, a test of a file, a test, or the beginning of several."""
    assert _missing_tests(text) == missing


def test_locks_hold_what_the_project_asks_for() -> None:
    """Each direct dependency is in the lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [wanted for group in project["optional-dependencies"].values() for wanted in group]
    everything, fleet = (_locked(ROOT / name) for name in ("requirements.lock", "deploy/requirements.lock"))

    assert {_name(wanted) for wanted in project["dependencies"] + extras} <= everything.keys()
    assert {_name(wanted) for wanted in project["dependencies"]} <= fleet.keys()
    assert fleet.items() <= everything.items()


def test_imports_are_asked_for() -> None:
    """Each package that our code imports is a dependency in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {_name(wanted) for wanted in project["dependencies"] + project["optional-dependencies"]["embedded"]}
    sources = packages_distributions()
    borrowed = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules()
        if path.relative_to(ROOT).parts[0] not in ("tests", "bench", "tools")
        for name in {one.partition(".")[0] for one in _imported(ast.parse(path.read_text(encoding="utf-8")))}
        if name not in (*ROOMS, "backports", *sys.stdlib_module_names)
        and name in sources
        and not {_name(source) for source in sources[name]} & asked
    ]

    assert borrowed == []


RETIRED = {"apple": "pear", "green plum": "ripe plum"}
"""A list of the tests' own, so that no retired word stands in this file."""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("crate_apple", ["apple"]),
        ("HTTPApple", ["apple"]),
        ("APPLE_MAX", ["apple"]),
        ("x9green_plum", ["green plum"]),
        ("pineapple_by_apples", []),
    ],
)
def test_retired_words_are_found_inside_names(name: str, found: list[str]) -> None:
    """A name is split at underscores, digits and changes of case; part of a word is not that word."""
    assert list(words.in_name(name, RETIRED)) == found


def test_a_public_name_may_contain_a_retired_word() -> None:
    """The names in `CONTRACTS` are left out, and each of them contains a retired word."""
    for name in words.CONTRACTS:
        assert list(words.in_name(name, words.retired())) == []
        assert list(words.in_name(f"{name}_", words.retired())) != []


def test_retired_phrases_are_found_in_any_text() -> None:
    """Codespell compares single words only."""
    text = "one line\na green plum; a green's plum"

    assert list(words.in_text(text, RETIRED, names=False)) == [(2, "green plum")]


def test_every_retired_word_has_a_replacement() -> None:
    """The list is codespell's format: WORD->REPLACEMENT, in lower case, each word once."""
    lines = words.RETIRED.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not re.fullmatch(r"[a-z]+( [a-z]+)?->\w.*", line)] == []
    assert len(words.retired()) == len(lines)


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _locked(lock: Path) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {_name(name): version for name, version in pins}
