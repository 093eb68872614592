"""Makers for the sensor's tests: changes of sockets, pages of the kernel's buffer, a /proc of its own."""

from __future__ import annotations

import struct
from pathlib import Path

from producers.sensor.kernel.trace_ring import AF_INET, Change, Layout

DATA = Path(__file__).parents[2] / "data" / "sensor"
FORMATS = {path.stem: path.read_text(encoding="ascii") for path in DATA.glob("*.format")}
HEADER_PAGE = (DATA / "header_page").read_text(encoding="ascii")
LAYOUT = Layout.of(
    FORMATS["inet_sock_set_state"],
    HEADER_PAGE,
    *(FORMATS[name] for name in ("task_newtask", "sched_process_exec", "sched_prepare_exec")),
)
PAGE = bytes.fromhex((DATA / "page.hex").read_text(encoding="ascii"))
CLIENT, SERVER = bytes([198, 51, 100, 11]), bytes([198, 51, 100, 80])
TICK_NS = 10_000_000


def change(at_ns: int, old: int, new: int, *, sk: int = 1, port: int = 40_000, pid: int = 7) -> Change:
    """A socket's change of state; the port as it is known by then."""
    return Change(at_ns, pid, sk, old, new, port, 3128, AF_INET, CLIENT, SERVER)


def record(at: Change) -> bytes:
    """A change as the kernel writes it."""
    head = struct.pack(
        "<HBBiQiiHHHH",
        LAYOUT.event_id,
        0,
        0,
        at.pid,
        at.sk,
        at.old,
        at.new,
        at.local_port,
        at.remote_port,
        at.family,
        6,
    )
    return head + at.local + at.remote + bytes(32)


def page(began_ns: int, *events: bytes) -> bytes:
    """A page that holds these events."""
    content = b"".join(events)
    return struct.pack("<QQ", began_ns, len(content)) + content.ljust(4_080, b"\0")


def event(delta_ns: int, body: bytes) -> bytes:
    """A record so long after the one before."""
    return struct.pack("<I", delta_ns << 5 | len(body) // 4) + body


def process(
    root: Path, pid: int, *, parent: int = 1, name: str = "curl", words: bytes = b"curl\0-s\0", **more: int
) -> Path:
    """A process in a /proc under this folder; `thread_of`, `started` in ticks, `stack`, `uid`, `ended` (zombie)."""
    folder = root / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    rest = ["0"] * 50
    rest[0], rest[1] = "Z" if more.get("ended") else "S", str(parent)
    rest[19], rest[25] = str(more.get("started", 100)), str(more.get("stack", 1))
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(rest)}\n")
    uid = more.get("uid", 0)
    (folder / "status").write_text(
        f"Name:\t{name}\nTgid:\t{more.get('thread_of', pid)}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
    )
    (folder / "comm").write_text(f"{name}\n")
    (folder / "cmdline").write_bytes(words)
    (folder / "cgroup").write_text("0::/user.slice\n")
    (folder / "exe").unlink(missing_ok=True)
    (folder / "exe").symlink_to(f"/usr/bin/{name}")
    return folder
