"""The batcher: which lines share a message, and in what order messages leave."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.files.batcher import Batch, Batcher
from producers.sources.source import Line, SourceFile
from schemas.clock import MICROS
from schemas.events import Reason

EVE = SourceFile("suricata", "eve.json", "host:eve.json")
SOCKETS = SourceFile("sockets", "sockets.jsonl", "host:sockets.jsonl")


def line(value: bytes, file: SourceFile = EVE, at: float = 1.0, start: int = 0, too_long: str = "") -> Line:
    return Line(file.dialect, file.sensor, value, file, start, start + len(value) + 1, round(at * MICROS), too_long)


def batcher(
    bytes_max: int = 1000, age_secs_max: float = 0.2, disorder_secs_max: float = 0.5, total: int = 1_000_000
) -> Batcher:
    return Batcher(
        bytes_max=bytes_max, age_secs_max=age_secs_max, disorder_secs_max=disorder_secs_max, total_bytes_max=total
    )


def values(batches: list[Batch]) -> list[list[bytes]]:
    return [batch.lines for batch in batches]


def test_one_device_and_file_share_a_message() -> None:
    """Lines of one device and file leave together, others apart."""
    subject = batcher()
    for value, device, file in ((b"1", "a", EVE), (b"2", "b", EVE), (b"3", "a", SOCKETS), (b"4", "a", EVE)):
        assert subject.add(line(value, file), device, 0.0) == []

    assert values(subject.drain()) == [[b"1", b"4"], [b"2"], [b"3"]]


def test_dialects_of_one_file_do_not_share_a_message() -> None:
    """A message states in one header what all its lines are written in."""
    subject = batcher()
    for value, dialect in ((b"1", "suricata"), (b"2", "winlog"), (b"3", "suricata")):
        subject.add(line(value)._replace(dialect=dialect), "a", 0.0)

    assert [(batch.dialect, batch.lines) for batch in subject.drain()] == [
        ("suricata", [b"1", b"3"]),
        ("winlog", [b"2"]),
    ]


def test_lines_that_do_not_name_their_device_go_apart() -> None:
    """Only a message of which every line names its device states that all are the key's."""
    subject = batcher()
    for value, names_device in ((b"1", True), (b"2", False), (b"3", True)):
        subject.add(line(value), "a", 0.0, names_device=names_device)

    assert [(batch.names_device, batch.lines) for batch in subject.drain()] == [(True, [b"1", b"3"]), (False, [b"2"])]


def test_bytes_end_a_message() -> None:
    """A message never holds more than its bytes, unless a single line does."""
    subject = batcher(bytes_max=10)
    assert subject.add(line(b"12345"), "a", 0.0) == []

    assert values(subject.add(line(b"67890"), "a", 0.0)) == [[b"12345"]]
    assert values(subject.add(line(b"a line of its own"), "a", 0.0)) == [[b"67890"], [b"a line of its own"]]
    assert subject.waiting_bytes == 0


def test_age_ends_a_message() -> None:
    """A message leaves when its first line has waited long enough, not before."""
    subject = batcher(age_secs_max=0.25)
    subject.add(line(b"1"), "a", 10.0)
    subject.add(line(b"2"), "b", 10.125)

    assert subject.due(10.24) == []
    assert values(subject.due(10.25)) == [[b"1"]]
    assert values(subject.due(10.375)) == [[b"2"]]


def test_full_message_does_not_overtake() -> None:
    """When a device's younger message is full, the older one leaves before it."""
    subject = batcher(bytes_max=10)
    subject.add(line(b"old", SOCKETS), "a", 0.0)

    assert values(subject.add(line(b"0123456789"), "a", 0.0)) == [[b"old"], [b"0123456789"]]


def test_lines_of_two_files_overtake_a_little_only() -> None:
    """A line that would come too long before an earlier line of another file begins a new message."""
    subject = batcher(disorder_secs_max=0.5)
    subject.add(line(b"1", EVE, at=0.0), "a", 0.0)
    subject.add(line(b"2", SOCKETS, at=9.0), "a", 0.0)

    assert subject.add(line(b"3", EVE, at=9.5), "a", 0.0) == []
    assert values(subject.add(line(b"4", EVE, at=9.6), "a", 0.0)) == [[b"1", b"3"], [b"2"]]
    assert values(subject.drain()) == [[b"4"]]


def test_total_is_bounded() -> None:
    """However many devices send, what waits stays below the bound: the oldest leave."""
    subject = batcher(total=100)
    left = [batch for number in range(50) for batch in subject.add(line(b"0123456789"), f"dev-{number}", 0.0)]

    assert [batch.device for batch in left] == [f"dev-{number}" for number in range(41)]
    assert subject.waiting_bytes <= 100


def test_too_long_line_is_alone() -> None:
    """A line that was cut travels by itself, in its place."""
    subject = batcher()
    subject.add(line(b"before"), "a", 0.0)
    due = subject.add(line(b"cut", too_long="99 bytes"), "a", 0.0)

    assert values(due) == [[b"before"], [b"cut"]]
    assert [(batch.reason, batch.detail) for batch in due] == [(None, ""), (Reason.TOO_LONG, "99 bytes")]


def test_a_refused_line_has_its_own_batch() -> None:
    """A line that its sender may not write does not close the batch of the device that it names."""
    subject = batcher()
    subject.add(line(b"honest"), "a", 0.0)
    (refused,) = subject.add(line(b"forged"), "a", 0.0, refused="not by you")

    assert (refused.reason, refused.detail, refused.lines) == (Reason.NOT_ALLOWED, "not by you", [b"forged"])
    assert [batch.lines for batch in subject.waiting()] == [[b"honest"]]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 60)), max_size=60),
    st.sampled_from([0.0, 0.5]),
)
def test_law_of_order(steps: list[tuple[str, bool, int]], disorder_secs_max: float) -> None:
    """No line is lost; a file's order is kept; lines overtake within a device by no more than the setting allows."""
    subject = batcher(bytes_max=20, age_secs_max=3.0, disorder_secs_max=disorder_secs_max)
    given_lines: dict[bytes, tuple[str, bool, float, int]] = {}
    sent: list[Batch] = []
    clock = 0.0
    for number, (device, kernel, tenths) in enumerate(steps):
        clock += tenths / 10
        value = b"%d" % number
        given_lines[value] = (device, kernel, clock, number)
        sent += subject.add(line(value, SOCKETS if kernel else EVE, at=clock, start=number), device, clock)
        sent += subject.due(clock)
    sent += subject.drain()

    order = [given_lines[value] for batch in sent for value in batch.lines]
    assert sorted(number for *_, number in order) == list(range(len(steps)))
    for index, (device, kernel, at, number) in enumerate(order):
        for other_device, other_kernel, other_at, other_number in order[index + 1 :]:
            if device == other_device and number > other_number:
                assert kernel != other_kernel
                assert at - other_at <= disorder_secs_max + 1e-6
