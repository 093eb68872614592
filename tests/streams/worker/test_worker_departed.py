"""A worker on the real broker is killed between a connection's departure and its flow record: still one connection row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from schemas.clock import iso_micros
from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS
from tests.factories import micros
from tests.streams.worker import worker_large
from tests.streams.worker.worker_process import WorkerProcess, committed, ends, produce, read_all, wait_until


def socket(at: float, port: int) -> bytes:
    """The endpoint's record of a connection that lasted 0.3 s."""
    line = {"device": "dev", "pid": 7, "process": "curl", "local_ip": "10.0.0.7", "local_port": port}
    line |= {"remote_ip": "10.9.9.9", "remote_port": 3128, "result": "success"}
    times = {"ts_attempt": at, "ts_established": at, "ts_closed": at + 0.3}
    return json.dumps(line | {name: iso_micros(micros(when)) for name, when in times.items()}).encode()


def eve(at: float, kind: str, **more: object) -> bytes:
    """A record of the flow."""
    line = {"timestamp": iso_micros(micros(at)), "flow_id": 77, "event_type": kind, "host": "dev", "proto": "TCP"}
    line |= {"src_ip": "10.0.0.7", "src_port": 40_000, "dest_ip": "10.9.9.9", "dest_port": 3128}
    return json.dumps(line | more).encode()


def test_killed_between_departure_and_flow_record(kafka_settings_for: Callable[..., Settings], tmp_path: Path) -> None:
    """Suricata's default timeout; the worker's disk is lost, so tombstones come back from the changelog."""
    settings = kafka_settings_for(worker={"session_timeout_secs": 6})
    worker = WorkerProcess(settings, tmp_path / "log", script=Path(worker_large.__file__))
    http = {"hostname": "bad.example", "url": "bad.example:443", "http_method": "CONNECT"}
    flow = {"start": iso_micros(micros(0)), "end": iso_micros(micros(0.3)), "state": "established", "reason": "timeout"}
    try:
        worker.start()
        produce(settings, [(0, b"dev", socket(0, 40_000))], "sockets")
        alert = eve(0.1, "alert", alert={"action": "blocked", "signature": "listed"}, http=http)
        produce(settings, [(0, b"dev", alert)], "suricata")
        produce(settings, [(0, b"dev", socket(at, 50_000 + at)) for at in range(50, 600, 50)], "sockets")
        departed = ends(settings)[0]
        wait_until(lambda: committed(settings)[0] >= departed, "all is handled and the connection has left")
        worker.kill(Path(settings.worker.data_dir))
        worker.start()
        produce(settings, [(0, b"dev", eve(611, "flow", flow=flow))], "suricata")
        produce(settings, [(0, b"dev", socket(at, 50_000 + at)) for at in range(630, 800, 50)], "sockets")
        late = ends(settings)[0]
        wait_until(lambda: committed(settings)[0] >= late, "the flow record is handled")
        assert worker.stop() == 0
    finally:
        worker.discard()
    made = [json.loads(row) for raw in read_all(settings, NETWORK_EVENTS) for row in (raw.value() or b"").split(b"\n")]
    hops = [row for row in made if row["Layer"] == "connection" and row["LocalPort"] == 40_000]

    assert len({row["RecordId"] for row in hops}) == 1
    assert hops[-1]["Outcome"] == "blocked"
