"""Values of one type as another. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "tobool-function": [
        ('tobool("true")', True),
        ('tobool("TRUE")', True),
        ('tobool("false")', False),
        ('tobool("1")', True),
        ('tobool("0")', False),
        ('tobool("x")', None),
        ("tobool(123)", True),
        ("tobool(0)", False),
        ('tobool("2")', None),
        ('tobool("")', None),
    ],
    "todatetime-function": [
        ('todatetime("2015-12-24")', "2015-12-24T00:00:00.000000Z"),
        ('todatetime("2015-12-24T10:11:12.1234567Z")', "2015-12-24T10:11:12.123456Z"),
        ('todatetime("2015-12-24T10:11:12+02:00")', "2015-12-24T08:11:12.000000Z"),
        ('todatetime("junk")', None),
        ('todatetime("")', None),
        ('todatetime("12345")', None),
        ('todatetime("1700000000")', None),
        ('todatetime("2015-12-24 10:11")', "2015-12-24T10:11:00.000000Z"),
        ('todatetime("Thu, 24 Dec 2015 10:11:12 GMT")', "2015-12-24T10:11:12.000000Z"),
        ('todatetime("12/24/2015")', "2015-12-24T00:00:00.000000Z"),
        ('todatetime("12/24/2015 1:02:03 PM")', "2015-12-24T13:02:03.000000Z"),
        ('todatetime("2015-13-24")', None),
        ('todatetime("192.168.1.1")', None),
        ('todatetime("05/06/2024")', "2024-05-06T00:00:00.000000Z"),
        ("todatetime(621355968000000000)", "1970-01-01T00:00:00.000000Z"),
    ],
    "todecimal-function": [
        ('todecimal("1.5") + 1', 2.5),
    ],
    "toguid-function": [
        ('toguid("70fc66f7-8279-44fc-9092-d364d70fce44")', "70fc66f7-8279-44fc-9092-d364d70fce44"),
        ('toguid("junk")', ""),
        ('toguid("70FC66F7-8279-44FC-9092-D364D70FCE44")', "70fc66f7-8279-44fc-9092-d364d70fce44"),
    ],
    "toint-function": [
        ('toint("123")', 123),
        ("toint(2.9)", 2),
        ('toint("3000000000")', None),
        ("toint(3000000000)", None),
    ],
    "tolong-function": [
        ("tolong(datetime(1970-01-01))", 621355968000000000),
        ("tolong(1s)", 10000000),
        ('tolong("123")', 123),
        ('tolong("0x1F")', 31),
        ('tolong("abc")', None),
        ('tolong("")', None),
        ('tolong(" 12 ")', 12),
        ("tolong(12.7)", 12),
        ("tolong(-12.7)", -12),
        ("tolong(true)", 1),
        ('tolong("-5")', -5),
        ('tolong("99999999999999999999")', None),
        ('tolong("12abc")', None),
        ('tolong("1e3")', None),
        ('tolong("1,000")', None),
        ('tolong("+5")', 5),
    ],
    "toreal-function": [
        ("toreal(5) / 2", 2.5),
        ('toreal("1.5")', 1.5),
        ('toreal("1e3")', 1000.0),
        ('toreal("abc")', None),
        ('toreal("")', None),
        ("todouble(3)", 3.0),
        ('toreal("-0.5")', -0.5),
        ('toreal(" 1.5 ")', 1.5),
    ],
    "tostring-function": [
        ("tostring(1d)", "1.00:00:00"),
        ("tostring(1s)", "00:00:01"),
        ("tostring(1.5s)", "00:00:01.5000000"),
        ("tostring(-90m)", "-01:30:00"),
        ("tostring(1tick)", "00:00:00.0000001"),
        ("tostring(datetime(2024-01-02 03:04:05.6))", "2024-01-02T03:04:05.6000000Z"),
        ("tostring(datetime(2024-01-02))", "2024-01-02T00:00:00.0000000Z"),
        ("tostring(true)", "true"),
        ("tostring(1==1)", "true"),
        ("tostring(123)", "123"),
        ("tostring(1.0)", "1.0"),
        ("tostring(1.5)", "1.5"),
        ("tostring(long(null))", ""),
        ("tostring(datetime(null))", ""),
        ("tostring(real(nan))", "NaN"),
        ("tostring(1.0/0)", "Infinity"),
        ("tostring(0.1)", "0.1"),
        ("tostring(guid(74be27de-1e4e-49d9-b579-fe0b331d3642))", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
        ('tostring(dynamic({"a":1}))', '{"a":1}'),
        ('tostring(dynamic("x"))', "x"),
        ("tostring(dynamic(null))", ""),
        ('tostring(dynamic([1,"a"]))', '[1,"a"]'),
        ("tostring(toint(1))", "1"),
        ("tostring(1 + 1)", "2"),
    ],
    "totimespan-function": [
        ('totimespan("1.02:03:04")', "1.02:03:04"),
        ('totimespan("00:00:10.5")', "00:00:10.5000000"),
        ('totimespan("x")', None),
        ('totimespan("1d")', "1.00:00:00"),
        ('totimespan("")', None),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "tostring-function": [
        (
            "datatable(r:real)[1.0, 2.5, real(null), 100000000000.0] | project tostring(r)",
            [["1.0"], ["2.5"], [""], ["100000000000.0"]],
        ),
        ("datatable(b:bool)[true, bool(null)] | project tostring(b)", [["true"], [""]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
