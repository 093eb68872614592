"""What /proc reports of a process, and when it is not believed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.sensor.kernel import processes as module
from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.processes import Processes, Who
from producers.sensor.kernel.socket_lines import line_of
from producers.sensor.kernel.trace_ring import AF_INET, CLOSE, SYN_SENT, Leaving, Program, Task
from tests.producers.sensor.makers import CLIENT, SERVER, TICK_NS, change, process

LATER = 1_000 * TICK_NS
KNOWN_NS = sys.maxsize


def of(processes: Processes, thread: int, at_ns: int) -> Who | None:
    """The process of an attempt that is looked at as soon as it is read, and of which all is known that came until then."""
    processes.see(change(at_ns, CLOSE, SYN_SENT, pid=thread))
    processes.known_ns = KNOWN_NS
    return processes.of(thread, at_ns)


def begins(processes: Processes, record: Program | Task | Leaving) -> None:
    """A record of programs or tasks that is read, and then its turn comes."""
    processes.see(record)
    if isinstance(record, Program):
        processes.runs(record)
    elif isinstance(record, Task):
        processes.began(record)
    else:
        processes.leaves(record)


def test_a_process_is_reported_whole(tmp_path: Path) -> None:
    """Name, path, command line, user, parent and start."""
    process(tmp_path, 1, name="bash")
    process(tmp_path, 7, parent=1, words=b"curl\0-s\0http://news.example/\0")

    assert of(Processes(tmp_path), 7, LATER) == Who(
        7, "curl", "/usr/bin/curl", "curl -s http://news.example/", 0, "root", 1, "bash", 100 * TICK_NS, ""
    )


def test_a_thread_is_its_process(tmp_path: Path) -> None:
    """The kernel's number is the thread's; name and start are those of the process."""
    process(tmp_path, 7, name="chrome", started=50)
    process(tmp_path, 9, name="Chrome_ChildIOT", thread_of=7, started=60)
    who = of(Processes(tmp_path), 9, LATER)

    assert who is not None
    assert (who.pid, who.name, who.started_ns) == (7, "chrome", 50 * TICK_NS)


def test_a_number_given_to_another_is_not_believed(tmp_path: Path) -> None:
    """A process that began after the connection did not make it; one that is gone cannot be read."""
    process(tmp_path, 7, started=500)
    processes = Processes(tmp_path)

    assert of(processes, 7, 499 * TICK_NS) is None
    assert of(processes, 8, LATER) is None


def test_another_program_in_the_same_process_is_reported(tmp_path: Path) -> None:
    """Exec keeps number and start; what is remembered of the program before does not hold for the next."""
    processes = Processes(tmp_path, boot=lambda: LATER)
    process(tmp_path, 7, name="bash", words=b"bash\0", stack=1)
    before = of(processes, 7, LATER)
    process(tmp_path, 7, name="curl", words=b"curl\0", stack=2)
    after = of(processes, 7, LATER)

    assert before is not None
    assert after is not None
    assert (before.path, after.path) == ("/usr/bin/bash", "/usr/bin/curl")


def test_what_is_remembered_holds_for_a_moment(tmp_path: Path) -> None:
    """A process may change its user: then that is reported, a second later at the latest."""
    now = [LATER]
    processes = Processes(tmp_path, boot=lambda: now[0])
    process(tmp_path, 7, uid=0)
    users = []
    for secs in (0.0, 0.5, 1.5):
        now[0] = LATER + round(secs * 1e9)
        who = of(processes, 7, LATER)
        assert who is not None
        users.append(who.uid)
        process(tmp_path, 7, uid=4_242)

    assert users == [0, 0, 4_242]


def test_a_process_that_ends_while_it_is_asked_has_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory goes right after its path was read: where the path is reported, so is the command line."""
    process(tmp_path, 7, words=b"curl\0-s\0")
    asked = Processes._path

    def ends(processes: Processes, number: int) -> str:
        path = asked(processes, number)
        (tmp_path / "7" / "cmdline").write_bytes(b"")
        return path

    monkeypatch.setattr(Processes, "_path", ends)
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert (who.path, who.command_line) == ("/usr/bin/curl", "curl -s")


