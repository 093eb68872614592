"""Lines of Windows machines as Winlogbeat ships them; times are seconds after T0."""

from __future__ import annotations

import json
from typing import Any

from schemas.clock import iso_micros
from schemas.events import ProtectionMode
from tests.factories import micros

SETTING = r"HKLM\SOFTWARE\Microsoft\Windows Defender\Windows Defender Exploit Guard\Network Protection\EnableNetworkProtection"
VALUES = {ProtectionMode.OFF: "0x0", ProtectionMode.BLOCK: "0x1", ProtectionMode.AUDIT: "0x2"}
DEFENDER = ("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational")
SYSMON = ("Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational")


def mode_line(device: str, at: float, new: ProtectionMode, old: ProtectionMode | None = None) -> bytes:
    """Return a 5007: network protection was set to another mode."""
    before = f"{SETTING} = {VALUES[old]}" if old is not None else ""
    return _line(device, at, 5007, DEFENDER, {"Old Value": before, "New Value": f"{SETTING} = {VALUES[new]}"})


def connection_line(device: str, at: float, port: int, remote: str = "203.0.113.9") -> bytes:
    """Return a Sysmon 3: a connection from this local port."""
    values = {
        "UtcTime": iso_micros(micros(at))[:23].replace("T", " "),
        "ProcessId": "7412",
        "Image": "C:\\Program Files\\Browser\\browser.exe",
        "User": "CORP\\a.meyer",
        "Protocol": "tcp",
        "Initiated": "true",
        "SourceIp": "10.0.0.7",
        "SourcePort": str(port),
        "DestinationIp": remote,
        "DestinationPort": "443",
    }
    return _line(device, at, 3, SYSMON, values)


def _line(device: str, at: float, number: int, source: tuple[str, str], values: dict[str, Any]) -> bytes:
    winlog = {
        "event_id": str(number),
        "provider_name": source[0],
        "channel": source[1],
        "computer_name": device,
        "event_data": values,
    }
    return json.dumps({"@timestamp": iso_micros(micros(at)), "winlog": winlog}).encode()
