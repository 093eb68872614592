"""One suite over every dialect, and golden files: real lines beside what they become."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dialect import Dialect
from schemas.events import ConnectionOpened, Event, Ignored, Reason, Reject
from schemas.parsers import dialects

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
EVERY = sorted(dialects().values(), key=lambda dialect: dialect.name)
by_name = pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)

words_for_words = (
    st.text(max_size=20)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["-", "-1", '""', '"', "[", "]", "{", "=", "%", "//"])
)


def real_lines(dialect: Dialect) -> list[bytes]:
    """The golden input of a dialect."""
    return (GOLDEN / f"{dialect.name}.in.jsonl").read_bytes().splitlines()


def change_json(data: st.DataObject, raw: bytes) -> bytes:
    """Up to three members of an object in the line, whatever they are, are something else."""
    line = json.loads(raw)
    where = line
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [value for value in where.values() if isinstance(value, dict)]
        where = data.draw(st.sampled_from(inner)) if inner else where
    for key in data.draw(st.lists(st.sampled_from(sorted(where)), max_size=3)) if where else []:
        where[key] = data.draw(json_values)
    return json.dumps(line).encode()


def change_text(data: st.DataObject, raw: bytes) -> bytes:
    """Up to three words of the line, or what stands between them, are something else."""
    words = re.split(rb"([\s=/:|\"\[\](){}<>,]+)", raw)
    for place in data.draw(st.lists(st.integers(0, len(words) - 1), max_size=3)):
        words[place] = data.draw(words_for_words).encode()
    return b"".join(words)


def shown(parsed: Event | Ignored | Reject) -> dict[str, object]:
    """An event as the golden file has it; a reject by its reason alone, as the words may change."""
    if isinstance(parsed, Reject):
        return {"Reject": str(parsed.reason)}
    return {type(parsed).__name__: msgspec.to_builtins(parsed)}


@by_name
def test_own_records_have_their_mark(dialect: Dialect) -> None:
    """Where an endpoint reports of its own connection there is a mark; a dialect without marks has no such lines."""
    opened = [line for line in real_lines(dialect) if isinstance(dialect.parse(line), ConnectionOpened)]

    assert bool(opened) == bool(dialect.own_marks)
    assert [line for line in opened if not any(mark in line for mark in dialect.own_marks)] == []


@by_name
@settings(max_examples=200)
@given(raw=st.binary(max_size=300))
def test_any_bytes_are_a_value(dialect: Dialect, raw: bytes) -> None:
    """A dialect never raises; a reject keeps its bytes."""
    parsed = dialect.parse(raw)
    dialect.written_at(raw)
    dialect.device_of(raw)
    dialect.claims(raw)

    assert not isinstance(parsed, Reject) or (parsed.raw == raw and parsed.reason in Reason)


@by_name
@settings(max_examples=200)
@given(data=st.data())
def test_any_change_to_a_real_line_is_a_value(dialect: Dialect, data: st.DataObject) -> None:
    """Real lines with fields replaced by anything JSON can state, or words by any: an event that can be written, or a reject."""
    line = data.draw(st.sampled_from(real_lines(dialect)))
    changed = change_json(data, line) if line.startswith(b"{") else change_text(data, line)
    parsed = dialect.parse(changed)
    dialect.written_at(changed)
    dialect.device_of(changed)

    msgspec.msgpack.encode(parsed)


@by_name
def test_real_lines_become_what_the_golden_file_states(dialect: Dialect, request: pytest.FixtureRequest) -> None:
    """`pytest --bless` writes the files again; the difference is reviewed like code."""
    found = [json.dumps(shown(dialect.parse(line)), sort_keys=True) for line in real_lines(dialect)]
    path = GOLDEN / f"{dialect.name}.out.jsonl"
    if request.config.getoption("--bless"):
        path.write_text("\n".join(found) + "\n")

    assert found == path.read_text().splitlines()


@by_name
def test_real_lines_name_their_device_and_time(dialect: Dialect) -> None:
    """The publisher's key and the order of replay come from the line itself, cheaply and without parsing it whole."""
    for line in real_lines(dialect):
        parsed = dialect.parse(line)
        if not isinstance(parsed, Reject):
            assert dialect.device_of(line) == parsed.device
            # A line that holds nothing for us may be about no device: a server's own words in its log.
            assert parsed.device != "" or isinstance(parsed, Ignored)
            assert abs(dialect.written_at(line) - parsed.at) < 5_000_000


