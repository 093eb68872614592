"""Windows events as each shipper writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

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
    """An event whose values are reported in the text alone."""
    provider, channel = PROVIDERS[number]
    head = {"EventID": str(number), "ProviderName": provider, "Channel": channel, "Computer": "WS-0142.corp.example"}
    reported = {"ProcessID": "3188", "UserID": "S-1-5-18", "User": "NT AUTHORITY\\SYSTEM", text: shown(number, values)}
    return json.dumps({**head, "TimeCreated": "2025/03/04 09:15:22.345678900", **reported, **more}).encode()


def structured(number: int, values: dict[str, Any]) -> bytes:
    """A line of syslog in which NXLog writes the values as structured data."""
    provider, channel = PROVIDERS[number]
    reported = {"EventID": number, "Channel": channel, **values, "EventReceivedTime": "2025-03-04 04:15:23"}
    pairs = " ".join(
        '{}="{}"'.format(name.replace(" ", "_"), re.sub(r'([\\"\]])', r"\\\1", str(value)))
        for name, value in reported.items()
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
