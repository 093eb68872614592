"""The traps of Windows events, each met in real records (tests/data/winlog), and shapes of which no free record was found."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.clock import MICROS, iso_micros, parse_micros
from schemas.dialects import dialects
from schemas.dialects.winlog import DIALECT, device_of, parse, written_at
from schemas.envelopes import DEPTH_MAX
from schemas.events import (
    Action,
    ConnectionOpened,
    Ignored,
    ModeChanged,
    ModeEvidence,
    Parsed,
    ProcessStarted,
    ProcessVerdict,
    ProtectionMode,
    Reason,
    Reject,
)
from schemas.windows.event_xml import EVENTS_MAX
from schemas.windows.record import FilteredConnection, Shown, SysmonConnection, SysmonProcess
from schemas.windows.shippers import _WithValues, split

DATA = Path(__file__).parents[1] / "data" / "winlog"
PARSED_AND_IGNORED = {
    "aadinternals_export_adfsdatabaseconfig_remotely.jsonl.gz": (19, 30),
    "aptsimulator_cobaltstrike.jsonl.gz": (34, 23),
    "cmd_bitsadmin_download_psh_script.jsonl.gz": (10, 22),
    "cmd_mshta_javascript_getobject_sct.jsonl.gz": (11, 7),
    "covenant_installutil.jsonl.gz": (22, 29),
    "covenant_persiststartup.jsonl.gz": (44, 58),
    "covenant_psremoting_command.jsonl.gz": (50, 62),
    "covenant_sharpsc_query_dcerpc_smb_svcctl.jsonl.gz": (25, 37),
    "empire_enable_rdp.jsonl.gz": (43, 46),
    "event-json.datadog-agent.jsonl.gz": (0, 1),
    "event-xml.evtxecmd-maps.xml.gz": (1, 3),
    "event-xml.sysmon-evtx.xml.gz": (14, 0),
    "evtx-dump-json.sysmon-evtx.jsonl.gz": (14, 0),
    "metasploit_logonpasswords_lsass_memory_dump.jsonl.gz": (48, 60),
    "psh_cmstp_execution_bypassuac.jsonl.gz": (12, 23),
    "psh_python_webserver.jsonl.gz": (7, 8),
    "syslog_sysmon_log4shell_cve2021_44228_jndi_reference.jsonl.gz": (29, 1),
    "sysmon_log4shell_cve2021_44228_java_serialized_object.jsonl.gz": (8, 3),
}
"""Of each file of real records, how many give an event and how many hold nothing for us; none is rejected."""


def lines(name: str) -> list[bytes]:
    """The recorded lines of a file."""
    return gzip.decompress((DATA / name).read_bytes()).splitlines()


def opened(parsed: Parsed) -> ConnectionOpened:
    """It must be a connection."""
    assert isinstance(parsed, ConnectionOpened), parsed
    return parsed


def told(parsed: Parsed) -> ProcessStarted:
    """It must be a process's start or end."""
    assert isinstance(parsed, ProcessStarted), parsed
    return parsed


def kind(parsed: Parsed) -> str:
    """It must be ignored: as what."""
    assert isinstance(parsed, Ignored), parsed
    return parsed.kind


def reject(parsed: Parsed) -> Reject:
    """It must be rejected."""
    assert isinstance(parsed, Reject), parsed
    return parsed


def sysmon(**values: Any) -> dict[str, Any]:
    """The values of a Sysmon 3, some of them other ones; None takes one out."""
    usual = {
        "UtcTime": "2025-03-04 09:15:21.998",
        "ProcessId": "7412",
        "Image": "C:\\Program Files\\Browser\\browser.exe",
        "User": "CORP\\a.meyer",
        "Protocol": "tcp",
        "Initiated": "true",
        "SourceIsIpv6": "false",
        "SourceIp": "198.51.100.11",
        "SourcePort": "52817",
        "DestinationIp": "198.51.100.80",
        "DestinationPort": "3128",
    }
    return {name: value for name, value in {**usual, **values}.items() if value is not None}


GUID = "39e4a257-79fb-5f92-7117-000000000700"
SHA1, MD5, SHA256 = "a1" * 20, "b2" * 16, "c3" * 32


def created(**values: Any) -> dict[str, Any]:
    """The values of a Sysmon 1."""
    usual = {
        "UtcTime": "2025-03-04 09:15:20.101",
        "ProcessGuid": f"{{{GUID}}}",
        "ProcessId": "7412",
        "Image": "C:\\Program Files\\Browser\\browser.exe",
        "CommandLine": "browser.exe --proxy-server=proxy:3128",
        "User": "CORP\\a.meyer",
        "Hashes": f"SHA1={SHA1.upper()},MD5={MD5.upper()},SHA256={SHA256.upper()},IMPHASH=8C3BE1286CDAD6AC1136D0BB6C83FF41",
        "ParentProcessId": "5632",
        "ParentImage": "C:\\Windows\\explorer.exe",
    }
    return {name: value for name, value in {**usual, **values}.items() if value is not None}


