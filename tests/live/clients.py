"""The clients of the live run, each a program of its own that writes its own log.

    python -m tests.live.clients python|browser|curl LOG TIMES

`python` keeps connections alive and asks for several hosts on one; `browser` opens many at once from many threads, most of
them tunnels, retries, and leaves in the middle of some; `curl` starts curl again and again, as two users.
The first two run as the unprivileged user.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  # imported at the first connection, when the user may not read it any more
import http.client
import json
import os
import pwd
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.live.diary import Diary, Result
from tests.live.errands import API, FORBIDDEN, FRONT, LISTED, LISTED_BELOW, NOWHERE, PAGES, PARTS, SECRET
from tests.live.stage import PROXY, PROXY_6, PROXY_PORT, SERVERS, UNPRIVILEGED
from tests.live.wire import Wire

PROXY_BY_6 = (PROXY_6, PROXY_PORT)
THREADS = 24
CURLS_AT_ONCE = 3


def python(diary: Diary, times: int) -> None:
    """Keep-alive with several hosts on one connection, tunnels with several requests, urllib, one direct."""
    for _ in range(times):
        wire = Wire(diary)
        for host in (*PAGES, API, PAGES[0], LISTED, PARTS[0], FORBIDDEN, NOWHERE):
            if wire.request(host, "/page") is Result.CUT:
                wire.close()
                wire = Wire(diary)
        wire.request(API, "/form", port=8080, method="POST", body=f"password={SECRET}".encode())
        wire.close()
        for host in (*PAGES, LISTED, FORBIDDEN):
            one_tunnel(Wire(diary), host, requests=3)
        one_tunnel(Wire(diary, PROXY_BY_6), API)
        direct = Wire(diary, (SERVERS[0], 80), proxied=False)
        direct.request(PAGES[0])
        direct.close()
        with_urllib(diary, PARTS[-1])
        with_urllib(diary, LISTED)


class Noting(http.client.HTTPConnection):
    """Notes the port of the connection that urllib makes with it."""

    local = ("", 0)

    def connect(self) -> None:
        """Connect, and note it."""
        super().connect()
        Noting.local = self.sock.getsockname()[:2]


class WithNote(urllib.request.HTTPHandler):
    """Has urllib make such connections."""

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask over one."""
        return self.do_open(Noting, request)


def with_urllib(diary: Diary, host: str) -> None:
    """One request by urllib, which opens and closes for itself."""
    url = f"http://{host}/"
    opened = time.time()
    through = urllib.request.ProxyHandler({"http": f"http://{PROXY}:{PROXY_PORT}"})
    opener = urllib.request.build_opener(through, WithNote)
    result, status = Result.CUT, 0
    with suppress(OSError, http.client.HTTPException), opener.open(url, timeout=6) as answer:
        answer.read()
        result, status = Result.DONE, answer.status
    diary.write(
        connection=f"{os.getpid()}-urllib-{opened}", opened=opened, connected=time.time(), at=opened,
        local_ip=Noting.local[0], local_port=Noting.local[1], remote_ip=PROXY, remote_port=PROXY_PORT, result=result,
        status=status, method="GET", host=host, port=80, url=url,
    )  # fmt: skip


def browser(diary: Diary, times: int) -> None:
    """Pages with all they bring, many connections at a time; what fails is tried once more."""
    chance = random.Random(7)
    errands: list[Callable[[], object]] = []
    for _ in range(times):
        for page in PAGES:
            errands.append(partial(again, diary, page, requests=4))
            errands += [partial(again, diary, part, requests=2) for part in PARTS[:-1] for _ in range(2)]
            errands += [partial(small, diary, part) for part in PARTS[:3]]
        errands += [
            *(partial(again, diary, host) for host in (LISTED, LISTED_BELOW, FORBIDDEN, NOWHERE, "SHOP.Example")),
            partial(again, diary, SERVERS[1], inside=PAGES[1]),
            partial(again, diary, FRONT, inside=LISTED),
            lambda: one_tunnel(Wire(diary), API, pieces=True),
            lambda: one_tunnel(Wire(diary, PROXY_BY_6), PAGES[2]),
            partial(small, diary, LISTED_BELOW),
            lambda: Wire(diary).send_bytes(b""),
            lambda: Wire(diary).send_bytes(b"CONNECT bank.exam"),
            lambda: Wire(diary).leave_after_connect(PARTS[1]),
            lambda: Wire(diary).leave_in_the_middle(PAGES[0], 0.3),
        ]
    chance.shuffle(errands)
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(errand) for errand in errands]:
            done.result()


def again(diary: Diary, host: str, *, requests: int = 1, inside: str = "") -> None:
    """A tunnel, and another one if that was cut."""
    if one_tunnel(Wire(diary), host, requests=requests, inside=inside) is Result.CUT:
        one_tunnel(Wire(diary), host, inside=inside)


def one_tunnel(wire: Wire, host: str, *, requests: int = 1, inside: str = "", pieces: bool = False) -> Result:
    """A tunnel on a connection of its own."""
    result = wire.tunnel(host, requests=requests, inside=inside, pieces=pieces)
    wire.close()
    return result


