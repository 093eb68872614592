"""Pytest plugin: runs each mutant in a forked process with the tests that execute its line."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutation.mutants import Mutant, compiled

CPU_SECS_MIN = 15
CPU_TIMES = 8
"""A mutant that needs this many times the CPU time of its tests, plus `CPU_SECS_MIN`, loops and counts as killed."""
MEMORY_BYTES_MAX = 3 << 30


class MutationRun:
    """Run of mutants. `survived` has those that no test noticed, once pytest has ended."""

    def __init__(self, mutants: Sequence[Mutant], jobs: int, secs_max: float) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._secs_max = secs_max
        self._files = sorted({mutant.file for mutant in mutants})
        self._sources = {file: Path(file).read_text(encoding="utf-8") for file in self._files}
        self.survived: list[Mutant] = []

    @staticmethod
    def pytest_collection() -> None:
        """Make property tests deterministic; they neither shrink nor store what they find."""
        import hypothesis  # Not earlier: pytest rewrites its assertions.

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        checks = list(hypothesis.HealthCheck)
        hypothesis.settings.register_profile(
            "mutation", deadline=None, database=None, derandomize=True, phases=phases, suppress_health_check=checks
        )
        hypothesis.settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Find the tests of each line, then run the mutants, several at a time."""
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.freeze()
        took, lines = json.loads(_read(*_fork(lambda: self._covered(session.items))))
        running: dict[int, Mutant] = {}
        for done, mutant in enumerate(self._mutants):
            covering = sorted(lines.get(mutant.file, {}).get(str(mutant.line), ()), key=took.__getitem__)
            chosen, secs = _first(covering, took, self._secs_max)
            if not chosen:
                self.survived.append(mutant)
                continue
            tests = [items[name] for name in chosen]
            pid, pipe = _fork(partial(self._run, mutant, tests, secs))
            os.close(pipe)
            running[pid] = mutant
            if len(running) == self._jobs:
                self._wait(running)
            if done % 100 == 0:
                print(f"{done} of {len(self._mutants)} mutants, {len(self.survived)} survived", file=sys.stderr)
        while running:
            self._wait(running)
        return True

    def _wait(self, running: dict[int, Mutant]) -> None:
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            self.survived.append(mutant)

    def _covered(self, items: Sequence[pytest.Item]) -> bytes:
        """Run all tests; return the CPU seconds of each, and the tests that execute each line, as JSON."""
        measured = coverage.Coverage(
            data_file=None, include=[str(Path(f).resolve()) for f in self._files], config_file=False
        )
        took: dict[str, float] = {}
        measured.start()
        for item in items:
            measured.switch_context(item.nodeid)
            began = time.process_time()
            if not _passes([item]):
                sys.exit(f"{item.nodeid} fails without a mutant")
            took[item.nodeid] = time.process_time() - began
        measured.stop()
        data = measured.get_data()
        lines = {
            os.path.relpath(file): {
                line: [test for test in tests if test in took] for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        return json.dumps((took, lines)).encode()

    def _run(self, mutant: Mutant, tests: Sequence[pytest.Item], secs: float) -> bytes:
        """Replace the mutant's function and run its tests; exit with 1 if one fails."""
        resource.setrlimit(resource.RLIMIT_CPU, (int(secs * CPU_TIMES) + CPU_SECS_MIN,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX,) * 2)
        module = sys.modules[mutant.file.removesuffix(".py").replace("/", ".")]
        _function(module, mutant.function).__code__ = compiled(self._sources[mutant.file], mutant)
        if not _passes(tests):
            os._exit(1)
        return b""


def _passes(items: Sequence[pytest.Item]) -> bool:
    """Run tests up to the first that fails; return whether all passed."""
    failed: list[pytest.TestReport] = []

    class _Reports:
        @staticmethod
        def pytest_runtest_logreport(report: pytest.TestReport) -> None:
            failed.extend([report] if report.failed else [])

    plugins = items[0].config.pluginmanager
    plugins.register(_Reports, "mutation-reports")
    try:
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
            if failed:
                return False
    finally:
        plugins.unregister(name="mutation-reports")
    return True


def _first(tests: Sequence[str], took: dict[str, float], secs_max: float) -> tuple[list[str], float]:
    """Return the first tests that take no longer than `secs_max` together, at least one, and their CPU seconds."""
    chosen: list[str] = []
    secs = 0.0
    for test in tests:
        if chosen and secs + took[test] > secs_max:
            break
        chosen.append(test)
        secs += took[test]
    return chosen, secs


def _function(module: types.ModuleType, name: str) -> types.FunctionType:
    """Return the function below its decorators; empty the caches of those."""
    found: Any = module
    for part in name.split("."):
        found = vars(found)[part]
    while not isinstance(found, types.FunctionType):
        if hasattr(found, "cache_clear"):
            found.cache_clear()
        found = found.fget if isinstance(found, property) else getattr(found, "__wrapped__", None) or found.__func__
    return found


def _fork(work: Callable[[], bytes]) -> tuple[int, int]:
    """Start a process that does the work; return its id and the pipe that its result comes from."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            result = work()
            with os.fdopen(write, "wb") as pipe:
                pipe.write(result)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    return pid, read


def _read(pid: int, pipe: int) -> bytes:
    """Return the result of a process once it has ended; raise ChildProcessError if it failed."""
    with os.fdopen(pipe, "rb") as stream:
        result = stream.read()
    if os.waitpid(pid, 0)[1]:
        raise ChildProcessError("the tests do not pass without a mutant")
    return result
