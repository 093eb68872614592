"""A device's lines around an update of the worker, for state that an older version of the code wrote.

To write a file of `tests/data/state`, run this file in a checkout of the code that wrote it, with the file and the name of a
story: 640c2c9 with `story` for `format-4.jsonl`, 461ff28 with `several` for `format-5-no-sensors.jsonl`.

    PYTHONPATH=. python .../tests/streams/state_story.py .../tests/data/state/format-4.jsonl story

It imports only what every version has. The file holds one state entry per line: the key and the value in base64.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

BEGIN = datetime(2026, 11, 24, 19, 7, 28, tzinfo=UTC)
DEPARTED, BLOCKED, OPEN, UNNAMED = 40_000, 40_001, 40_002, 40_003
"""Local ports: a connection that left before the update, and three that were in the state."""

BYTES: dict[str, object] = {"pkts_toserver": 5, "pkts_toclient": 4, "bytes_toserver": 400, "bytes_toclient": 300}


def story() -> tuple[list[Message], list[Message]]:
    """Messages before and after the update, which comes at 450 s."""
    lines = [
        _socket(0, DEPARTED, ended=0.3),
        _eve(0.1, DEPARTED, "alert", alert={"action": "blocked", "signature": "listed"}, http=_connect("bad.example")),
        *(_socket(at, 50_000 + at) for at in range(20, 400, 20)),
        _socket(400, BLOCKED, ended=400.3),
        _eve(400.1, BLOCKED, "alert", alert={"action": "blocked", "signature": "listed"}, http=_connect("bad.example")),
        _socket(420, OPEN),
        _eve(420.2, OPEN, "http", http=_connect("open.example") | {"status": 200}),
        _socket(449, UNNAMED),
        _eve(450.5, UNNAMED, "http", http=_connect("late.example") | {"status": 200}),
        *(_socket(at, 50_000 + at) for at in range(460, 605, 20)),
        _eve(611, DEPARTED, "flow", flow=_flow(0, 0.3)),
        *(_socket(at, 50_000 + at) for at in range(620, 1_000, 20)),
        _eve(1_011, BLOCKED, "flow", flow=_flow(400, 400.3)),
        _socket(420, OPEN, ended=1_020),
        *(_socket(at, 50_000 + at) for at in range(1_025, 1_040, 5)),
    ]
    return _around_update(lines)


def several() -> tuple[list[Message], list[Message]]:
    """Messages before and after the update: connections that two endpoint and two network sensors report."""
    lines: list[tuple[float, str, bytes]] = []
    for begin, port in ((0, DEPARTED), (400, BLOCKED), (420, OPEN)):
        lines += [
            _socket(begin, port),
            _eve(begin + 0.2, port, "http", http=_connect("a.example") | {"status": 200}),
            _zeek(begin + 0.21, port, method="CONNECT", uri="a.example:443", host="a.example", status_code=200),
        ]
        if port != OPEN:
            lines += [_sysmon(begin + 0.25, port), _socket(begin, port, ended=begin + 0.5)]
    lines += [
        *(_socket(at, 50_000 + at) for at in range(20, 400, 20)),
        _own(421, UNNAMED, "b.example"),
        *(_socket(at, 50_000 + at) for at in range(460, 605, 20)),
        _sysmon(420.05, OPEN),
        _socket(420.95, UNNAMED),
        _eve(606, OPEN, "http", http=_connect("c.example") | {"status": 200}, tx=1),
        _zeek(606, OPEN, method="CONNECT", uri="c.example:443", host="c.example", status_code=200, trans_depth=2),
    ]
    for begin, port in ((0, DEPARTED), (400, BLOCKED), (420, OPEN)):
        lines += [
            _eve(611 + begin / 1_000, port, "flow", flow=_flow(begin, begin + 0.5)),
            _zeek(612 + begin / 1_000, port, duration=0.5, orig_bytes=100, resp_bytes=200, conn_state="SF", ts=begin),
            _sysmon(begin + 0.25, port),
        ]
    return _around_update(sorted(lines, key=lambda line: line[0]))


def _around_update(lines: list[tuple[float, str, bytes]]) -> tuple[list[Message], list[Message]]:
    messages = [
        Message(number, round((BEGIN.timestamp() + at) * 1_000), b"dev", value, dialect, keyed=dialect == "zeek")
        for number, (at, dialect, value) in enumerate(lines)
    ]
    updated = round((BEGIN.timestamp() + 450) * 1_000)
    return [m for m in messages if m.logged_ms < updated], [m for m in messages if m.logged_ms >= updated]


def run(messages: Iterable[Message]) -> dict[bytes, bytes]:
    """The state entries after these messages, with a checkpoint after each."""
    pipeline = Pipeline(CorrelationSettings())
    table: dict[bytes, bytes] = {}
    for message in messages:
        pipeline.take(message)
        pipeline.drain()
        table.update(pipeline.checkpoint())
    return table


def entries(path: Path) -> list[tuple[bytes, bytes]]:
    """State entries from a file."""
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    return [(base64.b64decode(key), base64.b64decode(value)) for key, value in pairs]


def _time(at: float) -> str:
    return (BEGIN + timedelta(seconds=at)).isoformat().replace("+00:00", "Z")


def _socket(at: float, port: int, ended: float | None = None) -> tuple[float, str, bytes]:
    """The endpoint's record, written when the connection opens, or when it ends."""
    line = {"device": "dev", "pid": port, "process": "curl", "local_ip": "10.0.0.7", "local_port": port}
    line |= {"remote_ip": "10.9.9.9", "remote_port": 3128, "result": "success"}
    line |= {"ts_attempt": _time(at), "ts_established": _time(at)}
    if ended is not None:
        line["ts_closed"] = _time(ended)
    written = at if ended is None or ended < at + 1 else ended
    return written, "sockets", json.dumps(line).encode()


