"""What Defender states in Windows events: its verdicts on destinations, and the modes of network protection."""

from __future__ import annotations

import pytest

from schemas.clock import iso_micros
from schemas.events import Action, ModeChanged, ModeEvidence, ProtectionMode, Reason
from schemas.parsers.windows.winlog import parse
from tests.schemas.parsers.parsed_as import kind, reject, verdict
from tests.schemas.parsers.windows.windows_events import verdict_of
from tests.schemas.parsers.windows.windows_shippers import shapes, winlogbeat, xml


@pytest.mark.parametrize("shape", shapes(1126, verdict_of()))
def test_one_verdict_in_every_shape(shape: str) -> None:
    """1126: who asked for what and when; no port, no PID."""
    event = verdict(parse(shapes(1126, verdict_of())[shape]))

    assert event.device == "ws-0142.corp.example"
    assert (event.action, event.host, event.port) == (Action.BLOCKED, "bad1.example", 0)
    assert event.url == "https://Bad1.example./a?b=c"
    assert (event.process.pid, event.process.name, event.process.account) == (None, "browser.exe", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:22.087000Z"
    assert event.event_id == "defender/1126/bad1.example/2025-03-04T09:15:22.087000Z"


def test_audited_is_not_blocked() -> None:
    """1125 would have blocked."""
    assert verdict(parse(xml(1125, verdict_of()))).action is Action.AUDITED


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("https://bad1.example", "bad1.example", 0),
        ("http://bad1.example:8080/x", "bad1.example", 8080),
        ("http://u:p@bad1.example/x@y:1", "bad1.example", 0),
        ("bad1.example", "bad1.example", 0),
        ("bad1.example:8443", "bad1.example", 8443),
        ("203.0.113.77", "203.0.113.77", 0),
        ("2001:DB8:0:0:0:0:0:77", "2001:db8::77", 0),
        ("https://[2001:db8::77]:8443/", "2001:db8::77", 8443),
        ("https://bücher.example/", "xn--bcher-kva.example", 0),
    ],
)
def test_what_was_asked_for(written: str, host: str, port: int) -> None:
    """A URL, a host name or an address; a port only where it is written."""
    event = verdict(parse(winlogbeat(1126, verdict_of(Destination=written))))

    assert (event.host, event.port) == (host, port)


def test_verdict_without_its_own_time_or_destination() -> None:
    """A detection time that may be local is not believed; without a destination there is no verdict."""
    local = verdict(parse(winlogbeat(1126, verdict_of(Detection_Time="04.03.2025 10:15:22"))))
    assert iso_micros(local.at) == "2025-03-04T09:15:22.345000Z"
    assert reject(parse(winlogbeat(1126, verdict_of(Destination="-")))).reason is Reason.INCOMPLETE
    assert reject(parse(winlogbeat(1126, verdict_of(Destination="https://")))).reason is Reason.BAD_VALUE


DEFENDER = r"HKLM\SOFTWARE\Microsoft\Windows Defender"
NETWORK_PROTECTION = rf"{DEFENDER}\Windows Defender Exploit Guard\Network Protection\EnableNetworkProtection"
POLICY = r"HKLM\SOFTWARE\Policies\Microsoft\Windows Defender\Policy Manager\EnableNetworkProtection"


@pytest.mark.parametrize(
    ("old", "new", "before", "mode"),
    [
        (f"{NETWORK_PROTECTION} = 0x2", f"{NETWORK_PROTECTION} = 0x1", ProtectionMode.AUDIT, ProtectionMode.BLOCK),
        (f"{NETWORK_PROTECTION} = 0x1", f"{NETWORK_PROTECTION} = 0x0", ProtectionMode.BLOCK, ProtectionMode.OFF),
        ("", f"{POLICY} = 0x2", None, ProtectionMode.AUDIT),
        (None, f"{NETWORK_PROTECTION} = 1", None, ProtectionMode.BLOCK),
        (
            r"Default\EnableNetworkProtection = 0x0",
            f"{NETWORK_PROTECTION} = 0x1",
            ProtectionMode.OFF,
            ProtectionMode.BLOCK,
        ),
        (f"{NETWORK_PROTECTION} = 0x1", "", ProtectionMode.BLOCK, ProtectionMode.OFF),
    ],
)
@pytest.mark.parametrize("spelling", ["{} Value", "{}_Value", "{}Value"])
def test_mode_changes(
    old: str | None, new: str, before: ProtectionMode | None, mode: ProtectionMode, spelling: str
) -> None:
    """5007 with the old and the new value; a value that is taken away is as if it had never been set."""
    values = {"Product Name": "Microsoft Defender Antivirus", spelling.format("Old"): old, spelling.format("New"): new}
    for shape, line in shapes(5007, {name: value or "" for name, value in values.items()}).items():
        event = parse(line)
        assert isinstance(event, ModeChanged), shape
        assert (event.before, event.mode, event.evidence) == (before, mode, ModeEvidence.DEFENDER_SETTING)
        assert iso_micros(event.at)[:23] == "2025-03-04T09:15:22.345"


def test_other_settings_are_no_modes() -> None:
    """Also those that are called nearly so."""
    for setting in (r"HKLM\SOFTWARE\X\AllowNetworkProtectionOnWinServer", r"HKLM\EnableNetworkProtection\Paths\F:\a=b"):
        values = {"Old Value": f"{setting} = 0x0", "New Value": f"{setting} = 0x1"}
        assert kind(parse(xml(5007, values))) == "defender_5007"
    unknown = reject(parse(xml(5007, {"New Value": f"{NETWORK_PROTECTION} = 0x7"})))
    assert (unknown.reason, "0x7" in unknown.detail) == (Reason.BAD_VALUE, True)