def filtering(**values: Any) -> dict[str, Any]:
    """The values of a 5156."""
    usual = {
        "ProcessID": "812",
        "Application": "\\device\\harddiskvolume2\\windows\\system32\\svchost.exe",
        "Direction": "%%14593",
        "SourceAddress": "198.51.100.11",
        "SourcePort": "52817",
        "DestAddress": "198.51.100.80",
        "DestPort": "3128",
        "Protocol": "6",
    }
    return {**usual, **values}


def judged(**values: Any) -> dict[str, Any]:
    """The values of a 1126."""
    usual = {
        "Product Name": "Microsoft Defender Antivirus",
        "Detection Time": "2025-03-04T09:15:22.087Z",
        "User": "CORP\\a.meyer",
        "Destination": "https://Bad1.example./a?b=c",
        "Process Name": "C:\\Program Files\\Browser\\browser.exe",
    }
    return {**usual, **{name.replace("_", " "): value for name, value in values.items()}}


PROVIDERS = {
    1: ("Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational"),
    3: ("Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational"),
    5: ("Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational"),
    5156: ("Microsoft-Windows-Security-Auditing", "Security"),
    5157: ("Microsoft-Windows-Security-Auditing", "Security"),
    1125: ("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational"),
    1126: ("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational"),
    5007: ("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational"),
}


def winlogbeat(number: int, values: dict[str, Any], **more: Any) -> bytes:
    """A line of Winlogbeat 8."""
    provider, channel = PROVIDERS[number]
    winlog = {
        "event_id": str(number),
        "provider_name": provider,
        "channel": channel,
        "computer_name": "WS-0142.corp.example",
        "process": {"pid": 3188},
        "event_data": values,
    }
    return json.dumps({"@timestamp": "2025-03-04T09:15:22.345Z", "winlog": winlog, **more}).encode()


def xml(number: int, values: dict[str, Any], quote: str = '"') -> bytes:
    """An event as Windows writes it."""
    provider, channel = PROVIDERS[number]
    data = "".join(f'<Data Name="{name}">{value}</Data>' for name, value in values.items())
    text = (
        f'<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System><Provider Name="{provider}" '
        f'Guid="{{5770385f-c22a-43e0-bf4c-06f5698ffbd9}}"/><EventID>{number}</EventID>'
        '<TimeCreated SystemTime="2025-03-04T09:15:22.3456789Z"/><Execution ProcessID="3188" ThreadID="1"/>'
        f"<Channel>{channel}</Channel><Computer>WS-0142.corp.example</Computer></System>"
        f"<EventData>{data}</EventData></Event>"
    )
    return text.replace('"', quote).encode()


def flat(number: int, values: dict[str, Any], **more: Any) -> bytes:
    """An event with its values beside the fields of the shipper."""
    provider, channel = PROVIDERS[number]
    head = {"EventID": number, "SourceName": provider, "Channel": channel, "Hostname": "WS-0142.corp.example"}
    return json.dumps({**head, **values, **more}).encode()


def azure(number: int, values: dict[str, Any], data: Callable[[dict[str, Any]], str], provider: str) -> bytes:
    """A row of an Azure table, with the values in a string."""
    names = PROVIDERS[number]
    row = {provider: names[0], "Channel": names[1], "Computer": "WS-0142.corp.example", "EventID": number}
    return json.dumps({**row, "TimeGenerated": "2025-03-04T09:15:22.345Z", "EventData": data(values)}).encode()


def event_data(values: dict[str, Any]) -> str:
    """Values as XML without the event around them, as the table SecurityEvent has them."""
    data = "".join(f'  <Data Name="{name}">{value}</Data>\r\n' for name, value in values.items())
    return f'<EventData xmlns="http://schemas.microsoft.com/win/2004/08/events/event">\r\n{data}</EventData>'


def nested(number: int, values: dict[str, Any]) -> dict[str, Any]:
    """An event as nested JSON, attributes apart as evtx_dump writes them."""
    provider, channel = PROVIDERS[number]
    system = {
        "Provider": {"#attributes": {"Name": provider}},
        "EventID": {"#attributes": {"Qualifiers": ""}, "#text": number},
        "TimeCreated": {"#attributes": {"SystemTime": "2025-03-04T09:15:22.345678Z"}},
        "Execution": {"#attributes": {"ProcessID": 3188}},
        "Channel": channel,
        "Computer": "WS-0142.corp.example",
    }
    return {"Event": {"System": system, "EventData": values}}


LABELS = {
    "ProcessID": "Process ID",
    "Application": "Application Name",
    "SourceAddress": "Source Address",
    "SourcePort": "Source Port",
    "DestAddress": "Destination Address",
    "DestPort": "Destination Port",
    "Detection Time": "Detection time",
}
HEADINGS = {"Process ID": "Application Information", "Direction": "Network Information"}