def _eve(at: float, port: int, kind: str, **more: object) -> tuple[float, str, bytes]:
    """The network sensor's record."""
    line = {"timestamp": _time(at), "flow_id": port, "event_type": kind, "host": "dev", "proto": "TCP", "tx_id": 0}
    line |= {"src_ip": "10.0.0.7", "src_port": port, "dest_ip": "10.9.9.9", "dest_port": 3128}
    return at, "suricata", json.dumps(line | more).encode()


def _zeek(at: float, port: int, *, ts: float | None = None, **more: object) -> tuple[float, str, bytes]:
    """Another network sensor's record, with flow ids of another kind."""
    line: dict[str, object] = {"ts": BEGIN.timestamp() + (at if ts is None else ts), "uid": f"CXT2XBVBBqwWHr{port}"}
    line |= {"id.orig_h": "10.0.0.7", "id.orig_p": port, "id.resp_h": "10.9.9.9", "id.resp_p": 3128, "proto": "tcp"}
    kind: dict[str, object] = {"_path": "http", "trans_depth": 1} if ts is None else {"_path": "conn"}
    return at, "zeek", json.dumps(line | kind | more).encode()


def _own(at: float, port: int, host: str) -> tuple[float, str, bytes]:
    """A request that the Linux sensor of this project observed."""
    line = {"kind": "http", "device": "dev", "ts": _time(at), "local_ip": "10.0.0.7", "local_port": port, "tx": 0}
    line |= {
        "remote_ip": "10.9.9.9",
        "remote_port": 3128,
        "flow": f"u-5f0c7f5f2b{port}",
        "ts_attempt": _time(at - 0.05),
    }
    return at, "sensor", json.dumps(line | {"method": "CONNECT", "target": f"{host}:443", "status": 200}).encode()


def _sysmon(at: float, port: int) -> tuple[float, str, bytes]:
    """Another endpoint sensor's record."""
    values = {"UtcTime": _time(at)[:-1].replace("T", " "), "ProcessId": str(port), "Image": "/usr/bin/curl"}
    values |= {"Protocol": "tcp", "Initiated": "true", "SourceIp": "10.0.0.7", "SourcePort": str(port)}
    values |= {"DestinationIp": "10.9.9.9", "DestinationPort": "3128", "User": "jane"}
    winlog = {
        "event_id": "3",
        "provider_name": "Microsoft-Windows-Sysmon",
        "event_data": values,
        "computer_name": "dev",
    }
    return at, "winlog", json.dumps({"@timestamp": _time(at), "winlog": winlog}).encode()


def _connect(host: str) -> dict[str, object]:
    return {"hostname": host, "url": f"{host}:443", "http_method": "CONNECT"}


def _flow(started: float, ended: float) -> dict[str, object]:
    return {"start": _time(started), "end": _time(ended), "state": "established", "reason": "timeout", **BYTES}


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w") as out:
        for pair in run({"story": story, "several": several}[sys.argv[2]]()[0]).items():
            out.write(json.dumps([base64.b64encode(part).decode() for part in pair]) + "\n")
