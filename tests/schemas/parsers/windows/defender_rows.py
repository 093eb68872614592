"""Rows that Defender exports, constructed from the vendor's table reference; a test names only the columns that it is about."""

from __future__ import annotations

import json
from typing import Any

PROCESS: dict[str, Any] = {
    "InitiatingProcessFileName": "chrome.exe",
    "InitiatingProcessFolderPath": "c:\\program files\\google\\chrome\\application\\chrome.exe",
    "InitiatingProcessId": 7412,
    "InitiatingProcessCreationTime": "2025-03-04T09:10:00.4019871Z",
    "InitiatingProcessCommandLine": '"chrome.exe" --type=utility',
    "InitiatingProcessParentFileName": "explorer.exe",
    "InitiatingProcessParentId": 5216,
    "InitiatingProcessAccountName": "a.meyer",
    "InitiatingProcessAccountDomain": "corp",
    "InitiatingProcessAccountSid": "S-1-5-21-1",
    "InitiatingProcessSHA1": "25f6bb19be3498752f0665b33793b97780b82e0b",
    "InitiatingProcessSHA256": None,
}
NO_PROCESS: dict[str, Any] = {**dict.fromkeys(PROCESS), "InitiatingProcessId": 0}
CONNECT = {"direction": "Out", "method": "CONNECT", "host": "bad1.example:443", "uri": "bad1.example:443"}
CONNECT["status_code"] = "200"
PACKET = {"Source Mac": "00-00-5E-00-53-01", "Destination Mac": "00-00-5E-00-53-02", "Tcp Flags": 2, "Packet Size": 66}


def columns(action: str, more: dict[str, Any] | str | None = None, **values: Any) -> dict[str, Any]:
    """A row as a query gives it."""
    usual = {
        "Timestamp": "2025-03-04T09:15:21.9981234Z",
        "DeviceId": "3f9a1c6e2b8d4f70a5e1c9b3d7f2a6e4c8b0d1f5",
        "DeviceName": "WS-0142.corp.example",
        "ReportId": 48221,
        "ActionType": action,
        "LocalIP": "198.51.100.11",
        "LocalPort": 52817,
        "RemoteIP": "198.51.100.80",
        "RemotePort": 3128,
        "RemoteUrl": None,
        "Protocol": "Tcp",
        "AdditionalFields": json.dumps(more) if isinstance(more, dict) else more,
    }
    return {**usual, **PROCESS, **values}


def envelope(row: dict[str, Any], table: str = "DeviceNetworkEvents") -> dict[str, Any]:
    """A row as it is streamed: `time` is when it was published."""
    head = {"time": "2025-03-04T09:17:41.2286134Z", "operationName": "Publish", "Tenant": "DefaultTenant"}
    return {**head, "category": f"AdvancedHunting-{table}", "properties": row}


def row(action: str, more: dict[str, Any] | str | None = None, **values: Any) -> bytes:
    """A streamed row of DeviceNetworkEvents."""
    return json.dumps(envelope(columns(action, more, **values))).encode()


def verdict_of(action: str, url: str | None = "https://Bad1.example./a?b=c", **more: Any) -> bytes:
    """A streamed row of DeviceEvents: no addresses, and columns of a user else."""
    nowhere = dict.fromkeys(("LocalIP", "LocalPort", "RemoteIP", "RemotePort", "Protocol"))
    other = {"FileName": "other.exe", "ProcessId": 1, "AccountName": "other", "RemoteUrl": url, **nowhere}
    return json.dumps(envelope({**columns(action, more), **other}, "DeviceEvents")).encode()
