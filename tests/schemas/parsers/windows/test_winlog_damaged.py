"""Windows events that make no sense, are damaged, forged or none at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.clock import iso_micros
from schemas.events import Reason, Reject
from schemas.parsers.windows.shippers import split
from schemas.parsers.windows.winlog import DIALECT, device_of, parse, written_at
from tests.schemas.parsers.parsed_as import opened, reject
from tests.schemas.parsers.windows.windows_events import filtering, sysmon
from tests.schemas.parsers.windows.windows_shippers import shapes, xml


@pytest.mark.parametrize(
    ("number", "values", "reason"),
    [
        (3, sysmon(SourceIp=None), Reason.INCOMPLETE),
        (3, sysmon(DestinationPort="-"), Reason.INCOMPLETE),
        (3, sysmon(Initiated=None), Reason.INCOMPLETE),
        (3, sysmon(Initiated="perhaps"), Reason.BAD_VALUE),
        (3, sysmon(DestinationPort="65536"), Reason.BAD_VALUE),
        (3, sysmon(DestinationPort="0"), Reason.BAD_VALUE),
        (3, sysmon(SourceIp="nowhere"), Reason.BAD_VALUE),
        (3, sysmon(ProcessId="-7"), Reason.BAD_VALUE),
        (5156, filtering(Direction="sideways"), Reason.BAD_VALUE),
        (5156, filtering(Protocol=""), Reason.INCOMPLETE),
    ],
)
def test_what_makes_no_sense_is_rejected(number: int, values: dict[str, Any], reason: Reason) -> None:
    """In every shape for the same reason, and with its bytes."""
    for shape, line in shapes(number, values).items():
        found = reject(parse(line))
        assert (found.reason, found.raw) == (reason, line), shape


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"timestamp":"2026-11-24T19:07:28.397055+0000","event_type":"dns","host":"a"}', Reason.INCOMPLETE),
        (b'{"EventID":"x","Hostname":"a"}', Reason.BAD_VALUE),
        (b'{"winlog":[]}', Reason.BAD_VALUE),
        (b'{"winlog":{"event_id":3', Reason.MALFORMED),
        (b"<Event><System><EventID>3</EventID>", Reason.MALFORMED),
        (b"plain text", Reason.MALFORMED),
    ],
)
def test_what_is_no_event_is_rejected(line: bytes, reason: Reason) -> None:
    """Another sensor's line, damage, anything else."""
    assert reject(parse(line)).reason is reason
    assert device_of(line) == ""
    assert written_at(line) == 0


def test_time_in_a_command_line_is_no_time() -> None:
    """What a program is called with must not move the device's clock."""
    text = 'x "UtcTime":"2199-01-01 00:00:00.000" \\"UtcTime\\":\\"2199-01-01 00:00:00.000\\" UtcTime: 2199-01-01 00:00:00.000'
    for shape, line in shapes(3, {"CommandLine": text, **sysmon()}).items():
        assert iso_micros(opened(parse(line)).at) == "2025-03-04T09:15:21.998000Z", shape


def test_xml_expands_nothing() -> None:
    """No entity is defined, no file is read; the five that XML knows and numbers are what they are."""
    bomb = b'<!DOCTYPE Event [<!ENTITY a "SYSTEM"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    line = bomb + xml(3, sysmon(User="&a;&b;", Image="C:\\R&amp;D &#60;x&#x3e;&#xD800;&amp;lt;.exe"))
    event = opened(parse(line))

    assert event.process.account == "&a;&b;"
    assert event.process.name == "R&D <x>�&lt;.exe"
    assert reject(parse(xml(3, sysmon(User="<![CDATA[x]]>")))).reason is Reason.MALFORMED


def test_an_end_that_syslog_cut_off() -> None:
    """A datagram holds some 2,000 bytes: what is before the cut counts, and what is missing is missing."""
    line = xml(3, sysmon(User=None))
    assert opened(parse(line[: line.index(b"</EventData>")])).process.pid == 7412
    assert reject(parse(line[: line.index(b'<Data Name="DestinationPort">')])).reason is Reason.INCOMPLETE


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_xml_is_a_value(data: st.DataObject) -> None:
    """Bytes cut out of an event, doubled or exchanged: never an exception."""
    line = xml(3, sysmon(Image="C:\\R&amp;D.exe"))
    begin, end = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(line))])))
    damaged = line[:begin] + data.draw(st.binary(max_size=20) | st.just(line[begin:end] * 2)) + line[end:]
    DIALECT.written_at(damaged)
    DIALECT.device_of(damaged)
    assert b"".join(split(2 * damaged)) == 2 * damaged
    parsed = DIALECT.parse(damaged)

    assert not isinstance(parsed, Reject) or parsed.raw == damaged