def test_a_program_may_change_its_user_before_it_connects(tmp_path: Path) -> None:
    """What was seen at its begin is not reported as its program."""
    processes = Processes(tmp_path, boot=lambda: LATER)
    process(tmp_path, 7, uid=0)
    begins(processes, Program(LATER, 7))
    process(tmp_path, 7, uid=65_534)
    who = of(processes, 7, LATER + 1)

    assert who is not None
    assert who.uid == 65_534


def test_users_of_a_container_are_its_own(tmp_path: Path) -> None:
    """A number in a container has no name here; the container's id is reported."""
    number = "3f" * 32
    (process(tmp_path, 7) / "cgroup").write_text(f"0::/system.slice/docker-{number}.scope\n")
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert (who.container, who.uid, who.user) == (number, 0, "")


def test_command_lines_can_be_left_out(tmp_path: Path) -> None:
    """They may hold secrets. Long ones are cut."""
    process(tmp_path, 7, words=b"x" * 5_000)
    without, whole = of(Processes(tmp_path, command_lines=False), 7, LATER), of(Processes(tmp_path), 7, LATER)

    assert without is not None
    assert whole is not None
    assert (without.command_line, len(whole.command_line)) == ("", module.COMMAND_LINE_CHARS_MAX)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (
            b"curl\0-x\0http://user:pw@proxy.example:3128\0http://a.example/\0",
            "curl -x http://proxy.example:3128 http://a.example/",
        ),
        (b"sh\0-c\0wget 'https://user:p\xffw@b.example/?u=http%3A%2F%2Fuser%3Apw%40c.example'\0", None),
        (b"x" * 8_180 + b" http://user:pw", "x" * 1_024),
        (b"x " * 505 + b" http://user:" + b"p" * 40 + b"@a.example/", None),
    ],
)
def test_logins_of_urls_in_command_lines_are_left_out(tmp_path: Path, words: bytes, reported: str | None) -> None:
    """However they are spelled, and wherever the line is cut."""
    process(tmp_path, 7, words=words)
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert "user" not in who.command_line
    assert "pw" not in who.command_line
    assert reported is None or who.command_line == reported


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    """A process may call itself anything: brackets, spaces, bytes that are no text."""
    process(tmp_path, 7, name=") S 1 (x", words=b"\xff\0")
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert (who.name, who.parent_pid, who.command_line) == (") S 1 (x", 1, "\ufffd")


def test_a_thread_that_is_gone_is_still_its_process(tmp_path: Path) -> None:
    """The kernel reports whose thread it was, also where a thread made it; a later process with its number is another."""
    process(tmp_path, 7, name="python3")
    processes = Processes(tmp_path)
    begins(processes, Task(1, 7, 8, True))
    begins(processes, Task(2, 8, 9, True))
    of_threads = [of(processes, thread, LATER) for thread in (8, 9)]
    begins(processes, Task(3, 1, 9, False, b"sh"))

    assert [who and who.pid for who in of_threads] == [7, 7]
    assert of(processes, 9, LATER) == Who(9, "sh")


def gone(tmp_path: Path, pid: int, *names: str) -> None:
    """What is left of a process that has ended, or nothing."""
    for path in (tmp_path / str(pid)).iterdir():
        if path.name not in names:
            path.unlink()


def test_a_program_that_is_gone_is_reported_as_it_began(tmp_path: Path) -> None:
    """It was looked at when it began; a later process with its number has only the name that it inherited."""
    process(tmp_path, 7)
    processes = Processes(tmp_path, boot=lambda: LATER)
    begins(processes, Program(LATER, 7))
    gone(tmp_path, 7)
    who = of(processes, 7, LATER + 1)
    begins(processes, Task(LATER + 2, 1, 7, False, b"sh"))

    assert who is not None
    assert (who.path, who.command_line) == ("/usr/bin/curl", "curl -s")
    assert of(processes, 7, LATER + 3) == Who(7, "sh")


