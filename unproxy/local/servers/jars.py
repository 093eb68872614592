"""Kafka's jars: fetched once from Maven Central, kept in the cache folder, compared with their digests at each start.

After a change of COORDINATES, update jars.sha256: jgo writes the digests to `jgo.lock.toml`, in the environment that it
makes in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from unproxy.local.servers.service import EmbeddedError, locked

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"


def cache_folder() -> Path:
    """Return the folder of downloads, which is created if missing: $XDG_CACHE_HOME/unproxy, else ~/.cache/unproxy.

    Only its owner may use it, because the broker runs the jars and class data in it. Raises EmbeddedError.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "unproxy"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(
            f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from None
    if found.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder}: belongs to another user; set XDG_CACHE_HOME to a folder of yours")
    return folder


def kafka_jars() -> list[Path]:
    """Return the broker's jars, always in the same order; fetch them if they are missing.

    Raises EmbeddedError if that fails, or if a jar differs from its digest.
    """
    folder = cache_folder()
    known = folder / f"kafka-{KAFKA_VERSION}.jars"
    with locked(folder / "jars.lock"):
        jars = _listed(known)
        if jars:
            verify(jars)
        else:
            jars = _fetch(folder / "jars")
            verify(jars)
            fresh = known.with_suffix(".new")
            fresh.write_text("\n".join(str(jar) for jar in jars), encoding="utf-8")
            fresh.replace(known)
    return jars


def digests() -> dict[str, str]:
    """Return the SHA-256 of every jar by its Maven coordinates (group:artifact:version)."""
    lines = Path(__file__).with_name("jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def verify(jars: Iterable[Path]) -> None:
    """Raise EmbeddedError unless these are exactly the jars of `digests`. This takes 0.04 s for 46 MB."""
    expected = {"{1}-{2}.jar".format(*name.split(":")): digest for name, digest in digests().items()}
    for jar in jars:
        with jar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        wanted = expected.pop(jar.name, "that of no jar of this name")
        if digest != wanted:
            raise EmbeddedError(
                f"{jar}: is not what Kafka {KAFKA_VERSION} was released with: its SHA-256 is {digest}, expected is {wanted}; "
                f"remove it, its copy below ~/.m2/repository and {cache_folder() / 'jars'}, and start again"
            )
    if expected:
        raise EmbeddedError(
            f"Kafka {KAFKA_VERSION}: the jars {', '.join(sorted(expected))} are missing; "
            f"remove {cache_folder() / 'jars'} and start again"
        )


def _listed(file: Path) -> list[Path]:
    """Return the jars that an earlier start listed in this file; [] if the file or one of them is missing."""
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
    return sorted({*environment.class_path_jars, *environment.module_path_jars})
