"""Sources on the network take turns, with each other and with files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Message

from producers.network.inputs import TURN_LINES_MAX, in_turns
from producers.sources.source import Line, SourceError, SourceFile
from schemas.settings import Settings
from schemas.topics import TELEMETRY
from tests.producers.network.test_http import listens, post
from tests.producers.running import Running, lines_of
from tests.streams.worker.worker_process import wait_until
from unproxy import wiring
from unproxy.local.servers.service import free_port

FILE = SourceFile("auto", "x", "x")


def stream(name: bytes, *counts: int) -> Iterator[Line | None]:
    """So many lines, then none now, and so on; none for ever at the end."""
    for count in counts:
        for number in range(count):
            yield Line("auto", "x", name + b"%d" % number, FILE, 0, 0, 0)
        yield None
    while True:
        yield None


def test_turns() -> None:
    """Each gives what it has, up to a bound; only where none has anything there is a pause."""
    given = in_turns([stream(b"a", 2, 0, 1), stream(b"b", 1)])

    assert [line and line.value for line in islice(given, 6)] == [b"a0", b"a1", b"b0", None, b"a0", None]


def test_a_flood_leaves_the_others_their_turn() -> None:
    """Who always has lines gives a thousand at a time."""
    given = in_turns([stream(b"a", 10 * TURN_LINES_MAX), stream(b"b", 1)])
    values = [line.value for line in islice(given, TURN_LINES_MAX + 1) if line is not None]

    assert values[-1] == b"b0"
    assert len(values) == TURN_LINES_MAX + 1


def test_a_file_beside_the_network(
    kafka_settings_for: Callable[..., Settings],
    messages_of: Callable[[Settings, str], list[Message]],
    tmp_path: Path,
    eve: Callable[..., bytes],
    write: Callable[[Path, Iterable[bytes]], None],
) -> None:
    """A followed file and requests arrive, whichever comes first."""
    settings, port = (
        kafka_settings_for(inputs={"grants": {"test": {"token": "a-token-of-this-test", "devices": ["*"]}}}),
        free_port(),
    )
    write(tmp_path / "log", [eve(1)])
    with Running(settings, f"auto:http://127.0.0.1:{port}", f"suricata:{tmp_path}/log", follow=True) as one:
        wait_until(lambda: listens(port), "listening")
        assert post(port, eve(2))[0] == 204
        write(tmp_path / "log", [eve(3)])
        wait_until(lambda: one.report.acknowledged_messages == 3, "the file's second line")

    assert sorted(lines_of(messages_of(settings, TELEMETRY))) == [eve(1), eve(2), eve(3)]


def test_recordings_are_files() -> None:
    """`replay` and `up` name the verb that takes what comes over the network."""
    with pytest.raises(SourceError, match="`unproxy produce` takes"):
        wiring.sources(["auto:http://127.0.0.1:1/"])
