"""The shapes in which shippers write Windows events, and what carries them; of some no free record was found."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from schemas.clock import iso_micros
from schemas.events import Reason
from schemas.parsers import dialects
from schemas.parsers.common.envelopes import DEPTH_MAX
from schemas.parsers.windows.event_xml import EVENTS_MAX, head
from schemas.parsers.windows.record import FilteredConnection, Shown, SysmonConnection, SysmonProcess
from schemas.parsers.windows.shippers import _WithValues, split
from schemas.parsers.windows.shown_text import values_of
from schemas.parsers.windows.winlog import DIALECT, device_of, parse
from tests.schemas.parsers.parsed_as import kind, opened, reject, reported
from tests.schemas.parsers.windows.windows_events import created, filtering, sysmon, verdict_of
from tests.schemas.parsers.windows.windows_shippers import (
    PROVIDERS,
    flat,
    in_text,
    shapes,
    shown,
    wazuh,
    winlogbeat,
    xml,
)


@pytest.mark.parametrize("number", [1, 3, 5156, 1126])
def test_every_shape_is_claimed_by_unknown_else(number: int) -> None:
    """`auto:` finds each shape, in whatever it is carried."""
    values = {1: created(), 3: sysmon(), 5156: filtering(), 1126: verdict_of()}[number]
    for shape, line in shapes(number, values).items():
        assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["winlog"], shape


@pytest.mark.parametrize(
    ("written", "is_at"),
    [
        ("2025-03-04 09:15:21.998", "2025-03-04T09:15:21.998000Z"),
        ("2025-03-04T09:15:21.9980001Z", "2025-03-04T09:15:21.998000Z"),
        ("2025-03-04T09:15:21.998000100Z", "2025-03-04T09:15:21.998000Z"),
        ("2025-03-04 09:15:21", "2025-03-04T09:15:21.000000Z"),
        ("2025-03-04T09:15:21Z", "2025-03-04T09:15:21.000000Z"),
    ],
)
def test_times_in_several_forms(written: str, is_at: str) -> None:
    """Three to nine decimals or none, with T or a space, with Z or without."""
    for shape, line in shapes(3, sysmon(UtcTime=written)).items():
        assert iso_micros(opened(parse(line)).at) == is_at, shape


def test_times_of_fluent_bit_report_their_zone() -> None:
    """`TimeCreated` is local time, the zone behind it."""
    reported_at = {"TimeCreated": "2025-03-04 04:15:22 -0500"}
    line = in_text(5156, filtering(), "Message", StringInserts=["812"], **reported_at)

    assert iso_micros(opened(parse(line)).at) == "2025-03-04T09:15:22.000000Z"


def test_events_in_a_list() -> None:
    """Fluent Bit's outputs send lists, of which each event is a line of its own."""
    one, other = in_text(3, sysmon(), "Message"), winlogbeat(3, sysmon(SourcePort="52818"))
    line = b"[" + one + b"," + other + b"]"

    assert DIALECT.claims(line)
    assert [opened(parse(row)).flow.local_port for row in split(line)] == [52817, 52818]
    assert split(b"[1,2]") == [b"[1,2]"]


def test_columns_of_snare() -> None:
    """Behind a syslog header or not; tabs may be spelled. Its times are local, so Sysmon's own counts."""
    text = shown(3, sysmon(RuleName="")).replace("\r\n", "  ")
    provider, channel = PROVIDERS[3]
    columns = ["MSWinEventLog", "1", channel, "20977", "Tue Mar  4 10:15:22 2025", "3", provider, "SYSTEM", "User"]
    line = "\t".join([*columns, "Information", "WS-0142.corp.example", "Network connection", "", text, "3385599"])
    for written in (f"relay {line}", f"<14>Mar  4 10:15:22 relay {line}".replace("\t", "#011")):
        event = opened(parse(written.encode()))
        assert DIALECT.claims(written.encode())
        assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
        assert (event.device, event.process.pid, event.process.account) == ("ws-0142.corp.example", 7412, "a.meyer")
        assert iso_micros(event.at) == "2025-03-04T09:15:21.998000Z"
    assert reject(parse(b"<14>Mar  4 10:15:22 relay MSWinEventLog\t1\tSecurity")).reason is Reason.MALFORMED


@pytest.mark.parametrize(("number", "values"), [(3, sysmon()), (5156, filtering())])
def test_text_of_splunks_forwarder(number: int, values: dict[str, Any]) -> None:
    """An event as text, in the envelope of a search. Its time is local, so Sysmon's own counts."""
    provider, channel = PROVIDERS[number]
    head = ["03/04/2025 09:15:22 AM", f"LogName={channel}", f"SourceName={provider}", f"EventCode={number}"]
    text = "\n".join(
        [*head, "Type=Information", "ComputerName=WS-0142.corp.example", f"Message={shown(number, values)}"]
    )
    line = json.dumps({"preview": False, "result": {"_raw": text}}).encode()
    event = opened(parse(line))

    assert DIALECT.claims(line)
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert event.device == device_of(line) == "ws-0142.corp.example"
    assert iso_micros(event.at)[:19] == ("2025-03-04T09:15:21" if number == 3 else "2025-03-04T09:15:22")


def test_a_text_in_one_line_has_no_headings_in_its_values() -> None:
    """The filtering platform's text has headings between its values."""
    text = " ".join(shown(5156, filtering()).split())
    event = opened(parse(in_text(5156, {}, "Description", Message=text)))

    assert event.process.path == "\\device\\harddiskvolume2\\windows\\system32\\svchost.exe"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"


