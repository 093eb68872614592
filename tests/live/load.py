"""Many short connections through a proxy at once: what the sensor loses, and what it costs.

    python -m tests.live.load client DIARY CONNECTIONS_A_SECOND SECONDS
    python -m tests.live.load proxy

The proxy answers every CONNECT with 200 and closes. One connection in a hundred asks for the listed destination.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from schemas.events import ProtectionMode
from tests.live import diary
from tests.live.diary import Diary, Result
from tests.live.errands import LISTED, LOAD_HOSTS
from tests.live.oracle import Judgement, Wrong, judge
from tests.live.sensing import Sensed, rows_of, sensing
from tests.live.stage import LOAD_PROXIES, Stage, WentWrong, await_that, module

PORT = 3129
PROCESSES, THREADS = 2, 3
LISTED_EVERY = 100
LOSS_MAX = 0.001
STEP_SECS = 0.002
GRACE_SECS = 120.0
READY = "load proxy: ready"
ANSWER = b"HTTP/1.1 200 Connection established\r\n\r\n"
LOST = (Wrong.MISSING, Wrong.NO_HOST)
IN_DOUBT = (Wrong.TWICE, Wrong.UNKNOWN)
"""Two connections between the same ends within a millisecond, which is no time to distinguish them by: each has a
row, and what was asked on it a row of its own."""


@dataclass(frozen=True)
class Figures:
    """What came of the load."""

    wanted: int
    secs: float
    judgement: Judgement
    sensed: Sensed
    load_average: float

    @property
    def connections(self) -> int:
        """Those that the clients made."""
        return self.judgement.counts["connections"]

    @property
    def kinds(self) -> Counter[Wrong]:
        """Findings by kind."""
        return Counter(finding.kind for finding in self.judgement.findings)

    @property
    def loss(self) -> float:
        """Connections that have no row, or not their destination."""
        return sum(self.kinds[kind] for kind in LOST) / max(self.connections, 1)

    @property
    def doubt(self) -> float:
        """Rows of which it is unknown whether they belong together, for each connection."""
        return sum(self.kinds[kind] for kind in IN_DOUBT) / max(self.connections, 1)

    @property
    def counted(self) -> int:
        """What the sensor counts as lost."""
        return sum(count for name, count in self.sensed.counters.items() if "lost" in name)

    @property
    def cpu_us(self) -> float:
        """Of the sensor, for each connection that it met; others on the machine are among them."""
        return 1e6 * self.sensed.cpu_secs / max(self.sensed.counters.get("attempts", 0), 1)

    @property
    def good(self) -> bool:
        """Little is lost, what is lost is counted, and nothing is wrong besides."""
        wrong = sum(count for kind, count in self.kinds.items() if kind not in (*LOST, *IN_DOUBT))
        little = max(self.loss, self.doubt) < LOSS_MAX
        return self.connections > 0 and little and not wrong and (not self.loss or self.counted > 0)

    def table(self) -> Iterator[str]:
        """All of it in words."""
        sensed, counts = self.sensed, self.judgement.counts
        yield f"load, in {self.judgement.mode}, machine's load {self.load_average:.1f}"
        yield f"  connections, wanted         {self.wanted:>9,}"
        yield f"  connections, made           {self.connections:>9,} in {self.secs:.1f} s, {self.connections / self.secs:,.0f}/s"
        yield f"  without a row               {self.kinds[Wrong.MISSING]:>9,}"
        yield f"  without their destination   {self.kinds[Wrong.NO_HOST]:>9,}"
        yield f"  loss                        {self.loss:>9.3%} (limit {LOSS_MAX:.1%})"
        yield f"  lost by the sensor's count  {self.counted:>9,}"
        yield f"  in doubt                    {self.doubt:>9.3%} (limit {LOSS_MAX:.1%})"
        yield f"  listed, and marked          {counts['listed']:>9,} {counts['marked']:>9,}"
        share = sensed.cpu_secs / self.secs
        yield f"  CPU of the sensor           {self.cpu_us:>9,.0f} µs a connection, {share:.2f} of a core"
        yield f"  its memory                  {sensed.rss_kb // 1024:>9,} MB at most"
        yield f"  its last word               {' '.join(f'{name}={count}' for name, count in sensed.counters.items())}"
        for kind, count in self.kinds.most_common():
            example = next(finding.what for finding in self.judgement.findings if finding.kind is kind)
            yield f"    {kind:<40} {count:>6,}, such as {example}"


def load(stage: Stage, tracefs: Path, mode: ProtectionMode, rate: int, secs: int) -> Figures:
    """One run. Raises WentWrong."""
    folder = stage.folder / "load"
    folder.mkdir()
    for _ in range(PROCESSES):
        stage.far(module("load", "proxy"), "load-proxy")
    await_that(lambda: stage.output("load-proxy").count(READY) == PROCESSES, "the load's proxies start")
    diaries = [folder / f"client-{number}.diary" for number in range(PROCESSES)]
    with sensing(stage, folder, tracefs, mode, [(address, PORT) for address in LOAD_PROXIES]) as sensed:
        began = time.monotonic()
        share = str(rate / PROCESSES)
        running = [stage.near(module("load", "client", path, share, str(secs)), path.stem) for path in diaries]
        for path, process in zip(diaries, running, strict=True):
            if process.wait(secs + GRACE_SECS):
                raise WentWrong(f"the load ended with {process.returncode}: {stage.output(path.stem)[-1000:]}")
        average = os.getloadavg()[0]
        took = time.monotonic() - began
    entries = [entry for path in diaries for entry in diary.read(path)]
    if entries:
        took = max(entry.connected for entry in entries) - min(entry.opened for entry in entries)
    return Figures(rate * secs, took, judge(mode, entries, rows_of(sensed, folder), None), sensed, average)


def client(log: Path, rate: float, secs: float) -> None:
    """Connect, ask, close, at that rate as far as the machine allows; write it all down in the end."""
    written = Diary(log, "load")
    made: list[dict[str, object]] = []
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        asking = [pool.submit(_ask_again_and_again, made, rate / THREADS, began, secs) for _ in range(THREADS)]
        for thread in asking:
            thread.result()
    for number, facts in enumerate(made):
        written.write(connection=str(number), **facts)


def _ask_again_and_again(made: list[dict[str, object]], rate: float, began: float, secs: float) -> None:
    chance = random.Random(threading.get_native_id())
    done = 0
    while (now := time.monotonic() - began) < secs:
        while done < rate * now and time.monotonic() - began < secs:
            done += 1
            host = LISTED if chance.randrange(LISTED_EVERY) == 0 else chance.choice(LOAD_HOSTS)
            made.append(_ask(host, chance.choice(LOAD_PROXIES)))
        time.sleep(STEP_SECS)


def _ask(host: str, proxy: str) -> dict[str, object]:
    opened = time.time()
    with socket.create_connection((proxy, PORT), timeout=GRACE_SECS) as asking:
        connected = time.time()
        local = asking.getsockname()
        try:
            asking.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            answer = asking.recv(4_096)
        except OSError:
            answer = b""
    return {
        "opened": opened, "connected": connected, "at": connected, "ended": time.time(), "local_ip": local[0],
        "local_port": local[1], "remote_ip": proxy, "remote_port": PORT, "method": "CONNECT", "host": host, "port": 443,
        "result": Result.DONE if answer == ANSWER else Result.CUT, "status": 200 if answer else 0,
    }  # fmt: skip


def proxy() -> None:
    """Serve until killed, beside others on the same port."""
    listening = socket.create_server(("", PORT), backlog=4_096, reuse_port=True)
    print(READY, flush=True)
    for _ in range(THREADS - 1):
        threading.Thread(target=_answer, args=(listening,), daemon=True).start()
    _answer(listening)


def _answer(listening: socket.socket) -> None:
    while True:
        connected, _ = listening.accept()
        try:
            connected.recv(4_096)
            connected.sendall(ANSWER)
        except OSError:
            continue
        finally:
            connected.close()


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    else:
        proxy()
