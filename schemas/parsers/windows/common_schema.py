"""Values of Sysmon's events that were moved to the Elastic Common Schema, by Winlogbeat's module or Elastic's pipelines."""

from __future__ import annotations

import msgspec

from schemas.parsers.common.values import Scalar
from schemas.parsers.windows.record import SysmonConnection, SysmonProcess


class _Address(msgspec.Struct, gc=False):
    ip: Scalar = None
    port: Scalar = None


class _Network(msgspec.Struct, gc=False):
    transport: Scalar = None
    direction: Scalar = None


class _EcsHash(msgspec.Struct, gc=False):
    sha1: str = ""
    sha256: str = ""
    md5: str = ""


class _EcsParent(msgspec.Struct, gc=False):
    pid: Scalar = None
    executable: Scalar = None


class _EcsProcess(_EcsParent, gc=False):
    entity_id: Scalar = None
    command_line: Scalar = None
    hash: _EcsHash = msgspec.field(default_factory=_EcsHash)
    parent: _EcsParent = msgspec.field(default_factory=_EcsParent)


class _EcsUser(msgspec.Struct, gc=False):
    domain: str = ""
    name: str = ""


class _Ecs(msgspec.Struct, gc=False):
    source: _Address = msgspec.field(default_factory=_Address)
    destination: _Address = msgspec.field(default_factory=_Address)
    network: _Network = msgspec.field(default_factory=_Network)
    process: _EcsProcess = msgspec.field(default_factory=_EcsProcess)
    user: _EcsUser = msgspec.field(default_factory=_EcsUser)


_ECS = msgspec.json.Decoder(_Ecs)


def ecs_values(raw: bytes) -> SysmonConnection:
    """A connection that was moved to the Elastic Common Schema, `UtcTime` to `@timestamp`. Raises msgspec's errors."""
    ecs = _ECS.decode(raw)
    return SysmonConnection(
        ProcessGuid=ecs.process.entity_id,
        ProcessId=ecs.process.pid,
        Image=ecs.process.executable,
        User=_user(ecs.user),
        Protocol=ecs.network.transport,
        Initiated=_initiated(ecs.network.direction),
        SourceIp=ecs.source.ip,
        SourcePort=ecs.source.port,
        DestinationIp=ecs.destination.ip,
        DestinationPort=ecs.destination.port,
    )


def ecs_process(raw: bytes) -> SysmonProcess:
    """A process that was moved to the Elastic Common Schema, likewise. Raises msgspec's errors."""
    ecs = _ECS.decode(raw)
    process = ecs.process
    hashes = process.hash
    return SysmonProcess(
        ProcessGuid=process.entity_id,
        ProcessId=process.pid,
        Image=process.executable,
        User=_user(ecs.user),
        CommandLine=process.command_line,
        Hashes=f"SHA1={hashes.sha1},SHA256={hashes.sha256},MD5={hashes.md5}",
        ParentProcessId=process.parent.pid,
        ParentImage=process.parent.executable,
    )


def _initiated(direction: Scalar) -> bool | None:
    return direction in ("egress", "outbound") if direction else None


def _user(user: _EcsUser) -> str:
    return f"{user.domain}\\{user.name}" if user.domain else user.name