def test_values_of_wazuh_are_escaped_twice() -> None:
    """Unless a user wrote the line by hand: then a lone backslash shows it."""
    path, quoted = "C:\\Windows\\a.exe", '"C:\\a b.exe" \\\\share\\x'
    process = reported(parse(json.dumps(wazuh(1, created(Image=path, CommandLine=quoted))).encode())).process
    assert (process.path, process.command_line) == (path, quoted)
    by_hand = wazuh(1, created())
    by_hand["win"]["eventdata"]["image"] = "\\\\share\\a.exe"
    assert reported(parse(json.dumps(by_hand).encode())).process.path == "\\\\share\\a.exe"


def test_carriers_are_not_opened_for_ever() -> None:
    """An event lies in at most so many of them."""
    line = winlogbeat(3, sysmon())
    for _ in range(DEPTH_MAX):
        line = json.dumps({"message": line.decode()}).encode()
    assert opened(parse(line)).process.pid == 7412
    assert reject(parse(json.dumps({"message": line.decode()}).encode())).reason is Reason.INCOMPLETE


def test_events_of_one_line_are_taken_apart() -> None:
    """Event Viewer exports all events in one line: each is read, and no byte of it vanishes."""
    prolog, events = b'<?xml version="1.0"?><Events>', [xml(3, sysmon(SourcePort=str(port))) for port in (1, 2, 3)]
    line = prolog + b" ".join(events) + b"</Events>\r"
    pieces = split(line)

    assert b"".join(pieces) == line
    assert [opened(parse(piece)).flow.local_port for piece in pieces] == [1, 2, 3]
    assert len(split(prolog + events[0] + events[1][:-100])) == 2


@pytest.mark.parametrize("begin", ["Provider", "EventID", "Computer"])
def test_system_in_another_order(begin: str) -> None:
    """What stands before the time is remembered of events that begin alike; who wrote them may stand behind it."""
    line = re.sub("<Channel>[^<]*", "<Channel>ForwardedEvents", xml(3, sysmon()).decode())
    head, _, rest = line.partition("<System>")
    system, _, data = rest.partition("</System>")
    time, others = re.findall(r"<TimeCreated[^>]*>", system)[0], re.sub(r"<TimeCreated[^>]*>", "", system)
    before, _, behind = others.partition(f"<{begin}")
    other = f"{head}<System>{before}{time}<{begin}{behind}</System>{data}".encode()

    assert parse(other) == parse(line.encode())


def test_a_provider_is_read_to_its_end() -> None:
    """One whose name holds what stands before the time is another one, whatever its name begins with."""
    name = b"Microsoft-Windows-SysmonX<TimeCreated SystemTime="
    line = xml(3, sysmon()).replace(b"Microsoft-Windows-Sysmon", name, 1)

    assert head(line).author == name.decode()


@pytest.mark.parametrize("shape", shapes(3, sysmon()))
def test_one_event_stays_whole(shape: str) -> None:
    """Whatever a program is called; XML and JSON escape it."""
    line = shapes(3, sysmon(Image="C:\\&lt;/Event&gt;&lt;Event&gt;.exe" if "xml" in shape else "C:\\<Event>.exe"))[
        shape
    ]

    assert split(line) == [line]


def test_events_of_one_line_are_not_mixed() -> None:
    """What cannot be taken apart, without ends or of too many events, is rejected as a whole rather than mixed up."""
    many = (EVENTS_MAX + 1) * b"<Event><System></System></Event>"
    for line in (2 * xml(3, sysmon()).replace(b"</Event>", b""), many):
        assert split(line) == [line]
        assert "more than one" in reject(parse(line)).detail


def test_values_beside_the_number_are_decoded_with_it() -> None:
    """All that any kind of event has."""
    for form in (SysmonConnection, SysmonProcess, FilteredConnection, Shown):
        assert set(form.__struct_fields__) <= set(_WithValues.__struct_fields__)


def test_what_is_called_like_a_value_may_be_anything() -> None:
    """In events that are not for us, and where the values stand elsewhere; where they are needed it is a reject."""
    strange = {"User": {"Name": "a.meyer"}, "Direction": ["in", "out"]}

    assert kind(parse(flat(3, sysmon(**strange), EventID=22))) == "sysmon_22"
    assert opened(parse(flat(3, {}, EventData=sysmon(), **strange))).process.account == "a.meyer"
    assert opened(parse(winlogbeat(3, sysmon(), **strange))).process.account == "a.meyer"
    assert reject(parse(flat(3, sysmon(**strange)))).reason is Reason.BAD_VALUE


@pytest.mark.parametrize("text", ["", "no label at all", "Image", "x" * 200_000])
def test_a_text_without_labels_has_no_values(text: str) -> None:
    """Nothing raises, and a text that is longer than an event can be is not read."""
    assert values_of(text, "sysmon") == {}
    assert values_of(f"{text} Image: a.exe User: b", "sysmon") == (
        {"Image": "a.exe", "User": "b"} if len(text) < 200 else {}
    )


def test_labels_may_have_many_blanks_before_them() -> None:
    """A run of blanks is passed over once, in a text of one line or of several."""
    blanks = " \t" * 5_000

    assert values_of(f"{blanks}Image: a.exe{blanks}User: b", "sysmon") == {"Image": "a.exe", "User": "b"}
    assert values_of(f"{blanks}\n{blanks}Image: a.exe\n{blanks}User: b", "sysmon") == {"Image": "a.exe", "User": "b"}
