"""The parts of the embedded pipeline: their commands, and the settings that they run with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from schemas.settings import CONFIG_VARIABLE, PREFIX, ClickHouseSettings, KafkaSettings, Settings
from schemas.settings_file import dump
from unproxy.local import meter
from unproxy.local.folder import Folder
from unproxy.local.servers.child import python_path
from unproxy.local.servers.service import free_port
from unproxy.local.supervisor import Part

EXIT_CALLED_WRONGLY = 2
WORKER_STOP_SECS = 3.0
"""Seconds that a worker may take to stop. The supervisor kills it after `PARTS_STOP_SECS`, which is longer."""
SESSION_TIMEOUT_SECS = 6.0
"""Session timeout of the group members; shorter than in a fleet, because no network delays their heartbeats."""


def embedded_settings(
    theirs: Settings, folder: Folder, kafka: KafkaSettings, clickhouse: ClickHouseSettings
) -> Settings:
    """Return the user's settings with Kafka, ClickHouse and all folders replaced by the embedded ones."""
    root = folder.path.absolute()
    return Settings.model_construct(
        kafka=kafka,
        clickhouse=clickhouse,
        correlation=theirs.correlation,
        log=theirs.log,
        protection=theirs.protection,
        identity=theirs.identity,
        publisher=theirs.publisher.model_copy(
            update={"state_dir": str(root / "producer"), "metrics_port": 0, "metrics_host": "127.0.0.1"}
        ),
        worker=theirs.worker.model_copy(
            update={
                "group": "unproxy",
                # For a further worker that the user starts with this file: no worker of `up` has this name and folder.
                "name": "worker-extra",
                "data_dir": str(root / "worker-extra"),
                "stop_secs_max": WORKER_STOP_SECS,
                "session_timeout_secs": SESSION_TIMEOUT_SECS,
                "standby_replicas": 0,
                "metrics_port": 0,
                "metrics_host": "127.0.0.1",
            }
        ),
        sink=theirs.sink.model_copy(
            update={"group": "unproxy-sink", "name": "", "metrics_port": 0, "metrics_host": "127.0.0.1"}
        ),
    )


def write_settings(settings: Settings, file: Path) -> None:
    """Write the settings to a file for the parts and the user. It has the logins, so only its owner may read it."""
    fresh = file.with_suffix(".new")
    text = "# Written by `unproxy up` at each start: what its parts run with. Use it with --config.\n\n"
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text + dump(settings, secrets=True))
    fresh.replace(file)


def workers(folder: Folder, count: int) -> dict[int, Part]:
    """Return `count` workers, by the port of their metrics page."""
    found = {}
    for number in range(1, count + 1):
        name, port = f"worker-{number}", free_port()
        own = {
            f"{PREFIX}WORKER__NAME": name,
            f"{PREFIX}WORKER__DATA_DIR": str(folder.path.absolute() / name),
            f"{PREFIX}WORKER__METRICS_PORT": str(port),
        }
        found[port] = _part(folder, name, ["worker"], own)
    return found


def sink(folder: Folder) -> Part:
    """Return the part that runs the sink."""
    return _part(folder, "sink", ["sink"], {f"{PREFIX}SINK__NAME": "sink-1"})


def producer(folder: Folder, files: Sequence[str], report: Path) -> Part:
    """Return the part that publishes the files; it ends when they are sent, and writes its progress to `report`."""
    part = _part(folder, "producer", ["produce", "--report", str(report), *files], {})
    part.finished = lambda code: code in (0, EXIT_CALLED_WRONGLY) or meter.report(report).get("finished") is True
    return part


def _part(folder: Folder, name: str, arguments: list[str], own: dict[str, str]) -> Part:
    # The settings file is complete and includes the user's UNPROXY_* variables, so they are not passed on.
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(PREFIX)}
    ours = {CONFIG_VARIABLE: str(folder.settings.absolute()), "PYTHONPATH": python_path(kept)}
    environment = {**kept, **ours, **own}
    return Part(name, arguments, environment, folder.logs / f"{name}.log")