def test_one_that_has_ended_and_was_not_waited_for_is_reported(tmp_path: Path) -> None:
    """It has a number and a name, and neither path nor command line any more."""
    process(tmp_path, 7)
    processes = Processes(tmp_path)
    begins(processes, Program(LATER, 7))
    process(tmp_path, 7, ended=1)
    gone(tmp_path, 7, "stat", "status")
    who = of(processes, 7, LATER + 1)

    assert who is not None
    assert (who.path, who.command_line, who.ended) == ("/usr/bin/curl", "curl -s", False)


def test_one_that_has_ended_and_began_before_the_sensor_has_its_name(tmp_path: Path) -> None:
    """A zombie whose program was never looked at: that is noted, as path and command line are missing."""
    process(tmp_path, 7, ended=1)
    gone(tmp_path, 7, "stat", "status")
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert (who.name, who.path, who.command_line, who.ended) == ("curl", "", "", True)


# A process that runs another program


HELPER = Program(LATER - 10, 7, b"/opt/tools/a-helper-of-long-name")
SHELL = Program(LATER + 50, 7, b"/bin/sh")


def reported(who: Who | None) -> tuple[str, str, str]:
    """What belongs to a program."""
    assert who is not None
    assert (who.pid, who.started_ns, who.parent_pid) == (7, 100 * TICK_NS, 1)
    return who.name, who.path, who.command_line


def test_a_later_program_did_not_connect(tmp_path: Path) -> None:
    """It took the place of the one that did before that was looked at: only the process is certain."""
    process(tmp_path, 7, name="sh", words=b"sh\0-i\0")
    processes = Processes(tmp_path)
    begins(processes, SHELL)

    assert reported(of(processes, 7, LATER)) == ("", "", "")


def test_a_program_that_is_read_of_after_the_look_did_not_connect(tmp_path: Path) -> None:
    """The kernel's record of it comes in a later round, when the look at it was taken for the one that connected."""
    process(tmp_path, 7, name="sh", words=b"sh\0-i\0")
    processes = Processes(tmp_path)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, SHELL)
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("", "", "")


def test_the_program_that_connected_is_reported_as_it_began(tmp_path: Path) -> None:
    """It was looked at then, and ran until after that look."""
    now = [LATER]
    processes = Processes(tmp_path, boot=lambda: now[0])
    process(tmp_path, 7, name="nc", words=b"nc\0-e\0")
    begins(processes, HELPER)
    process(tmp_path, 7, name="sh", words=b"sh\0-i\0")
    now[0] = LATER + 100
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, SHELL)
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("nc", "/usr/bin/nc", "nc -e")


def test_of_a_program_that_was_never_looked_at_in_time_the_name_is_known(tmp_path: Path) -> None:
    """Both looks came after the next program: the kernel's record has the path, and its end is the name."""
    process(tmp_path, 7, name="sh", words=b"sh\0-i\0")
    processes = Processes(tmp_path)
    processes.see(HELPER)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    processes.see(SHELL)
    processes.runs(HELPER)
    processes.runs(SHELL)
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("a-helper-of-lon", "", "")


def test_a_process_that_was_forked_has_the_name_that_it_inherited(tmp_path: Path) -> None:
    """It connects, and runs another program before it is looked at: the kernel's record of its beginning has its name."""
    process(tmp_path, 7, name="sh")
    processes = Processes(tmp_path)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, Task(LATER - 10, 1, 7, False, b"worker"))
    begins(processes, SHELL)
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("worker", "", "")


def test_a_program_that_is_about_to_begin_is_not_yet_reported(tmp_path: Path) -> None:
    """/proc shows parts of it before the kernel's record of it; what is left has the name of the record before that."""
    now = [LATER + 10]
    processes = Processes(tmp_path, boot=lambda: now[0])
    process(tmp_path, 7, name="sh", words=b"")
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, Leaving(LATER + 5, 7, b"python3"))
    processes.known_ns = LATER + 20

    assert reported(processes.of(7, LATER)) == ("python3", "", "")


def test_a_thread_that_runs_a_program_ends_that_of_its_process(tmp_path: Path) -> None:
    """Its own name is not that of the process."""
    process(tmp_path, 7, name="sh", words=b"")
    processes = Processes(tmp_path)
    begins(processes, Task(1, 1, 7, False, b"python3"))
    begins(processes, Task(2, 7, 8, True, b"python3"))
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, Leaving(LATER + 5, 8, b"worker"))
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("python3", "", "")


