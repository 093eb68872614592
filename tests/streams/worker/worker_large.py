"""A worker with the real pipeline as a process of its own, which dies once between the parts of a checkpoint.

Settings as JSON on stdin. A file `dies-within` beside its data folder names `snapshot` or `delta`: the worker removes it and
kills itself when the third of four or more parts of such a checkpoint has reached the changelog.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import msgspec
from aiokafka.errors import KafkaError

from schemas.settings import Settings
from schemas.topics import STATE_CHANGELOG, topic_name
from streams.worker.app import run
from streams.worker.delivery import Delivery, OutgoingRecord, Receipt


def _die_between_parts(changelog: str, dies_within: Path) -> None:
    hand_over = Delivery._hand_over

    async def hand_over_or_die(delivery: Delivery, outgoing: OutgoingRecord) -> Awaitable[Receipt] | KafkaError:
        future = await hand_over(delivery, outgoing)
        if outgoing.topic != changelog or not dies_within.exists():
            return future
        _version, _sequence, _facts, _items, part, parts, snapshot, *_ = msgspec.msgpack.decode(outgoing.value)
        kind = "snapshot" if snapshot else "delta"
        if part == 2 and parts > 3 and kind == dies_within.read_text():
            assert not isinstance(future, KafkaError)
            await future
            print(f"dies within a {kind} of {parts} parts", flush=True)
            dies_within.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return future

    Delivery._hand_over = hand_over_or_die  # type: ignore[assignment,method-assign]  # to die at a chosen moment


if __name__ == "__main__":
    settings = Settings.model_validate_json(sys.stdin.read())
    _die_between_parts(topic_name(settings, STATE_CHANGELOG), Path(settings.worker.data_dir).with_name("dies-within"))
    run(settings)
