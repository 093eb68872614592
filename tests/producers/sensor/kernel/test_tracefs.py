"""Where the sensor cannot run it gives the reason and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from producers.sensor.kernel.tracefs import SensorError, opened, place


def test_root_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root tracefs may be there and not be seen."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)

    with pytest.raises(SensorError, match="run the sensor as root"):
        place(tmp_path)


def test_numbers_of_another_namespace_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the kernel's PIDs would be those of other processes: a wrong process is worse than none."""
    monkeypatch.setattr(os, "readlink", lambda _: "pid:[4026532198]")

    with pytest.raises(SensorError, match="--pid=host"), opened(tmp_path):
        raise AssertionError("it must not begin")


def test_a_kernel_without_the_tracepoint_is_refused(tmp_path: Path) -> None:
    """Linux before 4.16 does not have it."""
    (tmp_path / "instances").mkdir()

    with pytest.raises(SensorError, match=r"4\.16 or later"), opened(place(tmp_path)):
        raise AssertionError("it must not begin")
