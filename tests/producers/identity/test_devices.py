"""The device of a line from a sender with a grant."""

from __future__ import annotations

from collections import Counter

import pytest

from producers.identity.devices import Devices, Named
from producers.sources.grants import Grant
from producers.sources.source import Line, SourceFile
from schemas.sections.inputs import IdentitySettings

ENDPOINT = Grant("ws-1", ("ws-1",), verdicts=False)
LAB = Grant("lab", ("ws-*", "srv-1"), verdicts=False)
TAP = Grant("tap", ("*",), verdicts=False)
SENSOR = "host:eve.json"


def named(device: str, grant: Grant | None, *, given: str = "") -> Named:
    """The device of a Suricata line that calls itself so; "" names none."""
    host = f',"host":"{device}"' if device else ""
    value = f'{{"timestamp":"2026-11-24T09:30:00.000000+0000","event_type":"stats"{host}}}'.encode()
    file = SourceFile("suricata", "eve.json", SENSOR, grant=grant)
    settings = IdentitySettings(domains=("corp.example",))
    devices = Devices(settings, Counter(), clock=lambda: 0.0, given=given)
    return devices.of(Line("suricata", SENSOR, value, file, 0, len(value), 0))


@pytest.mark.parametrize("device", ["ws-1", "WS-1", "WS-1.corp.example"])
def test_a_device_reports_on_itself(device: str) -> None:
    """Whatever it calls itself: what counts is the DeviceId."""
    assert named(device, ENDPOINT) == Named("ws-1", True)


def test_a_line_about_another_device_is_refused() -> None:
    """The words state which grant and which device."""
    refused = named("ws-2", ENDPOINT)

    assert (refused.device, refused.names_device) == ("ws-2", True)
    assert refused.refused == 'grant "ws-1" does not allow reports on device "ws-2"'
    assert named("ws-2", LAB).refused == ""
    assert named("db-1", LAB).refused
    assert named("db-1", TAP) == named("db-1", None) == Named("db-1", True)


def test_a_line_that_names_no_device_is_about_the_one_of_the_grant() -> None:
    """It counts as naming it, so that the worker does not look for another name in it; before what `--device` gives."""
    assert named("", ENDPOINT) == named("", ENDPOINT, given="ws-2") == Named("ws-1", True)
    assert named("x" * 300, ENDPOINT) == Named("ws-1", True)


def test_without_one_device_a_line_must_name_an_allowed_one() -> None:
    """The sensor that stands in for the device is not among those of a grant, one given with `--device` may be."""
    assert named("", LAB).refused == f'grant "lab" does not allow reports on device "{SENSOR}"'
    assert named("", LAB, given="srv-1") == Named("srv-1", True)
    assert named("", TAP) == named("", None) == Named(SENSOR, False)
