"""The systemd units confine what they start; `make rules` has systemd itself score them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = {unit.name: unit for unit in sorted((ROOT / "deploy" / "systemd").glob("*.service"))}
SENSOR = "unproxy-sensor.service"
"""Runs as root and reads the kernel."""
SENSOR_EXCEPTIONS = {
    "User": "root",
    "CapabilityBoundingSet": "CAP_NET_RAW CAP_NET_ADMIN CAP_SYS_PTRACE",
    "ReadWritePaths": "/sys/kernel/tracing/instances",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET",
    "LimitNICE": "-10",
}
"""Less than the strictest value, because the sensor needs it."""
SENSOR_OWN = {"PrivateUsers", "SystemCallFilter"}
"""The sensor sees the users of all processes, and its filter of system calls has a test of its own."""
CONFINED = [name for name in UNITS if name != SENSOR]
CONFINEMENT = {
    "User": "unproxy",
    "UMask": "0077",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateIPC": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RemoveIPC": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service ~@privileged @resources",
    "SystemCallErrorNumber": "EPERM",
    "StateDirectoryMode": "0700",
    "MemorySwapMax": "0",
    "LimitCORE": "0",
    "Restart": "always",
    "RestartSec": "1",
}


def directives(name: str) -> dict[str, str]:
    """The directives of a unit; values of one that is given several times are joined."""
    values: dict[str, str] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNITS[name].read_text(encoding="utf-8"), re.MULTILINE):
        values[key] = f"{values[key]} {value}" if key in values else value
    return values


@pytest.mark.parametrize("name", CONFINED)
def test_units_are_confined(name: str) -> None:
    """No rights, no other files, no other processes, no kernel, and no more memory than is planned for."""
    values = directives(name)

    assert {key: values.get(key) for key in CONFINEMENT} == CONFINEMENT
    assert re.fullmatch(r"\d+[MG]", values["MemoryMax"])
    assert int(values["TasksMax"]) <= 512


@pytest.mark.parametrize("name", CONFINED)
def test_passwords_come_from_files_of_roots(name: str) -> None:
    """No secret is in a unit, which everybody may read."""
    values = directives(name)

    assert re.search(r"PASSWORD|SECRET|TOKEN", values["Environment"]) is None
    assert "/etc/unproxy/secrets.env" in values["EnvironmentFile"]


def test_a_worker_can_put_its_state_aside() -> None:
    """It renames its data folder and locks beside it, so the folder around it is what systemd lets it write to."""
    values = directives("unproxy-worker@.service")
    (data,) = re.findall(r"UNPROXY_WORKER__DATA_DIR=(\S+)", values["Environment"])

    assert PurePosixPath(data).parent == PurePosixPath("/var/lib") / values["StateDirectory"]


def test_the_sensor_is_confined_but_for_its_exceptions() -> None:
    """Each exception stands right behind a comment with its reason."""
    lines = UNITS[SENSOR].read_text(encoding="utf-8").splitlines()
    strict = {key: CONFINEMENT[key] for key in CONFINEMENT.keys() - SENSOR_EXCEPTIONS.keys() - SENSOR_OWN}

    for key, value in SENSOR_EXCEPTIONS.items():
        assert lines[lines.index(f"{key}={value}") - 1].startswith("#")
    assert {key: directives(SENSOR).get(key) for key in strict} == strict


def test_no_system_call_of_the_sensor_reaches_into_other_processes() -> None:
    """CAP_SYS_PTRACE is for reading /proc; capset and setpriority are all that is given back of what is denied."""
    unit = UNITS[SENSOR].read_text(encoding="utf-8")
    first, denied, back = re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)

    assert (first, back) == ("@system-service", "capset setpriority")
    assert {"~@privileged", "@resources", "process_vm_readv", "process_vm_writev"} <= set(denied.split())
