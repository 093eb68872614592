"""Linux's audit log: records of one event joined, and what is reported of connect()."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.clock import MICROS
from schemas.events import Ignored, Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.linux.audit import EVENT_BYTES_MAX, EVENTS_MAX, JOINED, AuditEvents
from schemas.parsers.linux.auditd import claims, device_of, parse, written_at
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

DATA = Path(__file__).parents[3] / "data"
FILES = sorted((DATA / "auditd").glob("*.gz"))
INET = b"02000050A9FEA9FE0000000000000000"


def record(kind: str, serial: int, stated: str = "", at: float = 100.0, node: str = "") -> bytes:
    """A constructed record."""
    return f"{f'node={node} ' if node else ''}type={kind} msg=audit({at:.3f}:{serial}): {stated}".encode()


def call(number: int = 42, arch: str = "c000003e", first: str = "3", exit_code: int = 0) -> bytes:
    """A constructed SYSCALL record, by default of connect()."""
    success = "yes" if exit_code >= 0 else "no"
    return record(
        "SYSCALL",
        7,
        f'arch={arch} syscall={number} success={success} exit={exit_code} a0={first} a1=7ff pid=9 comm="a"',
    )


def address(saddr: bytes) -> bytes:
    """A constructed SOCKADDR record."""
    return record("SOCKADDR", 7, f"saddr={saddr.decode()}")


def events(*lines: bytes) -> list[bytes]:
    """What becomes of the lines of a file."""
    framing = AuditEvents()
    given = [made for start, line in enumerate(lines) for made in framing.take(line, start)]
    return given + framing.release()


def kind_of(*records: bytes) -> str:
    """What an event is counted as."""
    parsed = parse(JOINED.join(records))
    return parsed.kind if isinstance(parsed, Ignored) else str(getattr(parsed, "reason", parsed))


def test_real_records() -> None:
    """Of the recorded files only a record without time and serial is rejected."""
    found = Counter[str]()
    for path in FILES:
        for event in events(*filter(None, gzip.decompress(path.read_bytes()).splitlines())):
            found[kind_of(event)] += 1
            assert claims(event) == (kind_of(event) != "malformed")

    reported = {"connect_without_port": 1, "connect_without_address": 1}
    assert found == {"other": 46, "syscall": 12, "part": 5, "malformed": 1, **reported}


def test_only_auditd_claims_its_lines() -> None:
    """No one else writes `msg=audit(`."""
    others = [path for path in DATA.rglob("*.gz") if path.parent.name != "auditd"]

    assert not any(claims(line) for path in others for line in gzip.decompress(path.read_bytes()).splitlines())
    for other in dialects().values():
        claimed = other.claims if other.name != "auditd" else None
        lines = [line for path in FILES for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert claimed is None or not any(map(claimed, lines))


def laurel(number: int = 42, arch: str = "0xc000003e", sockaddr: object = None, **call: object) -> bytes:
    """A constructed event of LAUREL's."""
    event: dict[str, object] = {
        "ID": "1741079722.500:7",
        "NODE": "ws1",
        "SYSCALL": {"arch": arch, "syscall": number, **call},
    }
    if sockaddr is not None:
        event["SOCKADDR"] = sockaddr
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (laurel(sockaddr=[{"saddr": "%02%00%01%bb%0a%00%00%01"}]), "connect_without_port"),
        (laurel(sockaddr=[{"saddr": "%0A%00%01%bb"}]), "connect_without_port"),
        (laurel(sockaddr=[{"SADDR": {"saddr_fam": "inet6", "addr": "::1", "port": 443}}]), "connect_without_port"),
        (laurel(203, "0xc00000b7", {"saddr": "%02%00%01%bb"}), "connect_without_port"),
        (laurel(102, "0x40000003", {"saddr": "%02%00%01%bb"}, a0="0x3"), "connect_without_port"),
        (laurel(0, "", {"saddr": "%02%00%01%bb"}, SYSCALL="connect"), "connect_without_port"),
        (laurel(sockaddr=[{"saddr": "%02%00%00%00%7f"}]), "connect_local"),  # port 0
        (laurel(sockaddr=[{"saddr": "%01%00/run/a.sock%00"}]), "connect_local"),
        (laurel(sockaddr=[{"SADDR": {"saddr_fam": "local", "path": "/run/a.sock"}}]), "connect_local"),
        (laurel(sockaddr=[{"SADDR": {"saddr_fam": []}}, 7]), "connect_local"),
        (laurel(), "connect_without_address"),
        (laurel(59), "syscall"),
        (b'{"ID":"1741079722.500:7","NODE":"ws1","SOCKADDR":[]}', "part"),
        (b'{"ID":"1741079722.500:7","NODE":"ws1","USER_END":[{"pid":1}]}', "other"),
    ],
)
def test_laurel(line: bytes, kind: str) -> None:
    """A line of JSON is a whole event; it is counted like one that was joined."""
    assert parse(line) == Ignored("ws1", 1_741_079_722_500_000, kind)
    assert (device_of(line), written_at(line)) == ("ws1", 1_741_079_722_500_000)
    assert [name for name, dialect in dialects().items() if dialect.claims(line)] == ["auditd"]
    assert events(line) == [line]


