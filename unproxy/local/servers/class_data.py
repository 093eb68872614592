"""Java's class data sharing: archives of prepared classes, which halve the start time of the broker.

There are two archives in the cache folder: one of the Java runtime's classes, and one of the broker's, which needs the
first. Both are made at the first start on a machine, in about 5 s. Java writes the second archive when a broker ends,
so a broker is started and stopped only for this.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

from unproxy.local.servers.jars import KAFKA_VERSION, cache_folder
from unproxy.local.servers.service import locked

log = logging.getLogger(__name__)


def class_data_options(java: Path, live_once: Callable[[list[str]], bool]) -> list[str]:
    """Return the options by which this `java` uses the archives; create missing ones. [] if that is not possible.

    `live_once` starts and stops a broker with the given options, and returns whether it ended in time.
    """
    runtime, broker = _files(java)
    with locked(cache_folder() / "class-data.lock"):
        if not runtime.exists() and not _lay_out_runtime(java, runtime):
            return []
        if not broker.exists():
            fresh = broker.with_suffix(".jsa.new")
            ended = live_once([f"-XX:SharedArchiveFile={runtime}", f"-XX:ArchiveClassesAtExit={fresh}"])
            if not ended or not fresh.exists():
                log.warning("class data of the broker could not be made, starts take longer")
                return [f"-XX:SharedArchiveFile={runtime}"]
            fresh.replace(broker)
    return [f"-XX:SharedArchiveFile={runtime}:{broker}"]


def _files(java: Path) -> tuple[Path, Path]:
    """Return the paths of the two archives. Their names identify the runtime.

    Java refuses the archives of another runtime, even of a copy in another folder.
    """
    modules = java.parent.parent / "lib" / "modules"
    seen = modules.stat()
    which = hashlib.sha256(f"{modules} {seen.st_size} {seen.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder()
    return folder / f"java-{which}.jsa", folder / f"kafka-{KAFKA_VERSION}-{which}.jsa"


def _lay_out_runtime(java: Path, file: Path) -> bool:
    for old in cache_folder().glob("*.jsa*"):  # archives of earlier runtimes, about 60 MB each
        old.unlink(missing_ok=True)
    fresh = file.with_suffix(".jsa.new")
    command = [str(java), "-Xshare:dump", f"-XX:SharedArchiveFile={fresh}", "-XX:+UseSerialGC"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not fresh.exists():
        log.warning("class data of Java could not be made, starts take longer", extra={"error": done.stdout[-400:]})
        return False
    fresh.replace(file)
    return True
