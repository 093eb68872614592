"""Values of Sysmon events that Winlogbeat's module or Elastic's pipelines moved to fields of the Elastic Common Schema."""

from __future__ import annotations

import msgspec

from schemas.parsers.common.values import Scalar
from schemas.parsers.elastic.parts import End, Hashes, Network, ProcessPart, User
from schemas.parsers.windows.record import SysmonConnection, SysmonProcess


class _Process(ProcessPart, gc=False):
    entity_id: Scalar = None


class _Ecs(msgspec.Struct, gc=False):
    source: End = End()
    destination: End = End()
    network: Network = Network()
    process: _Process = msgspec.field(default_factory=_Process)
    user: User = msgspec.field(default_factory=User)


_ECS = msgspec.json.Decoder(_Ecs)


def ecs_values(raw: bytes) -> SysmonConnection:
    """Return the values of a connection from the fields of the schema; `UtcTime` is in `@timestamp`. Raises msgspec's errors."""
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
    """Return the values of a process from the fields of the schema. Raises msgspec's errors."""
    ecs = _ECS.decode(raw)
    process = ecs.process
    parent, hashes = process.parent or ProcessPart(), process.hash or Hashes()
    return SysmonProcess(
        ProcessGuid=process.entity_id,
        ProcessId=process.pid,
        Image=process.executable,
        User=_user(ecs.user),
        CommandLine=process.command_line,
        Hashes=f"SHA1={hashes.sha1},SHA256={hashes.sha256},MD5={hashes.md5}",
        ParentProcessId=parent.pid,
        ParentImage=parent.executable,
    )


def _initiated(direction: Scalar) -> bool | None:
    return direction in ("egress", "outbound") if direction else None


def _user(user: User) -> str:
    return f"{user.domain}\\{user.name or ''}" if user.domain else user.name or ""
