"""Parts of the live run that need no root: how squid's log is read, and what is reported where it cannot run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.live import squid, stage
from tests.live.clients import result_of
from tests.live.diary import Result
from tests.live.squid import logged

LINE = {
    "ts_start": "1795802902.756", "ts_end": "1795802902.792", "client_ip": "198.51.100.11", "client_port": "59442",
    "method": "GET", "url": "http://news.example:8080/", "status": "200", "tag": "TCP_MISS",
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "host", "done"),
    [
        ({}, "news.example", True),
        ({"url": "http://News.Example/?"}, "news.example", True),
        ({"method": "CONNECT", "url": "news.example:443", "tag": "TCP_TUNNEL"}, "news.example", True),
        ({"method": "CONNECT", "url": "[2001:db8::1]:443", "tag": "TCP_TUNNEL"}, "[2001:db8::1]", True),
        ({"tag": "TCP_MISS_ABORTED", "status": "200"}, "news.example", False),
        ({"tag": "TCP_MISS_ABORTED", "status": "0"}, "news.example", False),
        ({"tag": "TCP_DENIED", "status": "403"}, "news.example", False),
        ({"status": "502"}, "news.example", False),
        ({"method": "-", "url": "error:transaction-end-before-headers", "tag": "NONE_NONE", "status": "0"}, "", False),
    ],
)
def test_lines_of_squid(tmp_path: Path, facts: dict[str, str], host: str, done: bool) -> None:
    """Whose request it was, whom it was for, and whether anything came of it."""
    log = tmp_path / "access.jsonl"
    log.write_text(json.dumps({**LINE, **facts}) + "\n")
    (line,) = logged(log)

    assert (line.client_ip, line.client_port, line.host, line.done) == ("198.51.100.11", 59_442, host, done)


@pytest.mark.parametrize(
    ("transfer", "tunnel", "result"),
    [
        ({"exit": 0, "own": "", "tunnel": "000"}, False, Result.DONE),
        ({"exit": 0, "own": "ERR_ACCESS_DENIED 0", "tunnel": "000"}, False, Result.REFUSED),
        ({"exit": 56, "own": "", "tunnel": "403"}, True, Result.REFUSED),
        ({"exit": 56, "own": "", "tunnel": "000"}, True, Result.CUT),
        ({"exit": 35, "own": "", "tunnel": "200"}, True, Result.CUT),
        ({"exit": 52, "own": "", "tunnel": "000"}, False, Result.CUT),
        ({"exit": 28, "own": "", "tunnel": "000", "url": "http://news.example/slow"}, False, Result.ABORTED),
    ],
)
def test_results_of_curl(transfer: dict[str, object], tunnel: bool, result: Result) -> None:
    """By its exit code (curl(1)) and what the proxy answered."""
    assert result_of({"url": "http://news.example/", **transfer}, tunnel) is result


def test_it_reports_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without root, without a tool, without squid."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    with pytest.raises(stage.CannotRun, match="sudo"):
        stage.check_machine()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "nsenter" else tool)
    with pytest.raises(stage.CannotRun, match="nsenter not found"):
        stage.check_machine()
    with pytest.raises(stage.CannotRun, match="make live"):
        squid.unpacked(tmp_path, tmp_path)