def test_what_is_no_event_of_laurels() -> None:
    """An ID that is none, and other JSON."""
    for line in (b'{"ID":"7","SYSCALL":{}}', b'{"ID":7}', b'{"ID":"1741079722.500:7","SYSCALL":[]}'):
        assert kind_of(line) == "malformed"
        assert not claims(line)


def test_shipped_by_filebeat() -> None:
    """The machine is the shipper's, which runs beside the daemon; the records of an event are joined all the same."""
    reported = {"@timestamp": "2025-03-04T09:15:22.000Z", "host": {"name": "ws1"}, "agent": {"type": "filebeat"}}
    (event,) = events(*(json.dumps({**reported, "message": one.decode()}).encode() for one in (call(), address(INET))))

    assert (kind_of(event), device_of(event), claims(event)) == ("connect_without_port", "ws1", True)


def test_auditbeats_events_are_not_claimed() -> None:
    """They hold the records they were made of."""
    event = {"agent": {"type": "auditbeat"}, "auditd": {"messages": [record("USER_END", 7).decode()]}}

    assert not claims(json.dumps(event).encode())


def test_the_kernels_own_log() -> None:
    """Where no daemon runs the types are numbers."""
    before = b"Mar  4 09:15:22 ws1 kernel: [   12.345678] audit: "
    lines = [
        before + one.replace(b"SYSCALL msg=", b"1300 ").replace(b"SOCKADDR msg=", b"1306 ")
        for one in (call(), address(INET))
    ]
    (event,) = events(*lines, before + b"type=1320 audit(100.000:7): ")

    assert (kind_of(event), device_of(event)) == ("connect_without_port", "ws1")
    assert kind_of(before + b'type=1400 audit(100.000:8): apparmor="DENIED"') == "other"


def test_ausearchs_report() -> None:
    """Each event stands under a line and its time as local text, which report nothing more; interpreted times are not read."""
    above = [b"----", b"time->Tue Mar  4 09:15:22 2025"]

    assert events(*above, call(), address(INET)) == [JOINED.join([call(), address(INET)])]
    assert all(map(claims, above))
    assert not claims(b"time-> now" * 1_000)
    assert kind_of(b"type=SYSCALL msg=audit(03/04/2025 09:15:22.019:845) : syscall=connect") == "malformed"


def test_interleaved_events_are_put_together() -> None:
    """Each with the records of its own serial, in the order they came; EOE ends an event and is no record."""
    a = [record("SYSCALL", 1), record("SOCKADDR", 1), record("PROCTITLE", 1)]
    b = [record("PROCTITLE", 2), record("SYSCALL", 2)]
    found = events(a[0], b[0], a[1], b[1], record("EOE", 2), a[2] + b"\r", record("EOE", 1), record("EOE", 3))

    assert found == [JOINED.join(b), JOINED.join(a)]


def test_the_same_serial_of_two_machines_is_two_events() -> None:
    """A collector's log holds the records of many."""
    found = events(record("SYSCALL", 1, node="a"), record("SYSCALL", 1, node="b"))

    assert [device_of(event) for event in found] == ["a", "b"]


def test_without_eoe_time_ends_an_event() -> None:
    """Two seconds later, by the log's own time."""
    framing = AuditEvents()
    first, second = record("SYSCALL", 1), record("SYSCALL", 2, at=101.999)

    assert framing.take(first, 10) == []
    assert framing.take(second, 20) == []
    assert framing.held == 10
    assert framing.take(record("USER_END", 3, at=102.0), 30) == [first, record("USER_END", 3, at=102.0)]
    assert framing.held == 20
    assert framing.release() == [second]
    assert framing.held is None


def test_one_event_with_a_wrong_time_moves_no_clock() -> None:
    """Its records are one line, so none of them confirms the time of another."""
    pipeline = Pipeline(CorrelationSettings())
    wrong = 100.0 + 30 * 86_400
    times = [(1, 100.0), (2, wrong), (3, 105.0)]
    records = [
        record(kind, serial, at=at, node="d") for serial, at in times for kind in ("SOCKADDR", "PROCTITLE", "EOE")
    ]
    for offset, line in enumerate(events(*records), 1):
        pipeline.take(Message(offset, 0, b"d", line, "auditd"))

    assert pipeline.devices["d"].state.event_time == 105 * MICROS


def test_what_user_space_writes_is_alone() -> None:
    """It has one record, and nothing ends it."""
    framing = AuditEvents()

    assert framing.take(record("USER_LOGIN", 1), 0) == [record("USER_LOGIN", 1)]
    assert framing.take(b"no record", 9) == [b"no record"]
    assert framing.held is None


