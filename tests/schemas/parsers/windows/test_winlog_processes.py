"""Processes in Windows events: what starts and ends report of them, and who is named by a connection."""

from __future__ import annotations

import pytest

from schemas.clock import iso_micros, parse_micros
from schemas.parsers.windows.winlog import device_of, parse, written_at
from tests.schemas.parsers.parsed_as import kind, opened, reported
from tests.schemas.parsers.windows.windows_events import GUID, MD5, SHA1, SHA256, created, filtering, sysmon
from tests.schemas.parsers.windows.windows_shippers import flat, in_text, shapes, shown, winlogbeat


@pytest.mark.parametrize("shape", shapes(1, created()))
def test_one_process_in_every_shape(shape: str) -> None:
    """Sysmon 1: command line, hashes, parent, user and GUID are the same from every shipper; the PID is not the writer's."""
    event = reported(parse(shapes(1, created())[shape]))
    process = event.process

    assert event.device == device_of(shapes(1, created())[shape]) == "ws-0142.corp.example"
    assert (process.pid, process.name, process.path) == (
        7412,
        "browser.exe",
        "C:\\Program Files\\Browser\\browser.exe",
    )
    assert process.command_line == "browser.exe --proxy-server=proxy:3128"
    assert (process.sha1, process.md5, process.sha256) == (SHA1, MD5, SHA256)
    assert (process.parent_pid, process.parent_name) == (5632, "explorer.exe")
    assert (process.domain, process.account, process.guid) == ("CORP", "a.meyer", GUID)
    assert iso_micros(process.started) == "2025-03-04T09:15:20.101000Z"
    assert event.at == process.started == written_at(shapes(1, created())[shape])
    assert event.ended == 0


def test_the_end_of_a_process() -> None:
    """Sysmon 5 has no start: the GUID states whose end it is."""
    ended = {name: created()[name] for name in ("UtcTime", "ProcessGuid", "ProcessId", "Image")}
    event = reported(parse(winlogbeat(5, ended)))

    assert (event.process.pid, event.process.guid, event.process.started) == (7412, GUID, 0)
    assert event.at == event.ended == parse_micros("2025-03-04T09:15:20.101Z")
    assert event.event_id == "sysmon/5/7412/2025-03-04 09:15:20.101"


def test_a_connection_reports_the_guid_of_its_process() -> None:
    """The GUID is spelt with braces or without, in upper or lower case; of no process it is all zeros."""
    for written, guid in ((f"{{{GUID.upper()}}}", GUID), (GUID, GUID), (f"{{{GUID[:0]}}}", ""), ("x" * 36, "")):
        assert opened(parse(winlogbeat(3, sysmon(ProcessGuid=written)))).process.guid == guid
    zero = "{00000000-0000-0000-0000-000000000000}"
    assert opened(parse(winlogbeat(3, sysmon(ProcessGuid=zero)))).process.guid == ""
    assert kind(parse(winlogbeat(5, created(ProcessGuid=zero)))) == "sysmon_5_without_guid"
    assert reported(parse(winlogbeat(1, created(ProcessGuid=zero)))).process.guid == ""


def test_a_process_that_nothing_reports_apart_is_ignored() -> None:
    """NXLog of 2019 has no PID where its text is missing; a start with neither GUID nor image states nothing."""
    assert kind(parse(winlogbeat(1, created(ProcessId=None)))) == "sysmon_1_without_pid"
    assert kind(parse(winlogbeat(1, created(ProcessGuid="-", Image="-")))) == "sysmon_1_without_guid"
    message = "Process Create:\r\nProcessGuid: {1}\r\nProcessId: 3236\r\nParentProcessId: 17\r\n"
    assert reported(parse(winlogbeat(1, created(ProcessId=None, Message=message)))).process.pid == 3236


def test_hashes_are_as_many_as_sysmon_makes() -> None:
    """One or several, in any order; what is no hash of its kind is none."""
    for written, hashes in (
        (f"SHA256={SHA256}", ("", "", SHA256)),
        (f"MD5={MD5},SHA1={SHA1}", (SHA1, MD5, "")),
        (f"MD5={SHA1},SHA1=-,SHA256={'z' * 64}", ("", "", "")),
        ("-", ("", "", "")),
        (None, ("", "", "")),
    ):
        process = reported(parse(winlogbeat(1, created(Hashes=written)))).process
        assert (process.sha1, process.md5, process.sha256) == hashes


def test_a_process_that_was_moved_to_ecs() -> None:
    """Winlogbeat's module takes the values out of `event_data`."""
    moved = {
        "process": {
            "entity_id": f"{{{GUID}}}",
            "pid": 7412,
            "executable": "C:\\Windows\\curl.exe",
            "command_line": "curl -x proxy",
            "hash": {"sha256": SHA256},
            "parent": {"pid": 5632, "executable": "C:\\Windows\\explorer.exe"},
        },
        "user": {"domain": "CORP", "name": "a.meyer"},
    }
    process = reported(parse(winlogbeat(1, {}, **moved))).process

    assert (process.pid, process.guid, process.name, process.command_line) == (7412, GUID, "curl.exe", "curl -x proxy")
    assert (process.sha256, process.parent_pid, process.parent_name) == (SHA256, 5632, "explorer.exe")
    assert (process.domain, process.account) == ("CORP", "a.meyer")


def test_no_command_line_is_of_any_length() -> None:
    """What stays in the state is cut."""
    assert len(reported(parse(winlogbeat(1, created(CommandLine="x" * 40_000)))).process.command_line) == 1_024


@pytest.mark.parametrize("separator", ["\r\n", "  ", " "])
def test_a_command_line_that_holds_a_label_reports_nothing_wrong(separator: str) -> None:
    """Of what is labelled twice in a text no one knows which is true, nor where the command line ends."""
    forged = separator.join(["cmd /c rem", "User: CORP\\admin", "Hashes: x"])
    text = shown(1, created(CommandLine=forged)).replace("\r\n", separator)
    process = reported(parse(in_text(1, {}, "Description", Message=text))).process

    assert (process.account, process.domain, process.sha1, process.command_line) == ("", "", "", "")
    assert (process.pid, process.name, process.parent_name) == (7412, "browser.exe", "explorer.exe")


def test_user_is_the_actor() -> None:
    """`AccountName` and `Domain` are Sysmon's own account."""
    event = opened(parse(flat(3, sysmon(), AccountName="SYSTEM", Domain="NT AUTHORITY", UserID="S-1-5-18")))

    assert (event.process.domain, event.process.account) == ("CORP", "a.meyer")
    assert opened(parse(winlogbeat(3, sysmon(User="root")))).process.account == "root"
    assert opened(parse(winlogbeat(3, sysmon(User="-")))).process.account == ""


def test_the_systems_own_connections() -> None:
    """Application `System` is a name and no path; a dash is nothing."""
    system = opened(parse(winlogbeat(5156, filtering(Application="System", ProcessID="4")))).process
    unknown = opened(parse(winlogbeat(5156, filtering(Application="-", ProcessID="-")))).process

    assert (system.pid, system.name, system.path) == (4, "System", "")
    assert (unknown.pid, unknown.name, unknown.path) == (None, "", "")
