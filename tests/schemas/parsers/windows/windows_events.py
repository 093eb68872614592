"""Values of Windows events, for tests that name only those they are about."""

from __future__ import annotations

from typing import Any

GUID = "39e4a257-79fb-5f92-7117-000000000700"
SHA1, MD5, SHA256 = "a1" * 20, "b2" * 16, "c3" * 32


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


def verdict_of(**values: Any) -> dict[str, Any]:
    """The values of a 1126."""
    usual = {
        "Product Name": "Microsoft Defender Antivirus",
        "Detection Time": "2025-03-04T09:15:22.087Z",
        "User": "CORP\\a.meyer",
        "Destination": "https://Bad1.example./a?b=c",
        "Process Name": "C:\\Program Files\\Browser\\browser.exe",
    }
    return {**usual, **{name.replace("_", " "): value for name, value in values.items()}}
