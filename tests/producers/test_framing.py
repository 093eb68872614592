"""Lines that cannot be read alone: what comes before is remembered over restarts, and what is held back is not forgotten."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from producers.files.lines import Lines
from producers.files.position import Positions
from producers.files.replay import QUIET_ROUNDS, piped, replay
from producers.files.tail import HELD_SECS_MAX, Tail
from producers.sources.source import Line, Source, SourceFile, parse_source
from schemas.dialect import Framing
from schemas.events import ProxyLogged
from schemas.parsers import dialects
from schemas.parsers.recognition import NOBODYS

Writer = Callable[[Path, Iterable[bytes]], None]
ZEEK = dialects()["zeek"]
HEADER = [rb"#separator \x09", b"#unset_field\t-", b"#path\tssl", b"#fields\tts\tserver_name", b"#types\ttime\tstring"]
DNS = [rb"#separator \x09", b"#path\tdns", b"#fields\tquery\tts", b"#types\tstring\ttime"]


def row(number: int) -> bytes:
    """A row under HEADER."""
    return b"17410797%02d.000000\t%d.example" % (number, number)


def numbers(lines: Iterable[Line | bytes]) -> list[int]:
    """Which rows these are; fails for one that was not read by its header."""
    values = [line.value if isinstance(line, Line) else line for line in lines]
    return [int(json.loads(value)["server_name"].partition(".")[0]) for value in values]


class Parts(Framing):
    """A framing that holds back: `a1` is a part of event a, `a.` its end, and the event its parts. `=` lines are context."""

    context = b"="

    def __init__(self) -> None:
        self._parts: dict[bytes, list[bytes]] = {}
        self._starts: dict[bytes, int] = {}
        self.recalled: list[bytes] = []

    @property
    def held(self) -> int | None:
        """The oldest part's place."""
        return min(self._starts.values(), default=None)

    def take(self, line: bytes, start: int) -> list[bytes]:
        """An event when it is whole."""
        if line.startswith(b"="):
            self.recalled.append(line)
            return []
        event, part = line[:1], line[1:]
        self._starts.setdefault(event, start)
        self._parts.setdefault(event, []).append(part)
        return [self._whole(event)] if part == b"." else []

    def release(self) -> list[bytes]:
        """What is there of the others, oldest first."""
        return [self._whole(event) for event in sorted(self._starts, key=self._starts.__getitem__)]

    def _whole(self, event: bytes) -> bytes:
        del self._starts[event]
        return event + b"".join(self._parts.pop(event))


HOLDING = replace(dialects()["suricata"], framing=lambda _: Parts())


def test_what_is_held_back_is_read_again() -> None:
    """Whatever was given and acknowledged, a restart begins at the oldest line of an event that was not."""
    whole = b"a1\nb1\nb.\nc1\na.\nlong enough to be cut\nd.\nc.\ne1\nf1\n"
    subject = Lines(SourceFile("suricata", "p", "s"), HOLDING, 10)
    given = [*subject.feed(whole), *subject.finish()]

    assert [(line.value, line.start, line.end) for line in given] == [
        (b"b1.", 0, 0),
        (b"a1.", 0, 9),
        (b"long enough to be cut", 9, 9),
        (b"d.", 9, 9),
        (b"c1.", 9, 43),
        (b"e1", 43, 43),
        (b"f1", 43, 49),
    ]
    for line in given:
        again = Lines(file := SourceFile("suricata", "p", "s", taken=line.end), HOLDING, 10)
        after = [one.value for one in (*again.feed(whole[file.taken :]), *again.finish())]
        rest = [one.value for one in given[given.index(line) + 1 :]]
        assert [value for value in after if value in rest] == rest