def shown(number: int, values: dict[str, Any]) -> str:
    """What Event Viewer shows of an event; Sysmon's labels are the names of its values."""
    if number < 100:
        return "\r\n".join(["What happened:", *(f"{name}: {value}" for name, value in values.items())])
    found = ["What happened."]
    for name, value in values.items():
        in_words = LABELS.get(name) or name.replace("_", " ").replace("dV", "d V").replace("wV", "w V").replace(
            "Va", "va"
        )
        if in_words in HEADINGS:
            found += ["", f"{HEADINGS[in_words]}:"]
        found.append(f"\t{in_words}:\t\t{'Outbound' if value == '%%14593' else value}")
    return "\r\n".join([*found, "", "Filter Information:", "\tFilter Run-Time ID:\t0"] if number >= 5150 else found)


def wazuh(number: int, values: dict[str, Any]) -> dict[str, Any]:
    """An event as Wazuh's agent sends it: small letters first, and values that are escaped twice."""
    provider, channel = PROVIDERS[number]
    system = {"providerName": provider, "eventID": str(number), "channel": channel, "computer": "WS-0142.corp.example"}
    system |= {"systemTime": "2025-03-04T09:15:22.3456789Z", "processID": "3188", "message": '"What happened"'}
    data = {name[:1].lower() + name[1:]: json.dumps(value)[1:-1] for name, value in values.items()}
    return {"win": {"system": system, "eventdata": data}}


def in_text(number: int, values: dict[str, Any], text: str, **more: Any) -> bytes:
    """An event whose values are told in the text alone."""
    provider, channel = PROVIDERS[number]
    head = {"EventID": str(number), "ProviderName": provider, "Channel": channel, "Computer": "WS-0142.corp.example"}
    told = {"ProcessID": "3188", "UserID": "S-1-5-18", "User": "NT AUTHORITY\\SYSTEM", text: shown(number, values)}
    return json.dumps({**head, "TimeCreated": "2025/03/04 09:15:22.345678900", **told, **more}).encode()


def structured(number: int, values: dict[str, Any]) -> bytes:
    """A line of syslog in which NXLog writes the values as structured data."""
    provider, channel = PROVIDERS[number]
    told = {"EventID": number, "Channel": channel, **values, "EventReceivedTime": "2025-03-04 04:15:23"}
    pairs = " ".join(
        '{}="{}"'.format(name.replace(" ", "_"), re.sub(r'([\\"\]])', r"\\\1", str(value)))
        for name, value in told.items()
    )
    head = f"<14>1 2025-03-04T09:15:22.345678Z WS-0142.corp.example {provider.replace(' ', '_')} 3188 - "
    return f"{head}[NXLOG@14506 {pairs}] What happened.".encode()


def shapes(number: int, values: dict[str, Any]) -> dict[str, bytes]:
    """The same event in every shape."""
    beat = json.loads(winlogbeat(number, values))["winlog"]
    six = {**beat, "log_name": beat["channel"], "source_name": beat["provider_name"], "event_id": number}
    six["@timestamp"] = "2025-03-04T09:15:22.345Z"
    provider = dict(zip(("Name", "Guid"), (PROVIDERS[number][0], "{5770385f}"), strict=True))
    datadog = nested(number, {"Data": values})
    datadog["Event"]["System"] |= {"Provider": provider, "EventID": str(number)}
    datadog["Event"]["System"]["TimeCreated"] = {"SystemTime": "2025-03-04T09:15:22.3456789Z"}
    plain = xml(number, values)
    eight = winlogbeat(number, values)
    names, channel = PROVIDERS[number]
    snake = {"event_id": number, "channel": channel, "computer": "WS-0142.corp.example"}
    local = {
        "SourceModuleType": "im_msvistalog",
        "ExecutionProcessID": 3188,
        "EventTime": "2025-03-04T04:15:22.345-05:00",
    }
    nxlog = json.loads(flat(number, values, **local))
    gelf = {"version": "1.1", "host": nxlog.pop("Hostname"), "short_message": "a", "timestamp": 1741079722.345}
    dotted = {f"winlog.{name}": value for name, value in beat.items() if name not in ("event_data", "process")}
    dotted |= {f"winlog.event_data.{name}": value for name, value in values.items()}
    return {
        "winlogbeat 8": eight,
        "dotted": json.dumps({"@timestamp": "2025-03-04T09:15:22.345Z", **dotted}).encode(),
        "vector": json.dumps(
            {
                **snake,
                "provider_name": names,
                "timestamp": "2025-03-04T09:15:22.345Z",
                "message": "a",
                "event_data": values,
            }
        ).encode(),
        "promtail": json.dumps(
            {
                **snake,
                "source": names,
                "timeCreated": "2025-03-04T09:15:22.3456789Z",
                "event_data": event_data(values).replace('"', "'"),
            }
        ).encode(),
        "promtail, text alone": json.dumps(
            {**snake, "source": names, "timeCreated": "2025-03-04T09:15:22.3456789Z", "message": shown(number, values)}
        ).encode(),
        "gelf": json.dumps({**gelf, **{f"_{name}": value for name, value in nxlog.items()}}).encode(),
        "structured data": structured(number, values),
        "fluentd": in_text(number, values, "Description", EventData=list(values.values())),
        "fluent bit": in_text(number, values, "Message", StringInserts=list(values.values())),
        "Event": json.dumps(
            {
                "Source": names,
                "EventLog": channel,
                "Computer": "WS-0142.corp.example",
                "EventID": number,
                "TimeGenerated": "2025-03-04T09:15:22.345Z",
                "EventData": f'<DataItem type="System.XmlData">{event_data(values)}</DataItem>',
                "Type": "Event",
            }
        ).encode(),
        "wazuh agent": json.dumps(wazuh(number, values)).encode(),
        "wazuh alert": json.dumps({"agent": {"name": "b"}, "data": wazuh(number, values)}).encode(),
        "elasticsearch": json.dumps({"_index": "a", "_source": json.loads(eight)}).encode(),
        "splunk search": json.dumps({"preview": False, "result": {"_raw": plain.decode(), "host": "b"}}).encode(),
        "splunk hec": json.dumps({"time": 1741079722.3, "host": "b", "event": plain.decode()}).encode(),
        "cribl": json.dumps({"_raw": plain.decode(), "_time": 1741079722.3}).encode(),
        "filebeat": json.dumps({"@timestamp": "2025-03-04T09:15:25Z", "message": eight.decode()}).encode(),
        "agent": json.dumps(
            {"@timestamp": "2025-03-04T09:15:25Z", "event": {"original": plain.decode(), "kind": "event"}}
        ).encode(),
        "winlogbeat 6": json.dumps(six).encode(),
        "nxlog": flat(
            number,
            values,
            SourceModuleType="im_msvistalog",
            ExecutionProcessID=3188,
            EventTime="2025-03-04T04:15:22.345-05:00",
        ),
        "flat": flat(number, values, TimeCreated="2025-03-04T09:15:22.345Z"),
        "datadog": json.dumps(datadog).encode(),
        "evtx_dump": json.dumps(nested(number, values)).encode(),
        "WindowsEvent": azure(number, values, json.dumps, "Provider"),
        "SecurityEvent": azure(number, values, event_data, "EventSourceName"),
        "Syslog": json.dumps({"Type": "Syslog", "Computer": "relay", "SyslogMessage": plain.decode()}).encode(),
        "xml": plain,
        "xml of wevtutil": xml(number, values, "'"),
        "xml in a root": b'<?xml version="1.0" encoding="utf-8"?><Events>' + plain + b"</Events>",
        "xml behind syslog": b"<14>1 2025-03-04T09:15:22Z relay sysmon - - - \xef\xbb\xbf" + plain,
        "json behind syslog": b"<13>Mar  4 09:15:22 relay winlogbeat: " + winlogbeat(number, values),
    }


