"""JSON logs: whatever is logged or written to stderr, each line is one object that every JSON reader takes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from unproxy.telemetry import LINE_CHARS_MAX, JsonFormatter

texts = st.text(st.characters() | st.sampled_from('\x00\x1b\x85\u2028\ud800\udfff\n\r"\\'))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)
NAMES = ["time", "level", "logger", "message", "fields"]


def logged(message: str, fields: dict[str, Any], error: Exception | None = None) -> str:
    """A record as a line."""
    record = logging.makeLogRecord({"name": "unproxy.test", "levelname": "WARNING", "msg": "%s", "args": (message,)})
    vars(record).update({f"x{name}": value for name, value in fields.items()})
    record.exc_info = (type(error), error, None) if error else None
    return JsonFormatter().format(record)


@given(texts, st.dictionaries(texts, values), texts)
def test_no_content_breaks_a_line(message: str, fields: dict[str, Any], trouble: str) -> None:
    """A strict reader finds one object, with the message and the exception as strings."""
    line = logged(message, fields, ValueError(trouble))
    found = msgspec.json.decode(line)

    assert line.isascii()
    assert line.isprintable()
    assert list(found) == [*NAMES, "exception"]
    assert found["message"] == message.encode("utf-8", "backslashreplace").decode()
    assert found["exception"].startswith("ValueError")


def test_fields_keep_their_types() -> None:
    """Numbers stay numbers, so that a log store can compute with them; a path becomes text."""
    fields = msgspec.json.decode(
        logged("x", {"n": 3, "ok": True, "of": {"a": [1.5]}, "path": Path("/a"), "nan": float("nan")})
    )

    assert fields["fields"] == {"xn": 3, "xok": True, "xof": {"a": [1.5]}, "xpath": "/a", "xnan": "nan"}


def stderr_of(*command: str, **settings: str) -> list[dict[str, Any]]:
    """Each line of stderr, decoded."""
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "UNPROXY_LOG__FORMAT": "json", **settings},
    )
    return [msgspec.json.decode(line) for line in done.stderr.splitlines()]


def test_the_reason_of_an_end_is_a_record() -> None:
    """The message of a failed command has the same form."""
    *_, last = stderr_of("-m", "unproxy", "migrate", UNPROXY_CLICKHOUSE__URL="http://127.0.0.1:1")

    assert (last["level"], last["logger"]) == ("error", "unproxy")
    assert "no ClickHouse answers there" in last["message"]


def test_what_a_library_prints_and_a_crash_are_records() -> None:
    """Neither a print to stderr nor a stack makes other lines."""
    code = (
        "import sys; from unproxy import telemetry; from unproxy.options import State; "
        "telemetry.set_up(service=True); State().settings; print('one\\ntwo', file=sys.stderr); 1 / 0"
    )
    one, two, crash = stderr_of("-c", code)

    assert [(one["message"], two["message"]), one["logger"]] == [("one", "two"), "stderr"]
    assert crash["level"] == "critical"
    assert crash["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_line_that_never_ends_is_not_kept() -> None:
    """What a library writes to stderr without a line end becomes records, the last of them at the end; none of it is lost."""
    program = (
        "import sys\nfrom unproxy import telemetry\ntelemetry.set_up(service=True)\ntelemetry.use_json()\n"
        "for _ in range(300): sys.stderr.write('x' * 1_000)\n"
    )
    records = stderr_of("-c", program)

    assert "".join(record["message"] for record in records) == "x" * 300_000
    assert all(len(record["message"]) <= LINE_CHARS_MAX + 1_000 for record in records)