@pytest.mark.parametrize(("began_ns", "name"), [(module.EXEC_NS, ""), (module.EXEC_NS + 1, "curl")])
def test_an_older_kernel_reports_a_program_only_after_it_began(tmp_path: Path, began_ns: int, name: str) -> None:
    """So what was seen shortly before the record may be of the program that follows."""
    process(tmp_path, 7)
    processes = Processes(tmp_path, boot=lambda: LATER, exec_ns=module.EXEC_NS)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    begins(processes, Program(LATER + began_ns, 7, b"/bin/sh"))
    processes.known_ns = LATER + module.EXEC_NS - 1
    early = processes.stable_ns()
    processes.known_ns += 1

    assert (early, processes.stable_ns()) == (LATER - 1, LATER + module.EXEC_NS)
    assert reported(processes.of(7, LATER))[0] == name


def test_a_program_run_by_descriptor_has_no_name(tmp_path: Path) -> None:
    """Its path is that of the descriptor, and the name differs between kernels."""
    processes = Processes(tmp_path)
    begins(processes, Program(LATER - 10, 7, b"/dev/fd/3"))

    assert of(processes, 7, LATER) == Who(7)


def test_two_programs_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next program begins between two reads of the process's files."""
    process(tmp_path, 7, name="nc", words=b"nc\0-e\0")
    path_of = Processes._path

    def runs_another(processes: Processes, number: int) -> str:
        process(tmp_path, 7, name="sh", words=b"sh\0-i\0")
        return path_of(processes, number)

    now = iter(range(LATER, LATER + 1_000, 40))
    processes = Processes(tmp_path, boot=lambda: next(now))
    monkeypatch.setattr(Processes, "_path", runs_another)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    processes.runs(Program(LATER + 20, 7, b"/bin/sh"))
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("", "", "")


def test_a_look_is_believed_once_all_programs_until_then_are_known(tmp_path: Path) -> None:
    """Until then the attempt's record is held back, and if it is not, its program is unknown."""
    process(tmp_path, 7)
    now = iter(range(LATER + 10, LATER + 1_000, 10))
    processes = Processes(tmp_path, boot=lambda: next(now))
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    processes.known_ns = LATER + 19
    early = processes.stable_ns()
    processes.see(change(LATER + 5, CLOSE, SYN_SENT, pid=7))
    processes.known_ns = LATER + 30
    later = processes.stable_ns()

    assert (early, later) == (LATER - 1, LATER + 4)
    assert reported(processes.of(7, LATER)) == ("curl", "/usr/bin/curl", "curl -s")
    assert reported(processes.of(7, LATER + 5)) == ("", "", "")


def test_programs_of_one_process_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran before the oldest that is remembered is unknown."""
    monkeypatch.setattr(module, "PROGRAMS_MAX", 2)
    process(tmp_path, 7)
    processes = Processes(tmp_path)
    processes.see(change(LATER, CLOSE, SYN_SENT, pid=7))
    for number in range(1, 4):
        processes.runs(Program(LATER + number, 7, b"/bin/env"))
    processes.known_ns = KNOWN_NS

    assert reported(processes.of(7, LATER)) == ("", "", "")


def test_after_a_loss_earlier_records_do_not_count(tmp_path: Path) -> None:
    """A number may have been given to others meanwhile."""
    process(tmp_path, 7)
    processes = Processes(tmp_path)
    begins(processes, Task(1, 7, 8, True))
    begins(processes, Program(LATER, 7))
    processes.forget()
    gone(tmp_path, 7)

    assert of(processes, 8, LATER + 1) is None
    assert of(processes, 7, LATER + 1) is None


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many processes, programs and threads the latest are remembered."""
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    monkeypatch.setattr(module, "THREADS_KEPT_MAX", 2)
    processes = Processes(tmp_path)
    for pid in (7, 8, 9):
        process(tmp_path, pid)
        begins(processes, Program(LATER, pid))
        of(processes, pid, LATER)
        begins(processes, Task(LATER, pid, 10 + pid, True))

    assert [len(kept) for kept in (processes._kept, processes._programs, processes._threads)] == [2, 2, 2]


