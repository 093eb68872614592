"""Modes as they change: by the file, by what the machine can do."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import producers.sensor.enforce.mode as module
from producers.sensor.enforce.mode import Enforcement
from producers.sensor.kernel.nft_rules import NoRules, Rules
from producers.sensor.kernel.tracefs import SensorError
from schemas.events import ProtectionMode
from tests.producers.sensor.http.fake_level import Level


def no_rules() -> Rules:
    raise NoRules("nf_tables: Operation not permitted")


def enforced(
    lines: list[bytes],
    mode: ProtectionMode = ProtectionMode.BLOCK,
    *,
    list_path: Path | None = None,
    mode_file: Path | None = None,
) -> Enforcement:
    return Enforcement(
        "dev-a", lines.append, mode=mode, proxies=[("", 3128)], events=lambda: Level().packet, rules=no_rules,
        list_path=list_path, mode_file=mode_file,
    )  # fmt: skip


def modes(lines: list[bytes]) -> list[tuple[str, str]]:
    return [(line["mode"], line.get("before", "")) for line in map(json.loads, lines)]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A kernel that destroys no sockets, for this reason; and no thread that looks by itself."""
    monkeypatch.setattr(module, "LOOK_SECS", 3_600.0)

    def refuse(reason: str) -> None:
        monkeypatch.setattr(module, "why_not_destroy", lambda: reason)

    return refuse


def test_a_host_that_cannot_block_reports_audit(
    kernel: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A mode line never claims what is not so; both reasons are reported."""
    kernel("the kernel is built without INET_DIAG_DESTROY")
    lines: list[bytes] = []
    with caplog.at_level(logging.ERROR), enforced(lines) as enforcement:
        assert enforcement.mode is ProtectionMode.AUDIT

    assert modes(lines) == [("audit", "")]
    (record,) = caplog.records
    assert record.message == "listed requests cannot be blocked, they are only reported"
    assert vars(record)["not_inline"] == "nf_tables: Operation not permitted"
    assert vars(record)["not_destroyed"] == "the kernel is built without INET_DIAG_DESTROY"


def test_sockets_alone_are_enough_to_block(kernel: Callable[[str], None], caplog: pytest.LogCaptureFixture) -> None:
    """And why it is not inline is reported."""
    kernel("")
    lines: list[bytes] = []
    with caplog.at_level(logging.WARNING), enforced(lines) as enforcement:
        assert (enforcement.mode, enforcement.inline) == (ProtectionMode.BLOCK, False)

    assert modes(lines) == [("block", "")]
    assert vars(caplog.records[-1])["reason"] == "nf_tables: Operation not permitted"


def test_the_mode_file_changes_it(kernel: Callable[[str], None], tmp_path: Path) -> None:
    """It goes before the mode of the start; what is no mode leaves the one in force."""
    kernel("")
    path = tmp_path / "mode"
    path.write_text("Audit\n")
    lines: list[bytes] = []
    with enforced(lines, mode_file=path) as enforcement:
        for word in ("off", "nothing", "block"):
            path.write_text(word)
            enforcement.look()
            enforcement.look()

    assert modes(lines) == [("audit", ""), ("off", "audit"), ("block", "off")]


@pytest.mark.parametrize("what", ["list_path", "mode_file"])
def test_files_have_to_be_there_at_the_start(tmp_path: Path, what: str) -> None:
    """One sentence, exit code 2."""
    files = {what: tmp_path / "none"}
    with pytest.raises(SensorError, match=r"none: cannot be read"), enforced([], ProtectionMode.BLOCK, **files):
        raise AssertionError("it must not begin")


def test_a_mode_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    """With those that there are."""
    (tmp_path / "mode").write_text("blok")

    with (
        pytest.raises(SensorError, match="'blok' is not one of block, audit, off"),
        enforced([], mode_file=tmp_path / "mode"),
    ):
        raise AssertionError("it must not begin")
