"""The helper of the tests of KQL itself: Python values of each type, and refusals."""

from __future__ import annotations

from tests.hunting.kql.answers import refused, rows, value


def test_rows_are_python_values() -> None:
    """Each type of KQL has one form in Python; a null is None."""
    found = rows(
        "datatable(b:bool, l:long, r:real, s:string, t:datetime, p:timespan, d:dynamic)"
        '[true, 9007199254740993, 0.5, "x", datetime(2024-01-02 03:04:05.678901), 1d, dynamic({"a":[1]}),'
        " bool(null), long(null), real(null), '', datetime(null), timespan(null), dynamic(null)]"
    )

    assert found == [
        [True, 9007199254740993, 0.5, "x", "2024-01-02T03:04:05.678901Z", "1.00:00:00", {"a": [1]}],
        [None, None, None, "", None, None, None],
    ]


def test_value_is_the_only_cell() -> None:
    assert value("print 1 + 1") == 2


def test_refusal_has_its_message_and_place() -> None:
    message, marked = refused("print x = nonsense(1)")

    assert "`nonsense` is not supported" in message
    assert marked == "nonsense"


def test_a_text_is_no_operator() -> None:
    """Quotes make a text of what would be a sign or a word of the language."""
    for query, text in (
        ('print x = 1 "+" 2', '"+"'),
        ('print x = 1 "|" take 1', '"|"'),
        ('print x = 1 "and" 2', '"and"'),
    ):
        assert refused(query)[1] == text
