"""One run in one mode: sensor, clients, proxy; then everything is held together."""

from __future__ import annotations

import signal
from pathlib import Path

from schemas.events import ProtectionMode
from tests.live import diary
from tests.live.errands import SECRET
from tests.live.oracle import Judgement, Wrong, judge
from tests.live.sensing import rows_of, sensing
from tests.live.squid import Squid
from tests.live.stage import PROXY, PROXY_6, PROXY_PORT, Stage, WentWrong, module

CLIENTS = ("python", "browser", "curl")
CLIENT_SECS = 300.0
PROXIES = ((PROXY, PROXY_PORT), (PROXY_6, PROXY_PORT))


def run(stage: Stage, squid: Squid, tracefs: Path, mode: ProtectionMode, times: int) -> Judgement:
    """Let the clients do their errands so many times. Raises WentWrong where something did not work at all."""
    folder = stage.folder / mode
    folder.mkdir(mode=0o755)
    with sensing(stage, folder, tracefs, mode, PROXIES) as sensed:
        names = {kind: f"{kind}-{mode}" for kind in CLIENTS}
        running = {
            kind: stage.near(module("clients", kind, folder / f"{kind}.diary", str(times)), name)
            for kind, name in names.items()
        }
        for kind, process in running.items():
            if process.wait(CLIENT_SECS):
                raise WentWrong(f"client {kind} ended with {process.returncode}: {stage.output(names[kind])[-2000:]}")
            stage.stop(process, signal.SIGTERM)
        logged = squid.log()
    entries = [entry for kind in CLIENTS for entry in diary.read(folder / f"{kind}.diary")]
    judgement = judge(mode, entries, rows_of(sensed, folder), logged)
    for file in (sensed.lines, folder / "rows.jsonl", folder / "verdicts.jsonl"):
        if SECRET.encode() in file.read_bytes():
            judgement.wrong(Wrong.SECRET, str(file))
    return judgement
