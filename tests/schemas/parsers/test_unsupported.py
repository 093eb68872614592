"""Formats that are recognised and not read: the reject states so, why, and what to collect in their place."""

from __future__ import annotations

import json

import pytest

from schemas.events import Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS
from schemas.parsers.unsupported import UNSUPPORTED, unsupported
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.schemas.parsers.reading import read

RULE = "[1:2024468:3] ET POLICY x [**] [Classification: Misc] [Priority: 1] {TCP} 192.0.2.7:51000 -> 203.0.113.9:80"
FALCO = {
    "hostname": "dev-a",
    "output": "09:15:21.998311942: Notice Outbound connection (connection=192.0.2.7:51000->203.0.113.9:80)",
    "priority": "Notice",
    "rule": "Outbound connection",
    "source": "syscall",
    "time": "2025-03-04T09:15:21.998311942Z",
    "output_fields": {"fd.name": "192.0.2.7:51000->203.0.113.9:80"},
}
LINES: dict[str, list[str]] = {
    "Suricata's fast.log": [
        f"07/10/2022-23:50:05.533101  [**] {RULE}",
        f"07/10/2022-23:50:05.533101  [Drop] [**] {RULE}",
        f"10/05/10-10:08:59.667372  [**] {RULE}",
        f"08/28-12:00:00.123456  [**] {RULE}",
        f"<134>Jul 10 23:50:05 tap-1 suricata[7]: 07/10/2022-23:50:05.533101  [wDrop] [**] {RULE}",
        json.dumps({"message": f"07/10/2022-23:50:05.533101  [**] {RULE}", "host": {"name": "tap-1"}}),
    ],
    "Falco": [
        json.dumps(FALCO),
        json.dumps(FALCO, separators=(",", ":")),
        json.dumps({key: value for key, value in FALCO.items() if key != "output_fields"}),
        str(FALCO["output"]),
        f"Mar  4 09:15:21 dev-a falco[7]: {FALCO['output']}",
    ],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in LINES.items() for line in lines])
def test_a_line_is_refused_with_the_reason(name: str, line: str) -> None:
    """No dialect claims it, and the reject names the format."""
    raw = line.encode()
    found = NOBODYS.parse(raw)

    assert [dialect.name for dialect in dialects().values() if dialect.claims(raw)] == []
    assert isinstance(found, Reject)
    assert (found.reason, found.raw) == (Reason.UNSUPPORTED, raw)
    assert found.detail == f"{name} is not supported: {UNSUPPORTED[name][1]}"


@pytest.mark.parametrize("line", LINES["Suricata's fast.log"])
def test_fast_log_read_as_suricata_is_refused_alike(line: str) -> None:
    """As who names the dialect gives the wrong file of the right sensor."""
    found = read("suricata", line)

    assert isinstance(found, Reject)
    assert found.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize(
    "line",
    [
        "",
        "07/10/2022-23:50:05.533101 x",
        "[**] [1:2024468:3] x [**]",
        '{"rule":"a","priority":"high","output":"b"}',
        '{"rule":{"level":3},"priority":"Notice"}',
        "09:15:21: Notice x",
    ],
)
def test_other_lines_are_not_of_these_formats(line: str) -> None:
    """A line without the marks of a format stays unknown."""
    assert unsupported(line.encode()) is None
    assert isinstance(found := NOBODYS.parse(line.encode()), Reject)
    assert found.reason is Reason.UNKNOWN_DIALECT


def test_the_worker_states_so_as_well() -> None:
    """A line that a producer published as `auto` is rejected by the worker."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(1, 1, b"dev", "\n".join(LINES["Falco"]).encode(), AUTO))

    assert {reject.reason for reject in pipeline.drain().rejects} == {Reason.UNSUPPORTED}
