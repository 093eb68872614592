"""Where an INSERT ends and its data begins."""

from __future__ import annotations

import pytest

from unproxy.local.servers.statement import asked_format, find_insert, has_second_statement


@pytest.mark.parametrize(
    ("text", "sql", "data"),
    [
        (b"INSERT INTO t FORMAT JSONEachRow\n{}", "INSERT INTO t ", b"{}"),
        (b"insert into t (`a`, b) format JSONEachRow {}", "insert into t (`a`, b) ", b"{}"),
        (
            b"/* FORMAT */ INSERT INTO t -- FORMAT x\n FORMAT CSV\r\n1",
            "/* FORMAT */ INSERT INTO t -- FORMAT x\n ",
            b"1",
        ),
        (b"INSERT INTO t SETTINGS a='FORMAT b' FORMAT TSV\n\n1", "INSERT INTO t SETTINGS a='FORMAT b' ", b"\n1"),
        (
            b"INSERT INTO d.`FORMAT x` (`VALUES`) FORMAT Native\n\x00\xff",
            "INSERT INTO d.`FORMAT x` (`VALUES`) ",
            b"\x00\xff",
        ),
        (b"INSERT INTO t FORMAT JSONEachRow", "INSERT INTO t ", b""),
    ],
)
def test_data_of_an_insert(text: bytes, sql: str, data: bytes) -> None:
    """The statement ends before FORMAT; quotes and comments hide words; one line end belongs to neither."""
    found = find_insert(text)

    assert found is not None
    assert (found.sql, text[found.data_at :]) == (sql, data)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1 FORMAT JSON",
        b"INSERT INTO t SELECT * FROM u FORMAT JSON",
        b"INSERT INTO t (a) VALUES (1)",
        b"INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
        b"INSERT INTO t",
    ],
)
def test_others_have_no_data(text: bytes) -> None:
    """Whatever makes its own rows is a plain statement."""
    assert find_insert(text) is None


@pytest.mark.parametrize(
    ("text", "second"),
    [
        (b"SELECT 1", False),
        (b"SELECT 1; ;\n-- bye\n", False),
        (b"SELECT ';'; /* x */", False),
        (b"SELECT 1; SELECT 2", True),
    ],
)
def test_second_statement(text: bytes, second: bool) -> None:
    """Only what follows a semicolon outside of quotes and comments is another statement."""
    assert has_second_statement(text) is second


def test_format_at_the_end() -> None:
    """The format is the one named last."""
    assert asked_format(b"SELECT 'FORMAT CSV'\n FORMAT  JSONEachRow ;\n") == "JSONEachRow"
    assert asked_format(b"SELECT 1") is None
