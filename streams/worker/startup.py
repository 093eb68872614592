"""Steps before Faust starts: lock the data folder, and wait until Kafka lists every topic with all of its leaders.

Otherwise a worker that starts while the broker still loads gets no partitions and idles for minutes, and a worker without a
broker ends after two seconds. The wait logs what it waits for and can be interrupted at any moment.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from common.kafka import Door, client_config
from common.throttle import Throttle
from schemas.settings import Settings, SettingsError
from schemas.topics import INDICATORS, STATE_CHANGELOG, TABLE_OF_TOPIC, TELEMETRY, topic_name
from streams.worker.guards.lease import sweep

log = logging.getLogger(__name__)

NAMES = (TELEMETRY, *TABLE_OF_TOPIC, STATE_CHANGELOG)
GOOD_ANSWERS = 3
ROUND_SECS = 0.2
ASK_SECS_MAX = 0.5
"""Short, as signals are handled only between two requests."""
LOG_SECS = 5.0


def own_folder(folder: Path) -> int:
    """Create the data folder and lock it for this process; return the lock's file descriptor, to be kept open.

    First delete the folders that earlier processes put aside, as the disk may be full until then. Raises SettingsError if another
    worker uses the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_name(folder.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SettingsError(f"worker.data_dir: {folder} is in use by another worker; give each its own") from None
    sweep(folder)
    folder.mkdir(exist_ok=True)
    return lock


def wait_for_kafka(settings: Settings) -> int:
    """Wait until all topics are ready; return their number of partitions."""
    door = Door(settings.kafka.bootstrap)
    config: dict[str, Any] = {**client_config(settings.kafka), "log_level": 0, "error_cb": door.note}
    admin = AdminClient(config)
    good = 0
    throttle = Throttle(LOG_SECS)
    while good < GOOD_ANSWERS:
        partitions, missing = _look(admin, settings)
        good = 0 if missing else good + 1
        if missing and throttle.due():
            admin.poll(0)
            log.warning("waiting for Kafka at %s: %s", settings.kafka.bootstrap, door.words() or missing)
        if good < GOOD_ANSWERS:
            time.sleep(ROUND_SECS)
    return partitions


def _look(admin: AdminClient, settings: Settings) -> tuple[int, str]:
    """Return the number of partitions, and a text that states what is still missing ("" if nothing is)."""
    try:
        topics: dict[str, Any] = admin.list_topics(timeout=ASK_SECS_MAX).topics
    except KafkaException as error:
        return 0, f"{str(error.args[0].str()).lower()}; start it, or set kafka.bootstrap"
    wanted = 0
    names = [topic_name(settings, short) for short in NAMES]
    for name in (*names, topic_name(settings, INDICATORS)):
        if name not in topics:
            return 0, f"topic {name} is missing; run `unproxy topics --create`"
    for name in names:
        partitions = topics[name].partitions
        wanted = wanted or len(partitions)
        if len(partitions) != wanted:
            return 0, f"topic {name} has {len(partitions)} partitions, the input has {wanted}; it needs the same number"
        if not all(partition.leader >= 0 for partition in partitions.values()):
            return 0, f"topic {name} has a partition without a leader"
    return wanted, ""
