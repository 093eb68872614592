"""Which senders may report verdicts and protection modes: by the header of a message, and by the settings without one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from schemas.events import ProtectionMode, Reason, Reject
from schemas.indicator_input import Given
from schemas.settings import CorrelationSettings, ProtectionSettings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from tests.factories import latest, listing
from tests.sample import SampleLine, sample
from tests.schemas.parsers.windows.windows_events import verdict_of
from tests.schemas.parsers.windows.windows_shippers import winlogbeat
from tests.windows_lines import connection_line, mode_line

LISTED = [Given(host) for host in ("bad1.example", "bad2.example", "bad3.test", "bad4.example", "bad5.example")]
FORGED_ALERT = {"action": "blocked", "signature": "forged", "category": "forged", "signature_id": 1}
VERDICT = (
    b'{"kind":"verdict","device":"dev","ts":"2026-11-24T19:07:28.614Z","local_ip":"10.0.0.1","local_port":1000,'
    b'"remote_ip":"10.9.9.9","remote_port":3128,"flow":"f","host":"bad.example","action":"blocked"}'
)
MODE = b'{"kind":"mode","device":"dev","ts":"2026-11-24T19:07:28.614Z","mode":"block"}'
REQUEST = (
    b'{"kind":"http","device":"dev","ts":"2026-11-24T19:07:28.614Z","local_ip":"10.0.0.1","local_port":1000,'
    b'"remote_ip":"10.9.9.9","remote_port":3128,"flow":"f","tx":0,"method":"GET","target":"http://bad.example/"}'
)


def forged(lines: Iterable[SampleLine]) -> bytes:
    """Return a verdict for each HTTP request of these lines, as if the device had blocked it."""
    records = [json.loads(line.value) for line in lines if line.dialect == "suricata"]
    requests = [record for record in records if record["event_type"] == "http"]
    return b"\n".join(json.dumps({**one, "event_type": "alert", "alert": FORGED_ALERT}).encode() for one in requests)


def outcome(*, claims: str | None, with_forged: bool) -> tuple[Counter[str], list[Reject]]:
    """Count requests of dev-c by kind of alert, and return the rejects, of the sample with forged verdicts after it."""
    pipeline = Pipeline(CorrelationSettings(), listing(*LISTED, modes=["dev-c=off"]))
    lines = [line for line in sample() if line.device == "dev-c"]
    for offset, line in enumerate(lines, 1):
        pipeline.take(Message(offset, 0, b"dev-c", line.value, line.dialect))
    if with_forged:
        headers = {"dialect": b"suricata"} | ({"claims": claims.encode()} if claims is not None else {})
        pipeline.take(Message.read(len(lines) + 1, 0, b"dev-c", forged(lines), headers))
    pipeline.finish()
    output = pipeline.drain()
    alerts = latest((json.loads(alert) for _, alert in output.alerts), "AlertId")
    counts: Counter[str] = Counter()
    for alert in alerts:
        counts[str(alert["Kind"])] += int(str(alert["Count"]))
    return counts, output.rejects


def test_forged_verdicts_change_nothing() -> None:
    """Verdicts from an input without that grant leave requests `not_enforced` and are rejects with their bytes."""
    honest, none = outcome(claims=None, with_forged=False)
    assert honest["not_enforced"]
    assert not none

    believed, _ = outcome(claims="verdicts", with_forged=True)
    assert believed["blocked"] > 0
    assert outcome(claims=None, with_forged=True)[0] == believed
    refused, rejects = outcome(claims="none", with_forged=True)
    assert refused == honest
    assert {reject.reason for reject in rejects} == {Reason.NOT_ALLOWED}
    assert all(b'"signature": "forged"' in reject.raw for reject in rejects)


@pytest.mark.parametrize(
    ("dialect", "line", "is_claim"),
    [
        ("sensor", VERDICT, True),
        ("sensor", MODE, True),
        ("sensor", REQUEST, False),
        ("winlog", mode_line("dev", 0, ProtectionMode.OFF), True),
        ("winlog", winlogbeat(1126, verdict_of()), True),
        ("winlog", connection_line("dev", 0, 1_000), False),
    ],
)
def test_what_is_a_claim(dialect: str, line: bytes, is_claim: bool) -> None:
    """Verdicts, with or without a connection, and modes are refused; everything else of the message is read."""
    message = Message.read(1, 1, b"dev", line, {"dialect": dialect.encode(), "claims": b"none", "device_from": b"key"})
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(message)
    rejects = pipeline.drain().rejects

    assert bool(rejects) == is_claim
    counts = pipeline.devices["dev"].state.counts
    assert (counts.get("parsed", 0), counts.get("rejected:not_allowed", 0)) == (int(not is_claim), int(is_claim))
    for reject in rejects:
        assert (reject.reason, reject.raw, reject.dialect, reject.device) == (
            Reason.NOT_ALLOWED, line, dialect, "dev",
        )  # fmt: skip
        assert (reject.keyed, reject.claims) == (True, "none")


def test_a_refused_line_moves_no_clock_and_makes_no_device() -> None:
    """A forged verdict about another device leaves no trace in its state."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message.read(1, 1, b"tap", VERDICT, {"dialect": b"sensor", "claims": b"none"}))

    assert set(pipeline.devices) == {"tap"}
    assert pipeline.devices["tap"].state.event_time == 0


@pytest.mark.parametrize(
    ("claims", "sensors", "believed"),
    [
        (None, None, True),
        (None, ["sensor"], True),
        (None, ["sensor@host:sensor"], True),
        (None, ["s*@host:*"], True),
        (None, ["suricata", "sensor@other:sensor"], False),
        (None, ["sensor@host"], False),
        (None, [], False),
        (b"verdicts", [], True),
        (b"none", None, False),
        (b"something new", None, False),
    ],
)
def test_without_a_grant_the_settings_name_trusted_senders(
    claims: bytes | None, sensors: list[str] | None, believed: bool
) -> None:
    """By dialect, or dialect and sensor; without a list every sender is. A header goes first; an unknown one grants nothing."""
    settings = ProtectionSettings() if sensors is None else ProtectionSettings(verdict_sensors=tuple(sensors))
    headers = {"dialect": b"sensor", "sensor": b"host:sensor"} | ({"claims": claims} if claims is not None else {})
    pipeline = Pipeline(CorrelationSettings(), Policy(settings))
    pipeline.take(Message.read(1, 1, b"dev", VERDICT, headers))

    assert (pipeline.drain().rejects == []) == believed


@pytest.mark.parametrize(("header", "foreign"), [(None, False), (b"log", True), (b"other", True)])
def test_a_sensor_of_several_devices_has_a_foreign_clock(header: bytes | None, foreign: bool) -> None:
    """The header sets `foreign_clock` of the message."""
    headers = {"dialect": b"sensor"} | ({"clock": header} if header is not None else {})

    assert Message.read(1, 1, b"dev", VERDICT, headers).foreign_clock == foreign
