"""What /proc tells of a process, and when it is not believed."""

from __future__ import annotations

from pathlib import Path

from producers.sensor import processes as module
from producers.sensor.processes import Processes, Who
from tests.producers.sensor.makers import TICK_NS, process

LATER = 1_000 * TICK_NS


def test_a_process_is_told_whole(tmp_path: Path) -> None:
    """Name, path, command line, user, parent and start."""
    process(tmp_path, 1, name="bash")
    process(tmp_path, 7, parent=1, words=b"curl\0-s\0http://news.example/\0")

    assert Processes(tmp_path).of(7, LATER) == Who(
        7, "curl", "/usr/bin/curl", "curl -s http://news.example/", 0, "root", 1, "bash", 100 * TICK_NS, ""
    )


def test_a_thread_is_its_process(tmp_path: Path) -> None:
    """The kernel's number is the thread's; name and start are those of the process."""
    process(tmp_path, 7, name="chrome", started=50)
    process(tmp_path, 9, name="Chrome_ChildIOT", thread_of=7, started=60)
    who = Processes(tmp_path).of(9, LATER)

    assert who is not None
    assert (who.pid, who.name, who.started_ns) == (7, "chrome", 50 * TICK_NS)


def test_a_number_given_to_another_is_not_believed(tmp_path: Path) -> None:
    """Who began after the connection did not make it; who is gone cannot be asked. Both are counted."""
    process(tmp_path, 7, started=500)
    processes = Processes(tmp_path)

    assert processes.of(7, 499 * TICK_NS) is None
    assert processes.of(8, LATER) is None
    assert processes.gone == 2


def test_another_program_in_the_same_process_is_told(tmp_path: Path) -> None:
    """exec keeps number and start; what is remembered of the program before does not hold for the next."""
    processes = Processes(tmp_path, clock=lambda: 0.0)
    process(tmp_path, 7, name="bash", words=b"bash\0", stack=1)
    before = processes.of(7, LATER)
    process(tmp_path, 7, name="curl", words=b"curl\0", stack=2)
    after = processes.of(7, LATER)

    assert before is not None
    assert after is not None
    assert (before.path, after.path) == ("/usr/bin/bash", "/usr/bin/curl")


def test_what_is_remembered_holds_for_a_moment(tmp_path: Path) -> None:
    """A process may change its user: then that is told, a second later at the latest."""
    now = [0.0]
    processes = Processes(tmp_path, clock=lambda: now[0])
    process(tmp_path, 7, uid=0)
    users = []
    for secs in (0.0, 0.5, 1.5):
        now[0] = secs
        who = processes.of(7, LATER)
        assert who is not None
        users.append(who.uid)
        process(tmp_path, 7, uid=4_242)

    assert users == [0, 0, 4_242]


def test_users_of_a_container_are_its_own(tmp_path: Path) -> None:
    """A number in a container has no name here; the container's id is told."""
    number = "3f" * 32
    (process(tmp_path, 7) / "cgroup").write_text(f"0::/system.slice/docker-{number}.scope\n")
    who = Processes(tmp_path).of(7, LATER)

    assert who is not None
    assert (who.container, who.uid, who.user) == (number, 0, "")


def test_command_lines_can_be_left_out(tmp_path: Path) -> None:
    """They may hold secrets. Long ones are cut."""
    process(tmp_path, 7, words=b"x" * 5_000)
    without, whole = Processes(tmp_path, command_lines=False).of(7, LATER), Processes(tmp_path).of(7, LATER)

    assert without is not None
    assert whole is not None
    assert (without.command_line, len(whole.command_line)) == ("", module.COMMAND_LINE_CHARS_MAX)


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    """A process may call itself anything: brackets, spaces, bytes that are no text."""
    process(tmp_path, 7, name=") S 1 (x", words=b"\xff\0")
    who = Processes(tmp_path).of(7, LATER)

    assert who is not None
    assert (who.name, who.parent_pid, who.command_line) == (") S 1 (x", 1, "\ufffd")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Of many processes the latest are remembered."""
    processes = Processes(tmp_path)
    module_max = module.KEPT_MAX
    module.KEPT_MAX = 2
    try:
        for pid in (7, 8, 9):
            process(tmp_path, pid)
            processes.of(pid, LATER)
    finally:
        module.KEPT_MAX = module_max

    assert len(processes._kept) == 2
