"""The sensor's systemd unit: it allows what the sensor needs, and nothing beside it without a reason."""

from __future__ import annotations

import re
from pathlib import Path

UNIT = (Path(__file__).parents[3] / "deploy/systemd/unproxy-sensor.service").read_text(encoding="utf-8")
STRICT = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "AmbientCapabilities": "",
    "UMask": "0077",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
}
EXCEPTIONS = {
    "User": "root",
    "CapabilityBoundingSet": "CAP_NET_RAW CAP_NET_ADMIN CAP_SYS_PTRACE",
    "ReadWritePaths": "/sys/kernel/tracing/instances",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET",
    "LimitNICE": "-10",
}


def test_each_exception_has_its_reason() -> None:
    """What is less than the strictest value stands right behind a comment."""
    lines = UNIT.splitlines()

    for key, value in EXCEPTIONS.items():
        place = lines.index(f"{key}={value}")
        assert lines[place - 1].startswith("#")


def test_all_else_is_the_strictest_value() -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))

    assert {key: said.get(key) for key in STRICT} == STRICT


def test_no_system_call_reaches_into_other_processes() -> None:
    """CAP_SYS_PTRACE is for reading /proc; capset and setpriority are all that is given back of what is denied."""
    first, denied, back = re.findall(r"^SystemCallFilter=(.*)$", UNIT, re.MULTILINE)

    assert (first, back) == ("@system-service", "capset setpriority")
    assert {"~@privileged", "@resources", "process_vm_readv", "process_vm_writev"} <= set(denied.split())
