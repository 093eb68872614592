"""Mutation tests of pure packages: which small changes of the code does no test notice?

    python -m tests.mutation streams/correlate
    python -m tests.mutation streams/assess/version.py --secs 60 --jobs 2

`survivors.toml` lists the mutants that are known to survive, each with its reason. Prints the survivors that it does not list
and the listed mutants that are killed, in its format; exits with 1 if there are any.

mutmut and cosmic-ray start a process per mutant or rewrite files; here functions are replaced in forked processes, with only
the tests that execute the changed line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.run import MutationRun

SURVIVORS = Path(__file__).with_name("survivors.toml")
TESTS = ("tests/streams", "tests/check", "tests/test_life.py")
LEFT_OUT = (
    "--ignore=tests/streams/worker",  # These start Kafka and processes of their own.
    "--ignore=tests/streams/test_quarantine.py",
    "--ignore=tests/streams/test_bounds.py",  # These two are slow, and about bounds only.
    "--deselect=tests/streams/model/test_snapshot.py::test_a_device_with_100_000_open_connections",
)
SECS = 12.0
Name = tuple[str, str, str]
"""File, function and change of a mutant, as in `survivors.toml`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants of the given files and folders; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Run the mutants of pure packages.")
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders with the code to change")
    parser.add_argument("--secs", type=float, default=SECS, help="CPU seconds of tests per mutant, fastest tests first")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that run at the same time")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders with the tests")
    given = parser.parse_args(arguments)
    files = sorted(str(file) for path in given.paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    found = [mutant for file in files for mutant in mutants(Path(file).read_text(encoding="utf-8"), file)]
    run = MutationRun(found, given.jobs, given.secs)
    code = pytest.main(["-q", "--tb=no", "-p", "no:cacheprovider", *given.tests, *LEFT_OUT], plugins=[run])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return int(code)
    unlisted, killed = compared(run.survived, listed(SURVIVORS), set(files))
    print(f"{len(found)} mutants, {len(run.survived)} survived, {len(unlisted)} of them not in {SURVIVORS.name}")
    sys.stdout.writelines(entry(*name) for name in unlisted)
    sys.stdout.writelines(f"{file}: {function}: killed, remove it: {change}\n" for file, function, change in killed)
    return 1 if unlisted or killed else 0


def listed(survivors: Path) -> set[Name]:
    """Return the mutants that a file lists."""
    entries = tomllib.loads(survivors.read_text(encoding="utf-8")).get("survivor", [])
    return {(one["file"], one["function"], change) for one in entries for change in _changes(one["change"])}


def compared(survived: Iterable[Mutant], known: set[Name], files: set[str]) -> tuple[list[Name], list[Name]]:
    """Return the survivors that are not listed, and the listed mutants of these files that did not survive."""
    names = {(mutant.file, mutant.function, mutant.change) for mutant in survived}
    return sorted(names - known), sorted(name for name in known - names if name[0] in files)


def entry(file: str, function: str, change: str) -> str:
    """Return an entry of `survivors.toml`."""
    values = {"file": file, "function": function, "change": change, "reason": "not examined"}
    return "[[survivor]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()) + "\n"


def _changes(change: str | list[str]) -> list[str]:
    return [change] if isinstance(change, str) else change


if __name__ == "__main__":
    sys.exit(main())