def small(diary: Diary, host: str) -> None:
    """Two plain requests on a connection of their own."""
    wire = Wire(diary)
    if wire.request(host, "/pixel") is not Result.CUT:
        wire.request(host, "/big")
    wire.close()


WRITE_OUT = (
    '{"url":"%{url}","local_ip":"%{local_ip}","local_port":%{local_port},"remote_ip":"%{remote_ip}","new":%{num_connects},'
    '"status":"%{response_code}","tunnel":"%{http_connect}","exit":%{exitcode},"own":"%header{x-squid-error}"}\\n'
)
"""What curl reports of each transfer (curl(1), --write-out)."""
MANNER = "http://{}:{}".format
OVER_4, OVER_6 = MANNER(PROXY, PROXY_PORT), MANNER(f"[{PROXY_6}]", PROXY_PORT)


def calls(folder: Path) -> Iterator[list[str]]:
    """Command lines of curl."""
    (folder / "write-out").write_text(WRITE_OUT)
    (folder / "secrets").write_text(f"Cookie: {SECRET}\nProxy-Authorization: Basic {SECRET}\n")
    (folder / "hidden").write_text(f'url = "http://{API}/hidden?token={SECRET}"\n')
    for extra in (
        [f"http://{PAGES[0]}/"],
        [f"https://{PAGES[1]}/"],
        [f"http://{PAGES[0]}/", f"http://{PAGES[2]}/"],
        [f"https://{PARTS[2]}/", f"https://{PARTS[2]}/big"],
        [f"http://{LISTED}/"],
        [f"https://{LISTED}/"],
        [f"https://{LISTED_BELOW}/"],
        [f"http://{FORBIDDEN}/"],
        [f"https://{FORBIDDEN}/"],
        [f"http://{NOWHERE}/"],
        ["--proxytunnel", f"http://{API}:8080/"],
        ["--data", "a=b", f"http://{API}/form"],
        ["--head", f"http://{PARTS[3]}/"],
        ["--http1.0", f"http://{PARTS[4]}/"],
        ["--max-time", "0.8", f"http://{PAGES[1]}/slow"],
        ["--config", str(folder / "hidden")],
    ):
        yield ["curl", "--proxy", OVER_4, *extra]
    yield ["curl", "--proxy", OVER_6, f"https://{PAGES[0]}/"]


def curl(diary: Diary, times: int, folder: Path) -> None:
    """Each call, as root and as the unprivileged user in turn."""
    common = ["--silent", "--insecure", "--max-time", "6", "--header", f"@{folder / 'secrets'}"]
    common += ["--write-out", f"@{folder / 'write-out'}", "--output", os.devnull, "--output", os.devnull]
    wanted = [([*call[:1], *common, *call[1:]], user) for call in calls(folder) for user in (0, UNPRIVILEGED) * times]
    with ThreadPoolExecutor(CURLS_AT_ONCE) as pool:
        for done in [pool.submit(one_curl, diary, words, user) for words, user in wanted]:
            done.result()


def one_curl(diary: Diary, words: list[str], user: int) -> None:
    """Run it and write down what it reported of its transfers."""
    opened = time.time()
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[])
    written, _ = running.communicate()
    transfers = [json.loads(line) for line in written.splitlines()]
    connection = 0
    for transfer in transfers:
        connection += transfer["new"]
        scheme, _, rest = transfer["url"].partition("://")
        host, _, port = rest.partition("/")[0].partition(":")
        tunnel = scheme == "https" or "--proxytunnel" in words
        if transfer["new"] == 0 and tunnel:
            # Another request in the tunnel that is there.
            continue
        diary.write(
            client="curl", pid=running.pid, user=pwd.getpwuid(user).pw_name, command_line=" ".join(words),
            connection=f"{running.pid}-{connection}", opened=opened, connected=time.time(), at=opened,
            local_ip=transfer["local_ip"], local_port=max(transfer["local_port"], 0), remote_ip=transfer["remote_ip"],
            remote_port=PROXY_PORT, result=result_of(transfer, tunnel), status=int(transfer["tunnel" if tunnel else "status"]),
            method="CONNECT" if tunnel else method_of(words), host=host, inside=host if scheme == "https" else "",
            port=int(port or (443 if scheme == "https" else 80)), url="" if tunnel else transfer["url"],
        )  # fmt: skip


def method_of(words: Iterable[str]) -> str:
    """Of a plain request."""
    return "POST" if "--data" in words else "HEAD" if "--head" in words else "GET"


def result_of(transfer: dict[str, object], tunnel: bool) -> Result:
    """What became of a transfer, by curl's exit code and the proxy's words."""
    if transfer["exit"] == 0:
        return Result.REFUSED if transfer["own"] else Result.DONE
    if tunnel and transfer["tunnel"] not in ("000", "200"):
        return Result.REFUSED
    return Result.ABORTED if str(transfer["url"]).endswith("/slow") else Result.CUT


def main(kind: str, log: Path, times: int) -> None:
    """Run one of them."""
    if kind == "curl":
        curl(Diary(log, kind), times, log.parent)
        return
    log.touch()
    os.chown(log, UNPRIVILEGED, UNPRIVILEGED)
    os.setgroups([])
    os.setgid(UNPRIVILEGED)
    os.setuid(UNPRIVILEGED)
    {"python": python, "browser": browser}[kind](Diary(log, kind), times)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
