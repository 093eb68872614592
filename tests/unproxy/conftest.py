"""One life of `up` for all tests of this folder: started with the sample, parts killed on the way, ended by Ctrl-C.

Each step is recorded when it happens, and the tests look at the record.
"""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.unproxy.local.up_story import (
    Running,
    Story,
    ask_around,
    command_lines,
    open_files,
    rows_were_made,
    servers_of,
    wait_for,
)


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """`up` with the sample; worker and sink are killed as soon as rows come; Ctrl-C at the end."""
    folder = tmp_path_factory.mktemp("up") / "data"
    running = Running(folder)
    try:
        parts = running.wait_for_parts("worker-1", "sink")
        wait_for(lambda: rows_were_made(folder), "the first row")
        for name in ("worker-1", "sink"):
            os.kill(parts[name], signal.SIGKILL)
        wait_for(lambda: "How to go on" in running.out or running.process.poll() is not None, "the results")
        assert running.process.poll() is None, running.end(signal.SIGTERM).err
        while_running = ask_around(folder)
        seen_by_others, visible = open_files(folder), command_lines(running)
        asked = time.monotonic()
        up = running.end(signal.SIGINT)
        stop_secs = time.monotonic() - asked
    finally:
        running.end(signal.SIGTERM)
    left = [pid for pid in parts.values() if psutil.pid_exists(pid)] + servers_of(folder)
    return Story(folder, up, while_running, stop_secs, left, seen_by_others, visible)