@by_name
def test_real_lines_are_claimed_by_their_dialect_alone(dialect: Dialect) -> None:
    """Who reads `auto:PATH` asks each dialect, in any order. What a dialect rejects may be another's, or no one's."""
    for line in real_lines(dialect):
        claimed = [other.name for other in EVERY if other.claims(line)]
        assert claimed == [dialect.name] or (len(claimed) <= 1 and isinstance(dialect.parse(line), Reject))


@by_name
def test_other_writing_is_not_claimed(dialect: Dialect) -> None:
    """Plain text, other programs' JSON, and a dialect's own words inside of a user else's text."""
    others = (
        b"",
        b"{}",
        b"[1,2]",
        b'{"level":"info","msg":"started","time":"2026-11-24T19:07:28Z"}',
        b'{"timestamp":"2026-11-24T19:07:28Z","event_type":"login","user":"a"}',
        b'{"message":"{\\"event_type\\":\\"http\\",\\"flow_id\\":1,\\"winlog\\":{\\"event_id\\":3}}"}',
        b'{"device":"a","result":"success","duration":3}',
        b'{"records":[{"category":"SignInLogs","properties":{"DeviceName":"a"}}]}',
        b'{"DeviceName":"a","Timestamp":"2026-11-24T19:07:28Z"}',
        b'{"Event":"started","EventID":7}',
        b"GET /?q=<Event> HTTP/1.1",
    )

    assert [line for line in others if dialect.claims(line)] == []


@by_name
def test_a_dialect_describes_itself(dialect: Dialect) -> None:
    """The reference page is made from these."""
    assert dialect.title
    assert dialect.gives.endswith(".")


def test_suricata_times_with_and_without_colon() -> None:
    """EVE writes +0000; other tools normalise it."""
    parse = dialects()["suricata"].parse
    line = b'{"timestamp":"2026-11-24T19:07:28.397055%s","event_type":"dns","host":"a"}'
    times = {parse(line % zone).at for zone in (b"+0000", b"Z", b"+00:00")}  # type: ignore[union-attr]  # a Reject would fail
    times |= {parse(line.replace(b"T19", b"T21") % b"+0200").at}  # type: ignore[union-attr]  # likewise

    assert times == {1_795_547_248_397_055}


def test_a_strange_field_of_a_record_not_for_us_is_no_reject() -> None:
    """Suricata gives one name to different things in different records."""
    line = b'{"timestamp":"2026-11-24T19:07:28.397055+0000","event_type":"smtp","http":[1],"host":"a"}'
    parsed = dialects()["suricata"].parse(line)

    assert isinstance(parsed, Ignored)
    assert parsed.kind == "smtp"


def test_golden_input_is_real() -> None:
    """Each golden line, or those joined in it behind their times, stand in the recorded sample, except constructed ones."""
    recorded = set()
    for path in (Path(__file__).parents[2] / "data").rglob("*.gz"):
        recorded |= set(gzip.decompress(path.read_bytes()).splitlines())
    for dialect in EVERY:
        for line in real_lines(dialect):
            _, *joined = line.split(b"\x1e")
            assert line in recorded or b"constructed" in line or (joined and recorded.issuperset(joined))


def test_a_flow_that_a_stopped_sensor_releases_has_not_ended() -> None:
    """Suricata writes all flows when it is stopped, and the ones it prunes; those go on, the closed ones do not."""
    line = (
        b'{"timestamp":"2026-11-24T10:00:00.000000+0000","flow_id":7,"event_type":"flow","host":"h","src_ip":"10.0.0.1",'
        b'"src_port":1000,"dest_ip":"10.0.0.2","dest_port":3128,"proto":"TCP","flow":{"start":"2026-11-24T09:59:00.000000+0000",'
        b'"end":"2026-11-24T09:59:30.000000+0000","state":"%s","reason":"%s"}}'
    )
    ended = {
        (state, reason): getattr(dialects()["suricata"].parse(line % (state, reason)), "ended", None)
        for state in (b"established", b"closed")
        for reason in (b"shutdown", b"forced", b"timeout")
    }

    assert [pair for pair, at in ended.items() if at == 0] == [
        (b"established", b"shutdown"),
        (b"established", b"forced"),
    ]
    assert None not in ended.values()