def test_bounds() -> None:
    """More events at once, or larger ones, than any machine has: the oldest goes, and so does the large one."""
    framing = AuditEvents()
    given = [made for number in range(EVENTS_MAX + 2) for made in framing.take(record("SYSCALL", number), number)]
    assert given == [record("SYSCALL", 0), record("SYSCALL", 1)]
    assert framing.held == 2
    long = record("EXECVE", 5, "a" * EVENT_BYTES_MAX)

    assert framing.take(long, 99) == [record("SYSCALL", 5) + JOINED + long]


@given(
    st.lists(
        st.tuples(st.sampled_from(["SYSCALL", "SOCKADDR", "USER_END", "EOE"]), st.integers(0, 3), st.integers(0, 9))
    )
)
def test_law_of_records(found: list[tuple[str, int, int]]) -> None:
    """Whatever the order: each record but EOE is in one event, what is held is the oldest that was not given."""
    framing = AuditEvents()
    lines = [record(kind, serial, f"n={place}", at=100.0 + late) for place, (kind, serial, late) in enumerate(found)]
    given: list[bytes] = []
    for start, line in enumerate(lines):
        given += framing.take(line, start)
        reported = set(JOINED.join(given).split(JOINED))
        waiting = [n for n, one in enumerate(lines[: start + 1]) if one not in reported and b"type=EOE" not in one]
        assert framing.held == (waiting[0] if waiting else None)
    given += framing.release()

    assert (
        sorted(JOINED.join(given).split(JOINED)) == sorted(one for one in lines if b"type=EOE" not in one) or not given
    )


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        ([call(), address(INET)], "connect_without_port"),
        ([address(INET), call()], "connect_without_port"),
        ([call().replace(b" syscall", b" per=400000 syscall"), address(INET)], "connect_without_port"),  # a personality
        ([call(exit_code=-115), address(INET)], "connect_without_port"),  # EINPROGRESS: goes on
        ([call(), address(b"0A000016000000000000000000000000000000000000000000000000")], "connect_without_port"),
        ([call(), address(b"01002F7661722F72756E")], "connect_local"),  # UNIX
        ([call(), address(b"100000000000000000000000")], "connect_local"),  # netlink
        ([call(), address(b"00000000000000000000000000000000")], "connect_local"),  # unspecified
        ([call(), address(b"020000007F0000010000000000000000")], "connect_local"),  # port 0
        ([call()], "connect_without_address"),
        ([call(203, "c00000b7"), address(INET)], "connect_without_port"),
        ([call(102, "40000003", "3"), address(INET)], "connect_without_port"),  # socketcall
        ([call(102, "40000003", "2"), address(INET)], "syscall"),  # bind
        ([call(42, "c00000b7"), address(INET)], "syscall"),
        ([call(43), address(INET)], "syscall"),  # accept
        ([address(INET)], "part"),
        ([record("USER_END", 7)], "other"),
        ([call(), address(b"02")], "bad_value"),
        ([call(), address(b"0200005")], "bad_value"),
        ([call(), address(b"02000050A9FE")], "bad_value"),
        ([record("SYSCALL", 7)], "incomplete"),
        ([b"type=UNKNOWN[1329] msg=?"], "malformed"),
        ([record("USER_END", 7, at=99_999_999_999.0)], "bad_value"),
    ],
)
def test_kinds(records: list[bytes], kind: str) -> None:
    """Number and architecture state what was called, the address's family whether it is of a network."""
    assert kind_of(*records) == kind


@pytest.mark.parametrize(
    ("before", "machine"),
    [
        (b"", ""),
        (b"node=ws1.corp.example ", "ws1.corp.example"),
        (b"<14>Mar  4 09:15:22 ws1 audispd: ", "ws1"),
        (b"Mar 14 09:15:22 ws1 audisp-syslog: node=ws2 ", "ws2"),
        (b"<14>1 2025-03-04T09:15:22.5Z ws1 audisp-syslog - - - ", "ws1"),
        (b"2025-03-04T09:15:22+01:00 ws1 audisp-syslog[7]: ", "ws1"),
    ],
)
def test_the_device_is_the_machine(before: bytes, machine: str) -> None:
    """As auditd writes it where `name_format` is set, or as syslog does."""
    line = before + record("USER_END", 7, at=1741079722.5)

    assert parse(line) == Ignored(machine, 1_741_079_722_500_000, "other")
    assert (device_of(line), written_at(line)) == (machine, 1_741_079_722_500_000)


def test_a_time_that_cannot_be_is_none() -> None:
    """It is rejected, and orders nothing."""
    line = record("USER_END", 7, at=99_999_999_999.0)
    parsed = parse(line)

    assert isinstance(parsed, Reject)
    assert (parsed.reason, parsed.raw, written_at(line)) == (Reason.BAD_VALUE, line, 0)
