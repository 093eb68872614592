"""The edge lab: requests at the edges through real proxies, and every row held against what was carried out."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.events import ProtectionMode
from tests.live.edges.judge import HEAD, Done, Rows, Tally, judge
from tests.live.edges.logs import logged
from tests.live.edges.origin import READY
from tests.live.edges.proxies import INSTANT, NGINX_TLS, QUICK, addresses, available, start, unknown
from tests.live.edges.scenarios import FEW_PORTS, LIST, LISTED, ORDINARY, PLAIN, Request, requests
from tests.live.sensing import replayed, sensing
from tests.live.stage import Stage, WentWrong, await_that, module

MODES = (ProtectionMode.AUDIT, ProtectionMode.BLOCK)
UNNAMED = "microsocks"
"""The sensor has to learn that it is a proxy, as with those that answer at once."""
CLIENT_SECS = 600.0


@dataclass(frozen=True)
class Packages:
    """Where the unpacked proxies are."""

    squid: Path
    others: Path


def edges(stage: Stage, folder: Path, tracefs: Path, packages: Packages, *, short: bool, only: str) -> bool:
    """Run all scenarios in both modes and print a line for each; whether all of them are good."""
    names = QUICK if short else available(packages.others)
    if "goproxy" not in names and not short:
        print("without goproxy: `make live` builds it where go is on PATH", flush=True)
    _use_name_server(folder)
    for base in (PLAIN, LISTED):
        stage.own_in_far(f"{base}/16")
    log = folder / "origin.jsonl"
    stage.far(module("edges.origin", log), "edge-origin")
    await_that(lambda: READY in stage.output("edge-origin"), "the origin is ready")
    start(stage, folder, packages.squid, packages.others, names)
    print(HEAD, flush=True)
    good = True
    for mode in MODES:
        for tally in _run(stage, folder / f"edges-{mode}", tracefs, mode, names, log, short=short, only=only):
            print(tally.in_words(), flush=True)
            good &= tally.is_good
    return good


def _run(
    stage: Stage,
    folder: Path,
    tracefs: Path,
    mode: ProtectionMode,
    names: tuple[str, ...],
    log: Path,
    *,
    short: bool,
    only: str,
) -> list[Tally]:
    folder.mkdir(mode=0o755)
    kinds = (*names, *((NGINX_TLS,) if "nginx" in names else ()), INSTANT)
    asked = list(requests(mode, kinds, short=short, only=only))
    known, more = addresses(names), unknown()
    places = {request.number: known.get(request.proxy) or next(more) for request in asked}
    plan, diary = folder / "plan.jsonl", folder / "diary.jsonl"
    plan.write_text("".join(json.dumps(_planned(request, places[request.number])) + "\n" for request in asked))
    named = [place for name, place in known.items() if name != UNNAMED]
    with sensing(stage, folder, tracefs, mode, named, listed=LIST, more=("--learn",)) as sensed:
        client = stage.near(module("edges.client", plan, diary), f"edge-client-{mode}")
        if client.wait(CLIENT_SECS):
            output = stage.output(f"edge-client-{mode}")[-2000:]
            raise WentWrong(f"the client ended with {client.returncode}: {output}")
        await_that(lambda: not stage.is_far_connected(), "what the proxies still do ends")
    rows, verdicts = replayed(sensed, folder)
    lines = ([json.loads(line) for line in file.read_bytes().splitlines()] for file in (rows, verdicts))
    reached = Counter(json.loads(line)["host"] for line in log.read_text().splitlines())
    done = list(_done(asked, places, folder.parent, diary, reached))
    if mode is ProtectionMode.AUDIT:
        idle = sorted({one.request.proxy for one in done if one.request.scenario.name == ORDINARY and not one.reached})
        if idle:
            raise WentWrong(
                f"{', '.join(idle)}: an ordinary request was not carried out; see the logs in {folder.parent}"
            )
    return judge(done, Rows.of(*lines))


def _planned(request: Request, place: tuple[str, int]) -> dict[str, object]:
    words = request.words().hex()
    how = {"proxy": request.proxy, "sent": request.scenario.sent, "words": words}
    return {"number": request.number, "local_port": request.local_port, "address": place[0], "port": place[1], **how}


def _done(
    asked: Sequence[Request], places: dict[int, tuple[str, int]], logs: Path, diary: Path, reached: Counter[str]
) -> Iterator[Done]:
    by_number = {entry["number"]: entry for entry in map(json.loads, diary.read_text().splitlines())}
    logged_ports = {proxy: logged(logs, proxy) for proxy in {request.proxy for request in asked}}
    for request in asked:
        entry = by_number[request.number]
        yield Done(
            request,
            (entry["local_port"], *places[request.number]),
            entry["pid"],
            frozenset({entry["name"], Path(entry["path"]).name}),
            entry["path"],
            entry["command_line"],
            bool(entry["answer"]),
            frozenset(host for host in (request.host, request.other) if reached[host]),
            _is_logged(request, logged_ports[request.proxy]),
        )


def _is_logged(request: Request, ports: frozenset[int] | None) -> bool | None:
    if ports is None or request.scenario.sent == FEW_PORTS:
        return None
    return request.local_port in ports


def _use_name_server(folder: Path) -> None:
    """Names are those of the lab, for whatever runs in this mount namespace."""
    for file, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")):
        (folder / file).write_text(text)
        subprocess.run(["mount", "--bind", folder / file, f"/etc/{file}"], check=True)
