"""The table of exit codes in `docs/terminal.md`, and the completion of shells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unproxy import cli
from unproxy.cli import run

PAGE = Path(__file__).parents[2] / "docs/terminal.md"
SCRIPT = Path(sys.executable).with_name("unproxy")


def test_every_exit_code_is_in_the_table() -> None:
    """The codes of the code, each once; no other."""
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)]

    assert listed == [0, *sorted(value for name, value in vars(cli).items() if name.startswith("EXIT_"))]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-V"], 0),
        (["timeline", "-h"], 0),
        (["nonsense"], 2),
        (["replay", "suricata:/nowhere/eve.json"], 2),
        (["hunt", "--file", "/proc/1/nowhere"], 2),
        (["--config", "/proc/1/mem", "check"], 2),
        (["check", "--config"], 2),
    ],
)
def test_exit_codes_are_as_listed(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that cannot be read is one line, never a stack."""
    assert run(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


def test_verbs_are_completed() -> None:
    """As bash asks for it."""
    asked = {"_UNPROXY_COMPLETE": "complete_bash", "COMP_WORDS": "unproxy time", "COMP_CWORD": "1"}
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False, env={**os.environ, **asked})

    assert done.stdout.split() == ["timeline"]