WORDS = st.lists(st.sampled_from([b"0", b"7", b"100", b"-1", b"S", b"\xff", b"9" * 20, b")"]), max_size=60)
STATS = st.builds(lambda name, rest: b"7 (" + name + b") " + b" ".join(rest), st.binary(max_size=20), WORDS)
STATUSES = st.lists(
    st.sampled_from(
        [b"Name:\tx", b"Tgid:\t7", b"Tgid:\t8", b"Tgid:", b"Uid:\t0\t0", b"Uid:\t4294967295", b"Uid:\tx", b"\xff"]
    )
).map(b"\n".join)
LINKS = st.binary(min_size=1, max_size=255).map(lambda name: b"/" + name.replace(b"\0", b"/"))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    stat=STATS | st.binary(max_size=200) | st.none(),
    status=STATUSES | st.binary(max_size=200) | st.none(),
    cmdline=st.binary(max_size=50) | st.just(b"x" * 10_000) | st.just(b"\0" * 10_000) | st.none(),
    cgroup=st.binary(max_size=100) | st.just(b"0::/" + b"a" * 64) | st.none(),
    comm=st.binary(max_size=20) | st.none(),
    exe=LINKS | st.none(),
)
def test_whatever_proc_holds_is_a_value_and_one_line(
    stat: bytes | None,
    status: bytes | None,
    cmdline: bytes | None,
    cgroup: bytes | None,
    comm: bytes | None,
    exe: bytes | None,
) -> None:
    """Files that are missing, cut short, or hold any bytes: nothing is raised, and a line of JSON can be made of it."""
    with TemporaryDirectory() as root:
        folder = Path(root, "7")
        folder.mkdir()
        files = {"stat": stat, "status": status, "cmdline": cmdline, "cgroup": cgroup, "comm": comm}
        for name, content in files.items():
            if content is not None:
                (folder / name).write_bytes(content)
        if exe is not None:
            os.symlink(exe, os.fsencode(folder / "exe"))
        processes = Processes(Path(root))
        begins(processes, Program(LATER, 7))
        begins(processes, Task(LATER, 7, 8, True))
        seen = [of(processes, thread, LATER + 1) for thread in (7, 8)]
    lines = [line_of(Connection(7, who, 1, 3128, AF_INET, CLIENT, SERVER, 0, 40_000), "dev-a") for who in seen]

    assert not any(b"\n" in line for line in lines)
    assert [json.loads(line)["path"] for line, who in zip(lines, seen, strict=True) if who and who.path] == [
        who.path for who in seen if who and who.path
    ]


def test_a_path_of_the_kernels_greatest_length_is_reported(tmp_path: Path) -> None:
    """4,095 bytes, none of them text; a deleted file has the path that it had."""
    exe = process(tmp_path, 7) / "exe"
    exe.unlink()
    path = (b"/" + b"\xff" * 255) * 15 + b"/" + b"\xff" * 244
    os.symlink(path + b" (deleted)", os.fsencode(exe))
    who = of(Processes(tmp_path), 7, LATER)

    assert who is not None
    assert who.path == path.decode("utf-8", "replace")


@pytest.mark.parametrize("gone_at", ["status", "cgroup", "cmdline", "exe", "comm"])
def test_a_process_may_end_between_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone_at: str) -> None:
    """What was read before is reported, what was not is empty; nothing is raised."""
    process(tmp_path, 1, name="init")
    folder = process(tmp_path, 7)
    read, path_of = Processes._read, Processes._path

    def read_or_end(processes: Processes, number: int, name: bytes) -> bytes:
        if name == gone_at.encode():
            shutil.rmtree(folder, ignore_errors=True)
        return read(processes, number, name)

    def path_or_end(processes: Processes, number: int) -> str:
        if gone_at == "exe":
            shutil.rmtree(folder)
        return path_of(processes, number)

    monkeypatch.setattr(Processes, "_read", read_or_end)
    monkeypatch.setattr(Processes, "_path", path_or_end)
    who = of(Processes(tmp_path), 7, LATER)

    assert (who is None) == (gone_at == "status")
    assert who is None or (who.name, who.path) == ("curl", "/usr/bin/curl" if gone_at == "comm" else "")
