"""`python -m tests.live`: the sensor beside a real proxy and real clients, and every row held against what the clients did.

    python -m tests.live                            all three modes, then the load
    python -m tests.live --mode block --rate 0      one mode, no load
    python -m tests.live --mode none                only the load
    python -m tests.live --edges                    the edge lab: requests at the edges, through many real proxies
    python -m tests.live --edges --short            a short part of them, through four proxies
    python -m tests.live --edges --only socks       those with this in their name

As root, on Linux, with squid unpacked (`make live` does that). Network namespaces of its own: nothing of the machine's network
is touched, nothing is left. Exit codes: 0 all is as it should be, 1 something is wrong, 2 it cannot run here, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from schemas.events import ProtectionMode
from tests.live.oracle import Judgement
from tests.live.stage import ROOT, CannotRun, WentWrong, check_machine, enter_namespaces, module, stage

PACKAGE = ROOT / ".venv/squid"
EXIT_WRONG, EXIT_CANNOT, EXIT_STOPPED = 1, 2, 130
FINDINGS_SHOWN = 20


def main() -> int:
    """Run what was asked for; gives the exit code."""
    given = _parser().parse_args()
    try:
        check_machine()
        enter_namespaces()
    except CannotRun as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT
    for stop in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a script's shell has what it starts in the background ignore the first
        signal.signal(stop, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="unproxy-live-"))
    folder.chmod(0o755)  # some clients, and the proxy, run as the unprivileged user
    code = EXIT_WRONG
    try:
        code = 0 if live(given, folder) else EXIT_WRONG
    except CannotRun as error:
        print(error, file=sys.stderr)
        code = EXIT_CANNOT
    except WentWrong as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = EXIT_STOPPED
    if given.keep or code == EXIT_WRONG:
        print(f"logs and rows are in {folder}")
    else:
        shutil.rmtree(folder)
    return code


def live(given: argparse.Namespace, folder: Path) -> bool:
    """The runs, one after the other; whether all is as it should be."""
    from tests.live.edges.run import Packages, edges
    from tests.live.load import load
    from tests.live.run import run
    from tests.live.squid import Squid

    tracefs = folder / "tracefs"
    tracefs.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tracefs], check=True)
    modes = [mode for mode in ProtectionMode if given.mode in ("all", mode)]
    good = True
    try:
        with stage(folder) as place:
            if given.edges:
                packages = Packages(given.squid.resolve(), given.proxies.resolve())
                return edges(place, folder, tracefs, packages, short=given.short, only=given.only)
            if modes:
                place.far(module("origin", folder), "origin")
                squid = Squid(place, given.squid.resolve(), folder)
            for mode in modes:
                judgement = run(place, squid, tracefs, mode, given.times)
                print("\n".join(table(judgement)), flush=True)
                good &= not judgement.findings
            if given.rate:
                figures = load(place, tracefs, ProtectionMode(given.load_mode), given.rate, given.secs)
                print("\n".join(figures.table()), flush=True)
                good &= figures.good
    finally:
        subprocess.run(["umount", tracefs], check=True)
    return good


def table(judgement: Judgement) -> Iterator[str]:
    """A run in figures, then what was found, by kind and one by one."""
    counts = judgement.counts
    yield f"{judgement.mode}, load {os.getloadavg()[0]:.1f}"
    yield f"  connections of the clients  {counts['connections']:>6,}"
    yield f"  requests to the proxy       {counts['requests']:>6,}"
    if judgement.mode is not ProtectionMode.OFF:
        for name in ("host", "pid", "user", "command_line"):
            yield f"    on a row, {name.replace('_', ' '):<17} {counts[name]:>6,}"
    yield f"  listed                      {counts['listed']:>6,}"
    yield f"    marked on row and verdict {counts['marked']:>6,}"
    if judgement.mode is ProtectionMode.BLOCK:
        yield f"    stopped inline            {counts['inline']:>6,}"
        yield f"    by destroying the socket  {counts['socket_destroyed']:>6,}"
    yield f"    done by the proxy's log   {counts['done']:>6,}"
    yield f"  wrong                       {len(judgement.findings):>6,}"
    for kind, count in Counter(finding.kind for finding in judgement.findings).most_common():
        yield f"    {kind:<40} {count:>6,}"
    for finding in judgement.findings[:FINDINGS_SHOWN]:
        yield f"    {finding.kind}: {finding.what}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = ["all", "none", *map(str, ProtectionMode)]
    parser.add_argument("--mode", choices=modes, default="all", help="modes to run the clients in (default: all)")
    parser.add_argument("--times", type=int, default=3, help="how often each client does its errands (default: 3)")
    parser.add_argument("--rate", type=int, default=2_000, help="connections a second of the load; 0 for none")
    parser.add_argument("--secs", type=int, default=30, help="how long (default: 30)")
    parser.add_argument(
        "--load-mode", choices=modes[2:], default="audit", help="the sensor's mode then (default: audit)"
    )
    parser.add_argument("--squid", type=Path, default=PACKAGE, metavar="DIR", help="Debian's packages, unpacked")
    parser.add_argument("--edges", action="store_true", help="the edge lab instead; a line for each scenario and mode")
    parser.add_argument("--only", default="", metavar="TEXT", help="with --edges: scenarios with this in their name")
    parser.add_argument("--short", action="store_true", help="with --edges: a short part, through four proxies")
    parser.add_argument(
        "--proxies", type=Path, default=ROOT / ".venv/edges", metavar="DIR", help="likewise the edge lab's"
    )
    parser.add_argument("--keep", action="store_true", help="keep logs and rows of a good run, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