@pytest.mark.parametrize("name", PARSED_AND_IGNORED)
def test_real_records_are_read(name: str) -> None:
    """Each real record is an event or holds nothing for us; it names its device, and when it was."""
    counts: Counter[bool] = Counter()
    for line in lines(name):
        parsed = parse(line)
        assert not isinstance(parsed, Reject), parsed
        assert device_of(line) == parsed.device != ""
        assert written_at(line) == parsed.at
        counts[isinstance(parsed, Ignored)] += 1

    assert (counts[False], counts[True]) == PARSED_AND_IGNORED[name]


def test_every_file_of_real_records_is_counted() -> None:
    """A file that is put there and not counted would look as if it were read."""
    assert set(PARSED_AND_IGNORED) == {path.name for path in DATA.glob("*.gz") if "constructed" not in path.name}


@pytest.mark.parametrize("shape", shapes(1, created()))
def test_one_process_in_every_shape(shape: str) -> None:
    """Sysmon 1: command line, hashes, parent, user and GUID are the same whoever shipped it; the PID is not the writer's."""
    event = told(parse(shapes(1, created())[shape]))
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
    """Sysmon 5 has no start: the GUID says whose end it is."""
    ended = {name: created()[name] for name in ("UtcTime", "ProcessGuid", "ProcessId", "Image")}
    event = told(parse(winlogbeat(5, ended)))

    assert (event.process.pid, event.process.guid, event.process.started) == (7412, GUID, 0)
    assert event.at == event.ended == parse_micros("2025-03-04T09:15:20.101Z")
    assert event.event_id == "sysmon/5/7412/2025-03-04 09:15:20.101"


def test_a_connection_tells_the_guid_of_its_process() -> None:
    """The GUID is spelt with braces or without, in upper or lower case; of no process it is all zeros."""
    for written, guid in ((f"{{{GUID.upper()}}}", GUID), (GUID, GUID), (f"{{{GUID[:0]}}}", ""), ("x" * 36, "")):
        assert opened(parse(winlogbeat(3, sysmon(ProcessGuid=written)))).process.guid == guid
    zero = "{00000000-0000-0000-0000-000000000000}"
    assert opened(parse(winlogbeat(3, sysmon(ProcessGuid=zero)))).process.guid == ""
    assert kind(parse(winlogbeat(5, created(ProcessGuid=zero)))) == "sysmon_5_without_guid"
    assert told(parse(winlogbeat(1, created(ProcessGuid=zero)))).process.guid == ""


