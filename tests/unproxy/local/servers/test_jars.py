"""Kafka's jars are run only when they match the repository's checksums."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from unproxy.local.servers import jars
from unproxy.local.servers.jars import KAFKA_VERSION, cache_folder, digests, kafka_jars, verify
from unproxy.local.servers.service import EmbeddedError


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the real jars, listed in a cache folder of their own as an earlier start lists them."""
    found = kafka_jars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder()
    made = [folder / jar.name for jar in found]
    for jar, copy in zip(found, made, strict=True):
        os.link(jar, copy) if jar.stat().st_dev == folder.stat().st_dev else copy.write_bytes(jar.read_bytes())
    (folder / f"kafka-{KAFKA_VERSION}.jars").write_text("\n".join(map(str, made)))
    return made


def test_cached_jars_are_taken(copies: list[Path]) -> None:
    """Jars as they were released are found again without the network."""
    assert kafka_jars() == copies
    assert len(copies) == len(digests())


def test_changed_jar_is_refused(copies: list[Path]) -> None:
    """A jar that differs by one byte stops the start, also from the cache; the message names it and both digests."""
    changed = copies[7].read_bytes()
    copies[7].unlink()
    copies[7].write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))

    with pytest.raises(
        EmbeddedError, match=f"{copies[7]}: is not what .* SHA-256 is [0-9a-f]{{64}}, expected is [0-9a-f]{{64}}"
    ):
        kafka_jars()


def test_unknown_jar_is_refused(copies: list[Path], tmp_path: Path) -> None:
    """So does one that nothing is known of."""
    strange = tmp_path / "strange-1.0.jar"
    strange.write_bytes(b"PK")

    with pytest.raises(
        EmbeddedError, match=r"strange-1\.0\.jar: is not what .* expected is that of no jar of this name"
    ):
        verify([*copies, strange])


def test_missing_jar_is_refused(copies: list[Path]) -> None:
    """And a list that lacks one."""
    with pytest.raises(EmbeddedError, match=f"the jars {copies[3].name} are missing"):
        verify(copies[:3] + copies[4:])


def test_fetched_jars_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was just fetched is compared before it is written down."""
    wrong = tmp_path / "kafka_2.13-4.3.1.jar"
    wrong.write_bytes(b"PK")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars, "_fetch", lambda _: [wrong])

    with pytest.raises(EmbeddedError, match="is not what"):
        kafka_jars()
    assert not list(cache_folder().glob("*.jars"))


def test_cache_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that others may write to is closed; another user's is not used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "unproxy").mkdir()
    (tmp_path / "unproxy").chmod(0o777)

    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EmbeddedError, match="belongs to another user; set XDG_CACHE_HOME"):
        cache_folder()
