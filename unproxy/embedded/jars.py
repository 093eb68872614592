"""Kafka's jars: fetched once, kept in the cache folder, found again without asking anybody."""

from __future__ import annotations

import os
from pathlib import Path

from unproxy.embedded.service import EmbeddedError, locked

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/unproxy, ~/.cache/unproxy without it."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "unproxy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from None
    return folder


def kafka_jars() -> list[Path]:
    """The jars of the broker, always in the same order. Raises EmbeddedError."""
    folder = cache_folder()
    known = folder / f"kafka-{KAFKA_VERSION}.jars"
    with locked(folder / "jars.lock"):
        jars = _listed(known)
        if not jars:
            jars = _fetch(folder / "jars")
            fresh = known.with_suffix(".new")
            fresh.write_text("\n".join(str(jar) for jar in jars), encoding="utf-8")
            fresh.replace(known)
    return jars


def _listed(file: Path) -> list[Path]:
    """What an earlier start wrote down, if all of it is still there."""
    if not file.exists():
        return []
    jars = [Path(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return jars if all(jar.exists() for jar in jars) else []


def _fetch(folder: Path) -> list[Path]:
    try:
        import jgo
        from jgo.maven import PythonResolver
    except ImportError:
        raise EmbeddedError("jgo is missing; install it with: pip install 'unproxy[embedded]'") from None
    try:
        environment = jgo.build(COORDINATES, cache_dir=folder, update=True, resolver=PythonResolver())
    except Exception as error:  # noqa: BLE001  # jgo documents no error tree, and its network client raises its own
        raise EmbeddedError(
            f"Kafka {KAFKA_VERSION}: its jars could not be fetched from Maven Central ({error}); check the network or "
            f"the proxy settings (HTTPS_PROXY, ~/.config/jgo.conf) and start again; what was fetched is kept"
        ) from None
    # Some jars count as modules; the broker wants them all on its class path.
    jars = sorted({*environment.class_path_jars, *environment.module_path_jars})
    if not jars:
        raise EmbeddedError(f"Kafka {KAFKA_VERSION}: no jars were found; remove {folder} and start again")
    return jars