def test_a_process_that_nothing_tells_apart_is_ignored() -> None:
    """NXLog of 2019 has no PID where its text is missing; a start with neither GUID nor image says nothing."""
    assert kind(parse(winlogbeat(1, created(ProcessId=None)))) == "sysmon_1_without_pid"
    assert kind(parse(winlogbeat(1, created(ProcessGuid="-", Image="-")))) == "sysmon_1_without_guid"
    message = "Process Create:\r\nProcessGuid: {1}\r\nProcessId: 3236\r\nParentProcessId: 17\r\n"
    assert told(parse(winlogbeat(1, created(ProcessId=None, Message=message)))).process.pid == 3236


def test_hashes_are_as_many_as_sysmon_makes() -> None:
    """One or several, in any order; what is no hash of its kind is none."""
    for written, hashes in (
        (f"SHA256={SHA256}", ("", "", SHA256)),
        (f"MD5={MD5},SHA1={SHA1}", (SHA1, MD5, "")),
        (f"MD5={SHA1},SHA1=-,SHA256={'z' * 64}", ("", "", "")),
        ("-", ("", "", "")),
        (None, ("", "", "")),
    ):
        process = told(parse(winlogbeat(1, created(Hashes=written)))).process
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
    process = told(parse(winlogbeat(1, {}, **moved))).process

    assert (process.pid, process.guid, process.name, process.command_line) == (7412, GUID, "curl.exe", "curl -x proxy")
    assert (process.sha256, process.parent_pid, process.parent_name) == (SHA256, 5632, "explorer.exe")
    assert (process.domain, process.account) == ("CORP", "a.meyer")


def test_no_command_line_is_of_any_length() -> None:
    """What stays in the state is cut."""
    assert len(told(parse(winlogbeat(1, created(CommandLine="x" * 40_000)))).process.command_line) == 1_024


@pytest.mark.parametrize("shape", shapes(3, sysmon()))
def test_one_connection_in_every_shape(shape: str) -> None:
    """Sysmon 3: ends, process, user and time are the same whoever shipped it; the PID is not that of the writer."""
    event = opened(parse(shapes(3, sysmon())[shape]))

    assert event.device == device_of(shapes(3, sysmon())[shape]) == "ws-0142.corp.example"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.name) == (7412, "browser.exe")
    assert event.process.path == "C:\\Program Files\\Browser\\browser.exe"
    assert (event.process.domain, event.process.account) == ("CORP", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:21.998000Z"
    assert event.at == event.started == event.established == written_at(shapes(3, sysmon())[shape])
    assert (event.failed, event.ended) == (False, 0)


@pytest.mark.parametrize("shape", shapes(5156, filtering()))
def test_one_filtered_connection_in_every_shape(shape: str) -> None:
    """5156: permitted is not established; the path is the device's own; nobody tells the user."""
    event = opened(parse(shapes(5156, filtering())[shape]))

    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.name) == (812, "svchost.exe")
    assert event.process.path == "\\device\\harddiskvolume2\\windows\\system32\\svchost.exe"
    assert (event.process.domain, event.process.account) == ("", "")
    assert iso_micros(event.at)[:23] == "2025-03-04T09:15:22.345"
    assert (event.established, event.failed) == (0, False)


@pytest.mark.parametrize("number", [1, 3, 5156, 1126])
def test_every_shape_is_claimed_by_nobody_else(number: int) -> None:
    """`auto:` finds each shape, in whatever it is carried."""
    values = {1: created(), 3: sysmon(), 5156: filtering(), 1126: judged()}[number]
    for shape, line in shapes(number, values).items():
        assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["winlog"], shape


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


def test_times_of_fluent_bit_tell_their_zone() -> None:
    """`TimeCreated` is local time, the zone behind it."""
    told_at = {"TimeCreated": "2025-03-04 04:15:22 -0500"}
    line = in_text(5156, filtering(), "Message", StringInserts=["812"], **told_at)

    assert iso_micros(opened(parse(line)).at) == "2025-03-04T09:15:22.000000Z"


@pytest.mark.parametrize("separator", ["\r\n", "  ", " "])
def test_a_command_line_that_holds_a_label_tells_nothing_wrong(separator: str) -> None:
    """Of what is labelled twice in a text nobody knows which is true, nor where the command line ends."""
    forged = separator.join(["cmd /c rem", "User: CORP\\admin", "Hashes: x"])
    text = shown(1, created(CommandLine=forged)).replace("\r\n", separator)
    process = told(parse(in_text(1, {}, "Description", Message=text))).process

    assert (process.account, process.domain, process.sha1, process.command_line) == ("", "", "", "")
    assert (process.pid, process.name, process.parent_name) == (7412, "browser.exe", "explorer.exe")


def test_a_text_in_one_line_has_no_headings_in_its_values() -> None:
    """The filtering platform's text has headings between its values."""
    text = " ".join(shown(5156, filtering()).split())
    event = opened(parse(in_text(5156, {}, "Description", Message=text)))

    assert event.process.path == "\\device\\harddiskvolume2\\windows\\system32\\svchost.exe"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"


