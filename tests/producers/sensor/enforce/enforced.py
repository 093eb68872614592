"""What the kernel does for the sensor, in a network namespace of its own: one scenario a run, its outcome as JSON on stdout.

unshare --net python -m tests.producers.sensor.enforce.enforced SCENARIO
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from producers.sensor.enforce.inline import Gate, Queue
from producers.sensor.enforce.mode import Enforcement
from producers.sensor.http.capture import Capture, capturing
from producers.sensor.http.learning import Asked, Learner
from producers.sensor.http.observer import CaptureReader, Plan, level_of, level_of_all
from producers.sensor.http.packets import Packet
from producers.sensor.kernel.nft_rules import NoRules, Rules
from producers.sensor.kernel.sock_diag import Destroyer, Ended, Ends, FiveTuple, why_not_destroy
from producers.sensor.queue import Queue as Lines
from schemas.address import canonical_ip
from schemas.events import Micros, ProtectionMode
from tests.producers.sensor.http.fake_level import HELLO, Level, events, segment
from tests.producers.sensor.http.wire import hello

V4, V6 = "198.51.100.80", "2001:db8:51::80"
HERE, BESIDE, DEVICE = "198.51.100.1", "198.51.100.2", "beside"
"""Two machines, and what is between them."""
PORT = 3128
WAIT_SECS = 5.0
ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"


class Proxy:
    """Answers whatever comes at once, unless it is silent, and remembers it."""

    def __init__(self, address: str, answer: bytes = ANSWER) -> None:
        self.answer = answer
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address = address
        self.server = socket.create_server((address, PORT), family=family, dualstack_ipv6=address == "::")
        self.got: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self.server.accept()
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while content := client.recv(65_536):
                self.got.append(content)
                client.sendall(self.answer)


def ask(address: str, *words: bytes) -> list[str]:
    """Send these one after the other; what came of each: answered, or the error."""
    outcome = []
    with connected(address) as client:
        for word in words:
            try:
                client.sendall(word)
                outcome.append("answered" if client.recv(65_536) else "closed")
            except OSError as error:
                outcome.append(type(error).__name__)
    return outcome


def connect_to(host: str) -> bytes:
    return f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode()


def ends_of(client: socket.socket) -> FiveTuple:
    local, remote = client.getsockname(), client.getpeername()
    return canonical_ip(local[0]), local[1], canonical_ip(remote[0]), remote[1]


def tables() -> list[str]:
    """Names of the tables that there are."""
    rules = Rules()
    found = [name for _, name in rules.tables()]
    rules.close()
    return found


@contextmanager
def blocking(
    lines: list[bytes], rules: Callable[[], Rules] = Rules, mode: ProtectionMode = ProtectionMode.BLOCK
) -> Iterator[Enforcement]:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "listed.txt"
        listed.write_text("listed.example\n")
        with Enforcement(
            "dev-a", lines.append, mode=mode, list_path=listed, proxies=[("", PORT)],
            events=lambda: Level().packet, rules=rules,
        ) as enforcement:  # fmt: skip
            yield enforcement


def inline() -> dict[str, Any]:
    """Listed requests do not reach the proxy, others do; nothing is left in the kernel."""
    proxies = [Proxy(V4), Proxy(V6)]
    lines: list[bytes] = []
    outcome: dict[str, Any] = {}
    with blocking(lines) as enforcement:
        outcome["inline"] = enforcement.inline
        outcome["tables"] = len(set(tables()))
        outcome["asked"] = {
            proxy.address: [
                ask(proxy.address, connect_to("listed.example")),
                ask(proxy.address, b"GET http://sub.listed.example/ HTTP/1.1\r\n\r\n"),
                ask(proxy.address, connect_to("fine.example"), HELLO + b"listed.example"),
                ask(proxy.address, connect_to("fine.example"), HELLO + b"fine.example"),
            ]
            for proxy in proxies
        }
        (family,) = enforcement.families()
        outcome["counted"] = {f"{sample.name} {sample.labels['what']}": sample.value for sample in family.samples}
    outcome["got"] = [content.decode() for proxy in proxies for content in proxy.got]
    outcome["after"] = ask(V4, connect_to("listed.example"))
    return outcome | {"lines": [json.loads(line) for line in lines], "left": tables()}


def none() -> Rules:
    """As on a machine without nf_tables."""
    raise NoRules("nf_tables: not here")


def at_sight() -> dict[str, Any]:
    """Where there are no rules, the socket is destroyed when the request is seen; of a connection that is gone it cannot be."""
    proxy = Proxy(V4)
    lines: list[bytes] = []
    with blocking(lines, none) as enforcement, connected(V4) as client, capturing([PORT]) as capture:
        client.sendall(connect_to("fine.example"))
        client.recv(65_536)
        client.sendall(HELLO)
        client.recv(65_536)
        client.sendall(connect_to("listed.example"))
        client.recv(65_536)
        flow = ends_of(client)
        hello, connect = [packet.ack for packet in _captured(capture, 3) if packet.payload][-2:]
        tunnelled = events("listed.example", at=1, flow=flow)._replace(acked=connect + len(ANSWER))
        enforcement.observed([tunnelled])
        try:
            error = client.recv(1).decode()
        except OSError as raised:
            error = type(raised).__name__
        enforcement.observed([events("sub.listed.example", at=2, flow=flow)._replace(acked=hello)])
        (reset,) = _captured(capture, 1)
        enforcement.reset(segment(flow, reset.flags, ack=reset.ack))
        enforcement.observed([events("listed.example", at=10**9, flow=(flow[0], 1, *flow[2:]))])
        inline = enforcement.inline
    return {
        "inline": inline, "error": error, "got": len(proxy.got), "lines": [json.loads(line) for line in lines],
        "left": tables(),
    }  # fmt: skip


@contextmanager
def learning(
    lines: list[bytes], denied: str = "", *, hold_unknown: bool = False
) -> Iterator[tuple[CaptureReader, Lines]]:
    """A sensor's HTTP level that blocks listed requests and knows no proxy yet.

    Packets are captured at once; none is read before the caller starts the level.
    """
    queue = Lines()
    learner = Learner([], [(denied, PORT)])
    plan = Plan(ProtectionMode.BLOCK, learns=True, hold_unknown=hold_unknown)
    with tempfile.TemporaryDirectory() as folder, capturing([], learns=True) as capture:
        listed = Path(folder) / "listed.txt"
        listed.write_text("listed.example\n")
        with Enforcement(
            "dev-a", lines.append, mode=ProtectionMode.BLOCK, list_path=listed,
            events=lambda: (level_of_all(plan) if hold_unknown else level_of(plan, learner)).packet,
            is_proxied=learner.is_asked if hold_unknown else None,
        ) as enforcement:  # fmt: skip
            capture_reader = CaptureReader(capture, plan, queue, "dev-a", enforcement, learner)
            yield capture_reader, queue
            capture_reader.close()


def unknown_held() -> dict[str, Any]:
    """Nothing listed passes to proxies that are not named, from the first request on; what is not asked of a proxy goes on."""
    lines: list[bytes] = []
    head = connect_to("listed.example")
    socks = b"\x05\x01\x00\x05\x01\x00\x03\x0elisted.example\x01\xbb"
    talks = {
        "connect": [head],
        "uri": [b"GET http://listed.example/ HTTP/1.1\r\n\r\n"],
        "socks": [socks],
        "name in a tunnel": [connect_to("fine.example"), hello("listed.example")],
        "fine": [connect_to("fine.example"), hello("fine.example")],
        "no proxy": [b"GET / HTTP/1.1\r\nHost: listed.example\r\n\r\n"],
        "no proxy, TLS": [hello("listed.example")],
        "denied": [head],
    }
    proxies = {what: Proxy(f"127.0.1.{number}") for number, what in enumerate(talks, 1)}
    slow = Proxy("127.0.1.99", b"")
    with learning(lines, proxies["denied"].address, hold_unknown=True) as (capture_reader, _):
        capture_reader.start()
        asked = {what: ask(proxies[what].address, *words) for what, words in talks.items()}
        with connected(slow.address) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for byte in head:
                    client.sendall(bytes([byte]))
                asked["bytes"] = [str(client.recv(1))]
            except OSError as error:
                asked["bytes"] = [type(error).__name__]
    verdicts = [line for line in map(json.loads, lines) if line["kind"] == "verdict"]
    return {
        "asked": asked,
        "got": {what: sum(map(len, proxy.got)) for what, proxy in proxies.items()} | {"bytes": b"".join(slow.got).decode()},
        "whole": {what: sum(map(len, words)) for what, words in talks.items()},
        "verdicts": [(line["remote_ip"], line["action"], line.get("how")) for line in verdicts],
        "left": tables(),
    }  # fmt: skip


def _outcome(client: socket.socket, word: bytes, answered: Callable[[], None], *, waits: bool) -> str:
    """Ask, call `answered` after the reply or the end of the stream, and wait for more if `waits`; return what came."""
    outcome = "aborted"
    with suppress(OSError):
        client.sendall(word)
        if client.recv(65_536):
            outcome = "answered"
        answered()
        if waits:
            client.recv(65_536)
    return outcome


def at_once() -> dict[str, Any]:
    """Listed requests to proxies that no setting names, before they are learnt and while they are learnt.

    The level starts when the first client has its answer: that request was certainly answered before it was seen. For later
    requests to proxies that answer, the answer and the destruction of the socket race. Clients of each kind: one closes when it
    has its answer, one waits for more, one asks a proxy that never answers.
    """
    silent, hasty = "127.0.1.9", [f"127.0.1.{number}" for number in range(1, 5)]
    Proxy(silent, b"")
    for address in hasty:
        Proxy(address)
    lines: list[bytes] = []
    asked: dict[tuple[str, int], str] = {}
    with learning(lines) as (capture_reader, queue):
        for address in (*hasty, silent):
            for word in (connect_to("listed.example"), b"GET http://listed.example/ HTTP/1.1\r\n\r\n") * 3:
                for waits in (True, False):
                    with connected(address) as client:
                        client.settimeout(WAIT_SECS)
                        port = ends_of(client)[1]
                        answered = (lambda: None) if asked else capture_reader.start
                        asked[address, port] = _outcome(client, word, answered, waits=waits)
        # A level that stops does not wait for the reset of the last connection.
        deadline = time.monotonic() + WAIT_SECS
        while sum(b'"verdict"' in line for line in lines) < len(asked) and time.monotonic() < deadline:
            time.sleep(0.01)
    reported: dict[tuple[str, int], list[dict[str, Any]]] = {ends: [] for ends in asked}
    for line in map(json.loads, [*lines, *(line for _, line in queue.take())]):
        if line["kind"] != "mode":
            reported[line["remote_ip"], line["local_port"]].append(line)
    return {
        "asked": list(asked.values()),
        "reported": [[(one["kind"], one.get("action"), one.get("how") or one.get("why")) for one in events]
                 for events in reported.values()],
    }  # fmt: skip


def sockets() -> dict[str, Any]:
    """Sockets of each family are destroyed, those who listen never."""
    destroyer = Destroyer()
    outcome: dict[str, Any] = {"why_not": why_not_destroy()}
    Proxy("::")
    for address in (V4, V6, f"::ffff:{V4}"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as client:
            client.settimeout(WAIT_SECS)
            client.connect((address, PORT))
            flow = ends_of(client)
            done = destroyer.destroy(flow)
            try:
                error = client.recv(1).decode()
            except OSError as raised:
                error = type(raised).__name__
        listening = (flow[2], PORT, flow[0], 9)
        outcome[address] = [done, error, destroyer.destroy(flow), destroyer.destroy(listening)]
        connected(address).close()
    return outcome


def ends() -> dict[str, Any]:
    """Bytes of connections as they end, whichever end closes first, and by IPv4 inside IPv6."""
    watched = Ends()
    reported: list[Ended] = []
    outcome = {}
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    for who in ("client", "server", "destroyed"):
        for address in (V4, V6, f"::ffff:{V4}"):
            client = connected(address)
            other, _ = server.accept()
            flow = ends_of(client)
            client.sendall(bytes(123_456))
            _receive(other, 123_456)
            other.sendall(bytes(7_777))
            _receive(client, 7_777)
            if who == "destroyed":
                Destroyer().destroy(flow)
            first, second = (client, other) if who == "client" else (other, client)
            first.close()
            with suppress(OSError):
                second.recv(1)
            second.close()
            deadline = time.monotonic() + WAIT_SECS
            while not any(one.flow == flow for one in reported) and time.monotonic() < deadline:
                reported += watched.take()
            outcome[f"{who} {address}"] = [[one.sent, one.received, one.unread] for one in reported if one.flow == flow]
    return {"ends": outcome, "lost": watched.lost, "without": watched.without_bytes}


def ends_lost() -> dict[str, Any]:
    """What the kernel has no room for is counted."""
    watched = Ends(receive_bytes=4_096)
    server = socket.create_server((V4, PORT))
    for _ in range(100):
        client = connected(V4)
        other, _ = server.accept()
        client.close()
        other.close()
    time.sleep(0.5)  # until the kernel has reported all ends, which cannot be queried
    return {"reported": len(list(watched.take())), "lost": watched.lost}


def killed() -> dict[str, Any]:
    """A sensor that is killed or stuck blocks nothing, and nothing of it stays."""
    Proxy(V4)
    outcome: dict[str, Any] = {}
    for owned in (True, False):
        holder = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "hold", *(["owned"] if owned else [])], stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        before = len(set(tables()))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        left = len(set(tables()))
        asked = ask(V4, connect_to("listed.example"))
        rules = Rules()
        removed = rules.remove_left()
        rules.close()
        outcome["owned" if owned else "named"] = [before, left, asked, len(removed), tables()]
    return outcome


def hold() -> dict[str, Any]:
    """Have rules and a queue until killed."""
    queue = Queue()
    rules = Rules(owned="owned" in sys.argv)
    rules.put([("", PORT), (V4, 8080), (V6, 8080)], queue.number)
    print("holding", flush=True)
    signal.pause()
    return {}


def no_room() -> dict[str, Any]:
    """What a queue without a reader has no room for goes on unseen, and is counted."""
    proxy = Proxy(V4)
    queue = Queue(receive_bytes=4_096)
    rules = Rules()
    client = connected(V4)
    rules.put([("", PORT)], queue.number)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(200):
        client.sendall(b"x" * 100)
    gate = Gate(queue, lambda _: True)
    gate.start()
    deadline = time.monotonic() + WAIT_SECS
    while sum(map(len, proxy.got)) < 20_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    rules.close()
    gate.close()
    return {"got": sum(map(len, proxy.got)), "held": gate.packets, "unseen": gate.queue.passed_unseen}


def faulty() -> dict[str, Any]:
    """What cannot be decided goes on; two queues do not meet."""
    Proxy(V4)

    def fails(_: bytes) -> bool:
        raise ValueError("a fault of ours")

    other, queue = Queue(), Queue()
    gate = Gate(queue, fails)
    gate.start()
    rules = Rules()
    rules.put([(V4, PORT), (V6, PORT)], queue.number)
    rules.put([(V4, PORT)], queue.number)
    asked = ask(V4, connect_to("listed.example"))
    rules.close()
    gate.close()
    return {"asked": asked, "failed": gate.failed > 0, "numbers": queue.number - other.number, "left": tables()}


def learnt() -> dict[str, Any]:
    """What this machine asks another one's proxy is learnt from; what others ask the one that runs here is not."""
    with subprocess.Popen(
        ["unshare", "--net", sys.executable, "-m", __spec__.name, "beside"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as beside:  # fmt: skip
        assert beside.stdin is not None
        assert beside.stdout is not None
        beside.stdout.readline()
        run(f"ip link add {DEVICE} type veth peer name {DEVICE} netns {beside.pid}")
        run(f"ip address add {HERE}/24 dev {DEVICE}")
        run(f"ip link set {DEVICE} up")
        Proxy(HERE)
        beside.stdin.write("\n")
        beside.stdin.flush()
        learner, lines = Noting([]), Lines()
        with capturing([], learns=True) as capture:
            capture_reader = CaptureReader(
                capture, Plan(ProtectionMode.AUDIT, learns=True), lines, "dev-a", None, learner
            )
            capture_reader.start()
            others = json.loads(beside.stdout.readline())
            own = ask(BESIDE, connect_to("fine.example"))
            capture_reader.close()
        beside.kill()
    reported = [json.loads(line) for _, line in lines.take()]
    return {"asked": [others, own], "askers": list(learner.askers), "proxies": list(learner.proxies), "lines": reported}


class Noting(Learner):
    """Remembers which clients sent something to a proxy's port."""

    askers: ClassVar[set[str]] = set()

    def observes(self, at: Micros, packet: Packet) -> Asked | None:
        """Note it."""
        if packet.dst_port == PORT:
            self.askers.add(packet.src_ip)
        return super().observes(at, packet)


def beside() -> dict[str, Any]:
    """Another machine, with a proxy of its own: asks the first one's, then waits to be asked."""
    print("here", flush=True)
    sys.stdin.readline()
    run("ip link set lo up")
    run(f"ip address add {BESIDE}/24 dev {DEVICE}")
    run(f"ip link set {DEVICE} up")
    Proxy(BESIDE)
    print(json.dumps(ask(HERE, connect_to("fine.example"))), flush=True)
    signal.pause()
    return {}


def run(command: str) -> None:
    """Of `ip`, which has to do it."""
    subprocess.run(command.split(), check=True)


def _captured(capture: Capture, count: int) -> list[Packet]:
    """The packets that come to the proxies' port, at least so many."""
    found: list[Packet] = []
    deadline = time.monotonic() + WAIT_SECS
    while len(found) < count and time.monotonic() < deadline:
        found += [packet for _, packet in capture.read() if packet.dst_port == PORT]
        time.sleep(0.01)
    return found


def _receive(sock: socket.socket, count: int) -> None:
    while count:
        count -= len(sock.recv(count))


def connected(address: str) -> socket.socket:
    """A connection; the kernel takes a route to an address of IPv6 away for a moment while others come."""
    deadline = time.monotonic() + WAIT_SECS
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=WAIT_SECS)
        except OSError as error:
            if error.errno != errno.ENETUNREACH or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def await_route(address: str) -> None:
    """The kernel has the route to an address of IPv6 some time after it has the address."""
    deadline = time.monotonic() + WAIT_SECS
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        while asking.connect_ex((address, PORT)):  # of UDP that asks for the route, and sends nothing
            assert time.monotonic() < deadline, f"no route to {address}"
            time.sleep(0.01)


def main() -> None:
    """Run one scenario."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    scenario = globals()[sys.argv[1]]
    if sys.argv[1] not in ("hold", "beside"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", f"{V4}/32", "dev", "lo"], check=True)
        subprocess.run(["ip", "address", "add", f"{V6}/128", "dev", "lo", "nodad"], check=True)
        await_route(V6)
    print(json.dumps(scenario()), flush=True)


if __name__ == "__main__":
    main()