@pytest.mark.parametrize("size", [1, 7, 1_000, None])
def test_a_reader_that_continues_gets_what_came_before(size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only lines with content, of those before; however the bytes come, and past lines longer than any such."""
    monkeypatch.setattr("producers.files.lines.CHUNK_BYTES", 1_000)
    before = b"=1\nx=no\n" + b"y" * 2_000 + b"=no\n=2\r\n"
    content = io.BytesIO(before + b"=3\n")
    subject = Lines(SourceFile("suricata", "p", "s", taken=len(before)), HOLDING, 10_000)
    subject.recall(lambda wanted: content.read(min(wanted, size or wanted)))
    framing = subject._framings["suricata"][1]

    assert isinstance(framing, Parts)
    assert framing.recalled == [b"=1", b"=2\r"]
    assert content.tell() == len(before)


def test_what_is_near_is_reported_where_it_may_be_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines that begin like no context: those within reach, by blocks, of blocks that have a mark."""
    monkeypatch.setattr("producers.files.lines.CHUNK_BYTES", 6)
    monkeypatch.setattr(Parts, "reach", 12)
    monkeypatch.setattr(Parts, "near", b"=")
    before = b"=1\nx.\n" + b"=2\ny.\n" + b"a.\nb.\n" + b"=3\nz.\n"
    subject = Lines(SourceFile("suricata", "p", "s", taken=len(before)), HOLDING, 100)
    prefixes: list[bytes] = []

    def take(_: Parts, line: bytes, start: int) -> list[bytes]:
        assert start == 0
        prefixes.append(line)
        return []

    monkeypatch.setattr(Parts, "take", take)
    subject.recall(io.BytesIO(before).read)

    assert prefixes == [b"=1", b"=2", b"y.", b"=3", b"z."]


def test_header_lines_are_no_lines() -> None:
    """Rows are given as JSON with the places of the rows; a last line that is a header moves nothing."""
    whole = b"\n".join([*HEADER, row(1), row(2), b"#close\t2025-03-04-10-00-00", b""])
    subject = Lines(SourceFile("zeek", "p", "s"), ZEEK, 1000)
    first, second = [*subject.feed(whole[:70]), *subject.feed(whole[70:]), *subject.finish()]

    assert numbers([first, second]) == [1, 2]
    assert first.start == whole.index(row(1))
    assert (first.end, second.start, second.end) == (*2 * [whole.index(row(2))], whole.index(b"#close"))
    assert (first.written, second.written) == (1741079701000000, 1741079702000000)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_replay_goes_on_behind_the_header(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """The last header before the kept offset counts, also in a compressed file."""
    whole = b"\n".join(
        [*DNS, b"a.example\t1741079700.0", *HEADER, row(1), row(2), *DNS, b"b.example\t1741079703.0", b""]
    )
    (tmp_path / "log").write_bytes(pack(whole))
    source = parse_source(f"zeek:{tmp_path}/log")
    positions = Positions(tmp_path / "state")

    def adopt(source: Source, path: str, stream: BinaryIO, growing: bool) -> SourceFile:
        return positions.adopt(source, path, stream, growing=growing)

    lines = list(replay([source], adopt=adopt))
    lines[1].file.taken = lines[1].end
    again = list(replay([source], adopt=adopt))
    positions.close()

    assert numbers(lines[1:3]) == [1, 2]
    assert [line.value for line in again] == [line.value for line in lines[2:]]
    assert json.loads(again[1].value) == {"_path": "dns", "query": "b.example", "ts": 1741079703.0}


class Following:
    """A tail under a clock of its own; `values()` gives what is new in one round, `new()` which rows."""

    def __init__(self, folder: Path, dialect: str = "zeek") -> None:
        self.now = 0.0
        self.positions = Positions(folder / "state")
        source = parse_source(f"{dialect}:{folder}/log")
        self.lines = Tail([source], self.positions, line_bytes_max=1_000, clock=lambda: self.now).lines()

    def values(self) -> list[bytes]:
        found = []
        while (line := next(self.lines)) is not None:
            line.file.taken = line.end
            found.append(line.value)
        return found

    def new(self) -> list[int]:
        return numbers(self.values())

    def stop(self) -> None:
        self.positions.save([])
        self.positions.close()
        del self.lines


def test_a_followed_file_goes_on_behind_its_header(tmp_path: Path, write: Writer) -> None:
    """Restarted in the middle, a row is read by the header that stands before it; rotated, each file has its own."""
    log = tmp_path / "log"
    write(log, [*HEADER, row(1)])
    first = Following(tmp_path)
    assert first.new() == [1]
    first.stop()
    write(log, [row(2)])
    second = Following(tmp_path)
    assert second.new() == [2]
    second.stop()
    write(log, [row(3)])
    log.rename(tmp_path / "log.1")
    write(
        log, [HEADER[0], HEADER[2], *[b"#fields\tserver_name\tts", b"#types\tstring\ttime"], b"4.example\t1741079704.0"]
    )
    third = Following(tmp_path)
    assert third.new() == [3, 4]
    write(log, [b"5.example\t1741079705.0"])

    assert third.new() == [5]
    third.stop()


def test_a_rewritten_file_has_its_own_header(tmp_path: Path, write: Writer) -> None:
    """The header of a truncated file is no longer valid."""
    log = tmp_path / "log"
    write(log, [*HEADER, row(1)])
    tail = Following(tmp_path)
    assert tail.new() == [1]
    log.write_bytes(b"")
    write(log, [*HEADER[:3], b"#fields\tserver_name\tts", b"#types\tstring\ttime", b"2.example\t1741079702.0"])

    assert tail.new() == [2]
    tail.stop()


def audit(kind: str, serial: int) -> bytes:
    """A record of the audit log."""
    return b"type=%s msg=audit(100.000:%d): " % (kind.encode(), serial)


def test_a_quiet_file_holds_nothing_back(tmp_path: Path, write: Writer) -> None:
    """What may still belong together waits a moment; a stop meanwhile forgets none of it."""
    log = tmp_path / "log"
    write(log, [audit("SYSCALL", 1), audit("SYSCALL", 2), audit("EOE", 2)])
    first = Following(tmp_path, "auditd")
    assert first.values() == [audit("SYSCALL", 2)]
    first.now += HELD_SECS_MAX - 0.1
    assert first.values() == []
    first.stop()
    second = Following(tmp_path, "auditd")
    assert second.values() == [audit("SYSCALL", 2)]
    second.now += HELD_SECS_MAX
    assert second.values() == [audit("SYSCALL", 1)]
    second.stop()
    third = Following(tmp_path, "auditd")

    assert third.values() == []
    third.stop()


def test_a_quiet_pipe_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer may never end it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as out:
        monkeypatch.setattr("sys.stdin", stdin)
        lines = piped(parse_source("auditd:-"))
        out.write(audit("SYSCALL", 1) + b"\n")
        rounds = [next(lines) for _ in range(QUIET_ROUNDS)]
        out.write(audit("SYSCALL", 2) + b"\n" + audit("USER_END", 3) + b"\n")
        later = [next(lines) for _ in range(QUIET_ROUNDS + 2)]

    values = [[line.value for line in found if line is not None] for found in (rounds, later)]
    assert values == [[audit("SYSCALL", 1)], [audit("USER_END", 3), audit("SYSCALL", 2)]]


def test_a_request_goes_on_behind_its_connection(
    tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarted between the lines of a request, its client is known; rotated there, it is not. The file's change dates them."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        log = tmp_path / "log"
        now = time.strftime("%b %d %H:%M:%S")

        def line(message: str) -> bytes:
            return f"CONNECT   {now} [7]: {message}".encode()

        def request(host: str) -> list[bytes]:
            return [
                line(f"Request (file descriptor 6): CONNECT {host}:443 HTTP/1.1"),
                line(f'Established connection to host "{host}" using file descriptor 7.'),
            ]

        connect = [line("Connect (file descriptor 6): 192.0.2.7")]
        write(log, connect)
        found = []
        for lines in (request("a.example")[:1], request("a.example")[1:], connect):
            follower = Following(tmp_path, "tinyproxy")
            found += follower.values()
            follower.stop()
            write(log, lines)
        log.rename(tmp_path / "log.1")
        write(log, request("b.example"))
        last = Following(tmp_path, "tinyproxy")
        found += last.values()
        last.stop()
    time.tzset()
    events = [dialects()["tinyproxy"].parse(value) for value in found]

    assert [(one.client_ip, one.host) for one in events if isinstance(one, ProxyLogged)] == [("192.0.2.7", "a.example")]
    assert len(events) == 6


def test_a_followed_files_change_is_its_latest(tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that came after it was opened are dated, too."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        log, now = tmp_path / "log", time.time()

        def lines(at: float, *messages: str) -> list[bytes]:
            stamp = time.strftime("%b %d %H:%M:%S", time.localtime(at))
            return [f"CONNECT   {stamp} [7]: {message}".encode() for message in messages]

        write(log, lines(now - 60, "Connect (file descriptor 6): 192.0.2.7"))
        os.utime(log, (now - 60, now - 60))
        follower = Following(tmp_path, "tinyproxy")
        before = follower.values()
        asked = "Request (file descriptor 6): CONNECT a.example:443 HTTP/1.1"
        write(log, lines(now, asked, 'Established connection to host "a.example" using file descriptor 7.'))
        *_, last = follower.values()
        follower.stop()
    time.tzset()

    assert len(before) == 1
    assert isinstance(dialects()["tinyproxy"].parse(last), ProxyLogged)


def test_an_extended_log_goes_on_behind_its_fields(tmp_path: Path, write: Writer) -> None:
    """Restarted in the middle, a row is read by the last fields before it; rotated, each file has its own."""
    log = tmp_path / "log"
    old, new = b"#Fields: c-ip cs-host", b"#Fields: cs-host c-ip"
    write(log, [b"#Software: SGOS", new, b"1.example 192.0.2.1", old, b"192.0.2.2 2.example"])
    first = Following(tmp_path, "w3c")
    found = first.values()
    first.stop()
    write(log, [b"192.0.2.3 3.example", b"no row"])
    second = Following(tmp_path, "w3c")
    found += second.values()
    second.stop()
    write(log, [b"192.0.2.4 4.example"])
    log.rename(tmp_path / "log.1")
    write(log, [new, b"5.example 192.0.2.5"])
    third = Following(tmp_path, "w3c")
    found += third.values()
    third.stop()

    odd = {"c-ip": "no", "cs-host": "row"}
    rows = [{"cs-host": f"{number}.example", "c-ip": f"192.0.2.{number}"} for number in range(1, 6)]
    assert [json.loads(value) for value in found] == [*rows[:3], odd, *rows[3:]]


def test_auto_reads_an_extended_log_in_an_order_of_its_own() -> None:
    """Rows are recognised by the proxy's action; Zeek's header beside it is Zeek's."""
    undated = b"192.0.2.7 51000 2020-05-02 02:16:40 TCP_MISS GET http://a.example/ 200"
    dated = b"2020-05-02 02:16:41 192.0.2.7 51000 TCP_MISS GET http://a.example/ 200"
    whole = b"\n".join([*HEADER, b"#Fields: date time c-ip c-port s-action cs-method cs-uri sc-status", dated, b""])
    subject = Lines(SourceFile("auto", "p", "s"), NOBODYS, 1000)
    (line,) = subject.feed(whole)
    again = Lines(SourceFile("auto", "p", "s", taken=len(whole)), NOBODYS, 1000)
    again.recall(io.BytesIO(whole).read)
    (after, zeek, unclaimed) = again.feed(b"\n".join([dated, row(1), undated, b""]))

    assert (line.dialect, json.loads(line.value)["c-port"]) == ("w3c", "51000")
    assert (after.dialect, after.value) == ("w3c", line.value)
    assert (zeek.dialect, json.loads(zeek.value)["server_name"]) == ("zeek", "1.example")
    assert (unclaimed.dialect, unclaimed.value) == ("auto", undated)


def test_auto_reads_rows_under_their_header() -> None:
    """Rows among other sensors' lines are their dialect's, also for who goes on in the middle."""
    other = b'{"timestamp":"2026-11-24T19:07:28.397055+0000","flow_id":1,"event_type":"dns","host":"a"}'
    rows = [
        b"1741079701.000000\tCAa1\t10.0.0.1\t1\t10.0.0.2\t2\ttcp",
        b"1741079702.000000\tCAa2\t10.0.0.1\t1\t10.0.0.2\t2\ttcp",
    ]
    header = [
        rb"#separator \x09",
        b"#path\tconn",
        b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto",
        b"#types\ttime\tstring\taddr\tport\taddr\tport\tenum",
    ]
    whole = b"\n".join([*header, rows[0], other, rows[1], b""])
    subject = Lines(SourceFile("auto", "p", "s"), NOBODYS, 1000)
    given = list(subject.feed(whole))
    again = Lines(SourceFile("auto", "p", "s", taken=given[1].end), NOBODYS, 1000)
    again.recall(io.BytesIO(whole).read)
    after = list(again.feed(whole[given[1].end :]))

    assert [line.dialect for line in given] == ["zeek", "suricata", "zeek"]
    assert [line.value for line in after] == [given[2].value]
    assert b'"uid":"CAa2"' in given[2].value