def test_values_of_wazuh_are_escaped_twice() -> None:
    """Unless somebody wrote the line by hand: then a lone backslash shows it."""
    path, quoted = "C:\\Windows\\a.exe", '"C:\\a b.exe" \\\\share\\x'
    process = told(parse(json.dumps(wazuh(1, created(Image=path, CommandLine=quoted))).encode())).process
    assert (process.path, process.command_line) == (path, quoted)
    by_hand = wazuh(1, created())
    by_hand["win"]["eventdata"]["image"] = "\\\\share\\a.exe"
    assert told(parse(json.dumps(by_hand).encode())).process.path == "\\\\share\\a.exe"


def test_carriers_are_not_opened_for_ever() -> None:
    """An event lies in at most so many of them."""
    line = winlogbeat(3, sysmon())
    for _ in range(DEPTH_MAX):
        line = json.dumps({"message": line.decode()}).encode()
    assert opened(parse(line)).process.pid == 7412
    assert reject(parse(json.dumps({"message": line.decode()}).encode())).reason is Reason.INCOMPLETE


def test_fields_moved_to_the_common_schema() -> None:
    """Winlogbeat's module and Elastic's pipelines move values out of `event_data`, some of them under other names."""
    line = {
        "source": {"ip": "198.51.100.11", "port": 52817},
        "destination": {"ip": "198.51.100.80", "port": 3128, "domain": "proxy"},
        "network": {"transport": "tcp", "direction": "egress", "type": "ipv4"},
        "process": {"pid": 7412, "executable": "C:\\browser.exe"},
        "user": {"domain": "CORP", "name": "a.meyer", "id": "S-1-5-18"},
    }
    event = opened(parse(winlogbeat(3, {"RuleName": "-"}, **line)))

    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.path, event.process.account) == (7412, "C:\\browser.exe", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:22.345000Z"
    inbound = {**line, "network": {"transport": "tcp", "direction": "ingress"}}
    assert kind(parse(winlogbeat(3, {}, **inbound))) == "sysmon_3_inbound"
    neither = {**line, "network": {"transport": "tcp"}}
    assert reject(parse(winlogbeat(3, {}, **neither))).reason is Reason.INCOMPLETE


def test_pid_of_nxlog_in_2019_is_the_writers() -> None:
    """Its `ProcessID` is 4 or Sysmon's own; the connection's is in the text alone."""
    differ = 0
    for line in lines("covenant_persiststartup.jsonl.gz"):
        fields, parsed = json.loads(line), parse(line)
        if isinstance(parsed, ConnectionOpened):
            told = re.search(r"Process ?I[dD]:\s*(\d+)", fields["Message"])
            assert told is not None
            assert parsed.process.pid == int(told[1])
            differ += parsed.process.pid != fields["ProcessID"]

    assert differ > 30


def test_no_pid_is_none_rather_than_the_writers() -> None:
    """Three of NXLog's records have neither `ProcessId` nor a text, but `ExecutionProcessID`."""
    without = [
        event
        for event in map(parse, lines("covenant_installutil.jsonl.gz"))
        if isinstance(event, ConnectionOpened) and event.process.pid is None
    ]

    assert len(without) == 3
    assert {event.process.account for event in without} == {"pgustavo", "SYSTEM"}


def test_an_empty_name_of_the_shippers_module_is_one() -> None:
    """It was told; then `ProcessID` is the writer's as well."""
    told = {"ProcessID": 4, "EventTime": "2025-03-04 09:15:22"}

    assert opened(parse(flat(5156, filtering(), **told))).process.pid == 4
    assert opened(parse(flat(5156, filtering(), **told, SourceModuleType=""))).process.pid is None


def test_values_beside_the_number_are_decoded_with_it() -> None:
    """All that any kind of event has."""
    for kind in (SysmonConnection, SysmonProcess, FilteredConnection, Shown):
        assert set(kind.__struct_fields__) <= set(_WithValues.__struct_fields__)


def test_what_is_called_like_a_value_may_be_anything() -> None:
    """In events that are not for us, and where the values stand elsewhere; where they are needed it is a reject."""
    strange = {"User": {"Name": "a.meyer"}, "Direction": ["in", "out"]}

    assert kind(parse(flat(3, sysmon(**strange), EventID=22))) == "sysmon_22"
    assert opened(parse(flat(3, {}, EventData=sysmon(), **strange))).process.account == "a.meyer"
    assert opened(parse(winlogbeat(3, sysmon(), **strange))).process.account == "a.meyer"
    assert reject(parse(flat(3, sysmon(**strange)))).reason is Reason.BAD_VALUE


def test_user_is_the_actor() -> None:
    """`AccountName` and `Domain` are Sysmon's own account."""
    event = opened(parse(flat(3, sysmon(), AccountName="SYSTEM", Domain="NT AUTHORITY", UserID="S-1-5-18")))

    assert (event.process.domain, event.process.account) == ("CORP", "a.meyer")
    assert opened(parse(winlogbeat(3, sysmon(User="root")))).process.account == "root"
    assert opened(parse(winlogbeat(3, sysmon(User="-")))).process.account == ""


def test_local_time_with_a_z_is_not_believed() -> None:
    """Flat exports write local time with a Z in `TimeCreated` and `@timestamp`; Sysmon's `UtcTime` is right."""
    hours = set()
    for line in lines("cmd_bitsadmin_download_psh_script.jsonl.gz"):
        fields = json.loads(line)
        if "UtcTime" in fields:
            parsed = parse(line)
            assert not isinstance(parsed, Reject)
            assert parsed.at == parse_micros(fields["UtcTime"])
            hours.add(round((parsed.at - parse_micros(fields["@timestamp"])) / 3_600 / MICROS))

    assert hours == {4}


def test_local_time_of_nxlog_is_brought_to_utc() -> None:
    """5156 has no other time than `EventTime`: its zone is that by which NXLog's receipt differs from the collector's."""
    times: dict[str, dict[str, int]] = {}
    for line in lines("covenant_persiststartup.jsonl.gz"):
        parsed = parse(line)
        if isinstance(parsed, ConnectionOpened):
            times.setdefault(parsed.flow.key, {})[parsed.event_id.partition("/")[0]] = parsed.at
    both = [pair for pair in times.values() if len(pair) == 2]

    assert both
    assert all(abs(pair["security"] - pair["sysmon"]) < 3 * MICROS for pair in both)


@pytest.mark.parametrize(
    ("event_time", "received", "collected", "is_at"),
    [
        ("2020-08-06 01:20:11", "2020-08-06 01:20:14", "2020-08-06T05:20:14.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 10:50:11", "2020-08-06 10:50:14", "2020-08-06T05:20:14.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 11:05:11", "2020-08-06 11:05:14", "2020-08-06T05:20:59.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06T01:20:11.5-04:00", "2020-08-06 01:20:14", "", "2020-08-06T05:20:11.500000Z"),
        ("2020-08-06 05:20:11", "", "", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 05:20:11", "2020-08-06 05:20:14", "2020-08-09T05:20:14Z", "2020-08-06T05:20:11.000000Z"),
    ],
)
def test_zone_of_nxlog(event_time: str, received: str, collected: str, is_at: str) -> None:
    """West, east, with odd minutes; a zone that is written; none to be had; collected days later."""
    times = {"EventTime": event_time, "EventReceivedTime": received, "@timestamp": collected}
    event = opened(parse(flat(5156, filtering(), SourceModuleType="im_msvistalog", **times)))

    assert iso_micros(event.at) == is_at


def test_collected_days_late_counts_when_it_happened() -> None:
    """Winlogbeat 6 brought Sysmon records that were eleven days old."""
    late = [
        parse_micros(fields["@timestamp"]) - parsed.at
        for line in lines("empire_enable_rdp.jsonl.gz")
        if "UtcTime" in (fields := json.loads(line))["event_data"]
        and isinstance(parsed := parse(line), ConnectionOpened | Ignored)
    ]

    assert max(late) > 10 * 86_400 * MICROS


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


def test_time_in_a_command_line_is_no_time() -> None:
    """What a program is called with must not move the device's clock."""
    text = 'x "UtcTime":"2199-01-01 00:00:00.000" \\"UtcTime\\":\\"2199-01-01 00:00:00.000\\" UtcTime: 2199-01-01 00:00:00.000'
    for shape, line in shapes(3, {"CommandLine": text, **sysmon()}).items():
        assert iso_micros(opened(parse(line)).at) == "2025-03-04T09:15:21.998000Z", shape


@pytest.mark.parametrize(
    ("source", "destination", "key"),
    [
        (
            "fe80:0:0:0:1958:16a1:813f:bbe8",
            "2001:db8:0:0:0:0:0:80",
            "fe80::1958:16a1:813f:bbe8 52817 2001:db8::80 3128",
        ),
        ("fe80::80ac:4126:fa58:1b81%4", "fe80::1", "fe80::80ac:4126:fa58:1b81 52817 fe80::1 3128"),
        ("::ffff:198.51.100.11", "0:0:0:0:0:ffff:c633:6450", "198.51.100.11 52817 198.51.100.80 3128"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1 52817 127.0.0.1 3128"),
        ("0:0:0:0:0:0:0:1", "::1", "::1 52817 ::1 3128"),
    ],
)
def test_addresses_have_one_spelling(source: str, destination: str, key: str) -> None:
    """IPv6 in full or shortened, whatever `SourceIsIpv6` says; a proxy on the device itself is one, too."""
    assert opened(parse(winlogbeat(3, sysmon(SourceIp=source, DestinationIp=destination)))).flow.key == key
    assert opened(parse(xml(5156, filtering(SourceAddress=source, DestAddress=destination)))).flow.key == key


def test_a_connection_from_outside_is_not_the_devices() -> None:
    """Not initiated, or inbound: the source is the other machine."""
    assert kind(parse(winlogbeat(3, sysmon(Initiated="false")))) == "sysmon_3_inbound"
    assert kind(parse(winlogbeat(3, sysmon(Initiated=False)))) == "sysmon_3_inbound"
    assert kind(parse(xml(3, sysmon(Initiated="False")))) == "sysmon_3_inbound"
    assert kind(parse(winlogbeat(5156, filtering(Direction="%%14592")))) == "security_5156_inbound"
    assert kind(parse(winlogbeat(5157, filtering(Direction="Inbound")))) == "security_5157_inbound"
    assert opened(parse(xml(3, sysmon(Initiated="True")))).flow.remote_port == 3128


def test_only_tcp_has_connections() -> None:
    """Sysmon names the protocol, the filtering platform numbers it."""
    assert kind(parse(winlogbeat(3, sysmon(Protocol="udp")))) == "sysmon_3_not_tcp"
    assert kind(parse(winlogbeat(5156, filtering(Protocol="17")))) == "security_5156_not_tcp"
    assert opened(parse(winlogbeat(5156, filtering(Protocol=6)))).flow.local_port == 52817


def test_a_blocked_connection_has_failed() -> None:
    """5157: the device's own firewall; that is no verdict on a destination's name."""
    event = opened(parse(winlogbeat(5157, filtering())))

    assert (event.failed, event.established) == (True, 0)


def test_the_systems_own_connections() -> None:
    """Application `System` is a name and no path; a dash is nothing."""
    system = opened(parse(winlogbeat(5156, filtering(Application="System", ProcessID="4")))).process
    nobody = opened(parse(winlogbeat(5156, filtering(Application="-", ProcessID="-")))).process

    assert (system.pid, system.name, system.path) == (4, "System", "")
    assert (nobody.pid, nobody.name, nobody.path) == (None, "", "")


def test_the_device_is_the_computer_and_not_the_collector() -> None:
    """Upper and lower case are one name, the domain belongs to it."""
    line = winlogbeat(3, sysmon(), host={"name": "COLLECTOR"}, agent={"name": "COLLECTOR", "hostname": "COLLECTOR"})
    for written, name in ((b"WS-0142", "ws-0142"), (b"Ws-0142.Corp.Example.", "ws-0142.corp.example")):
        other = line.replace(b"WS-0142.corp.example", written)
        assert device_of(other) == opened(parse(other)).device == name


def test_a_collectors_channel_does_not_matter() -> None:
    """Forwarded events lie in `ForwardedEvents`, `Security` is also `security`: the provider says who wrote it."""
    line = winlogbeat(3, sysmon())
    assert opened(parse(line.replace(b"Microsoft-Windows-Sysmon/Operational", b"ForwardedEvents")))
    assert opened(parse(line.replace(b'"provider_name": "Microsoft-Windows-Sysmon"', b'"provider_name": ""')))
    assert kind(parse(line.replace(b"Microsoft-Windows-Sysmon", b"Microsoft-Windows-Kernel-General"))) == "other"


def verdict(parsed: Parsed) -> ProcessVerdict:
    """It must be a verdict."""
    assert isinstance(parsed, ProcessVerdict), parsed
    return parsed


@pytest.mark.parametrize("shape", shapes(1126, judged()))
def test_one_verdict_in_every_shape(shape: str) -> None:
    """1126: who asked for what and when; no port, no PID."""
    event = verdict(parse(shapes(1126, judged())[shape]))

    assert event.device == "ws-0142.corp.example"
    assert (event.action, event.host, event.port) == (Action.BLOCKED, "bad1.example", 0)
    assert event.url == "https://Bad1.example./a?b=c"
    assert (event.process.pid, event.process.name, event.process.account) == (None, "browser.exe", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:22.087000Z"
    assert event.event_id == "defender/1126/bad1.example/2025-03-04T09:15:22.087000Z"


def test_audited_is_not_blocked() -> None:
    """1125 would have blocked."""
    assert verdict(parse(xml(1125, judged()))).action is Action.AUDITED


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
    event = verdict(parse(winlogbeat(1126, judged(Destination=written))))

    assert (event.host, event.port) == (host, port)


def test_verdict_without_its_own_time_or_destination() -> None:
    """A detection time that may be local is not believed; without a destination there is no verdict."""
    local = verdict(parse(winlogbeat(1126, judged(Detection_Time="04.03.2025 10:15:22"))))
    assert iso_micros(local.at) == "2025-03-04T09:15:22.345000Z"
    assert reject(parse(winlogbeat(1126, judged(Destination="-")))).reason is Reason.INCOMPLETE
    assert reject(parse(winlogbeat(1126, judged(Destination="https://")))).reason is Reason.BAD_VALUE


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


def test_events_of_one_line_are_taken_apart() -> None:
    """Event Viewer exports all events in one line: each is read, and no byte of it vanishes."""
    prolog, events = b'<?xml version="1.0"?><Events>', [xml(3, sysmon(SourcePort=str(port))) for port in (1, 2, 3)]
    line = prolog + b" ".join(events) + b"</Events>\r"
    pieces = split(line)

    assert b"".join(pieces) == line
    assert [opened(parse(piece)).flow.local_port for piece in pieces] == [1, 2, 3]
    assert len(split(prolog + events[0] + events[1][:-100])) == 2


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
