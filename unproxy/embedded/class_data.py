"""Java's classes laid out once (class data sharing), which halves the broker's start.

Two files in the cache folder: one with the classes of the Java runtime, made here in half a second, and one with the
broker's on top, which Java writes when a broker ends that was started without it.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import uuid
from pathlib import Path

from unproxy.embedded.jars import KAFKA_VERSION, cache_folder
from unproxy.embedded.service import locked

log = logging.getLogger(__name__)

TARGET = "-XX:ArchiveClassesAtExit="


def class_data_options(java: Path) -> list[str]:
    """Options for this `java`: to use the files, or to make the one that is missing."""
    runtime, broker = _files(java)
    with locked(cache_folder() / "class-data.lock"):
        if not runtime.exists() and not _lay_out_runtime(java, runtime):
            return []
    if broker.exists():
        return [f"-XX:SharedArchiveFile={runtime}:{broker}"]
    return [f"-XX:SharedArchiveFile={runtime}", f"{TARGET}{broker}.{uuid.uuid4().hex}.new"]


def keep_class_data(java: Path, options: list[str]) -> None:
    """Put what a broker with these options wrote at its end where later ones look for it."""
    for option in options:
        written = Path(option.removeprefix(TARGET))
        if option.startswith(TARGET) and written.exists():
            written.replace(_files(java)[1])


def _files(java: Path) -> tuple[Path, Path]:
    """Named after the very runtime: Java refuses files that another one made, even one that only lies elsewhere."""
    modules = java.parent.parent / "lib" / "modules"
    seen = modules.stat()
    which = hashlib.sha256(f"{modules} {seen.st_size} {seen.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder()
    return folder / f"java-{which}.jsa", folder / f"kafka-{KAFKA_VERSION}-{which}.jsa"


def _lay_out_runtime(java: Path, file: Path) -> bool:
    for old in cache_folder().glob("*.jsa*"):  # of runtimes that were replaced; some 60 MB each
        old.unlink(missing_ok=True)
    fresh = file.with_suffix(".jsa.new")
    command = [str(java), "-Xshare:dump", f"-XX:SharedArchiveFile={fresh}", "-XX:+UseSerialGC"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not fresh.exists():
        log.warning("class data could not be made, starts take longer", extra={"error": done.stdout[-400:]})
        return False
    fresh.replace(file)
    return True
