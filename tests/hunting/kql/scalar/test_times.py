"""Times and timespans. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "ago-function": [
        ("ago(1d) < now()", True),
    ],
    "bin-at-function": [
        ("bin_at(6.5, 2.5, 7.0)", 4.5),
        ("bin_at(datetime(2017-05-15 10:20:00.0), 1d, datetime(1970-01-01 12:00:00.0))", "2017-05-14T12:00:00.000000Z"),
        ("bin_at(datetime(2017-05-17 10:20:00.0), 7d, datetime(2017-06-04 00:00:00.0))", "2017-05-14T00:00:00.000000Z"),
        ("bin_at(1h, 7m, 2m)", "00:58:00"),
    ],
    "bin-function": [
        ("bin(4.5, 1)", 4.0),
        ("bin(-4, 3)", -6),
        ("bin(7, 5)", 5),
        ("bin(-7, 5)", -10),
        ("bin(datetime(2024-01-03 10:37:11), 1h)", "2024-01-03T10:00:00.000000Z"),
        ("bin(datetime(2024-01-03 10:37:11), 1d)", "2024-01-03T00:00:00.000000Z"),
        ("bin(datetime(2024-01-03 10:37:11), 7d)", "2024-01-01T00:00:00.000000Z"),
        ("bin(datetime(2024-01-07 10:37:11), 7d)", "2024-01-01T00:00:00.000000Z"),
        ("bin(datetime(1970-05-11 13:45:07), 1d)", "1970-05-11T00:00:00.000000Z"),
        ("bin(16d, 7d)", "14.00:00:00"),
        ("bin(datetime(2024-01-03 10:37:11), 5m)", "2024-01-03T10:35:00.000000Z"),
        ("bin(datetime(2024-01-03 10:37:11.2345), 100ms)", "2024-01-03T10:37:11.200000Z"),
        ("bin(datetime(2024-01-03 10:37:11), 5h)", "2024-01-03T07:00:00.000000Z"),
        ("bin(datetime(1969-12-31 23:30:00), 1h)", "1969-12-31T23:00:00.000000Z"),
        ("bin(datetime(2024-01-03 10:37:11), 2d)", "2024-01-02T00:00:00.000000Z"),
    ],
    "datetime-add-function": [
        ('datetime_add("month", 1, datetime(2024-01-31))', "2024-02-29T00:00:00.000000Z"),
        ('datetime_add("day", -1, datetime(2024-03-01))', "2024-02-29T00:00:00.000000Z"),
        ('datetime_add("week", 1, datetime(2024-01-01))', "2024-01-08T00:00:00.000000Z"),
        ('datetime_add("year", 1, make_datetime(2017,1,1))', "2018-01-01T00:00:00.000000Z"),
        ('datetime_add("millisecond", 1, datetime(2024-01-01))', "2024-01-01T00:00:00.001000Z"),
    ],
    "datetime-diff-function": [
        ('datetime_diff("day", datetime(2024-01-02 00:00), datetime(2024-01-01 23:59))', 1),
        ('datetime_diff("week", datetime(2017-10-29), datetime(2017-10-28))', 1),
        ('datetime_diff("year", datetime(2017-01-01), datetime(2000-12-31))', 17),
        ('datetime_diff("quarter", datetime(2017-07-01), datetime(2017-03-30))', 2),
        ('datetime_diff("month", datetime(2017-01-01), datetime(2015-12-30))', 13),
        ('datetime_diff("hour", datetime(2017-10-31 01:00), datetime(2017-10-30 23:59))', 2),
        ('datetime_diff("minute", datetime(2017-10-30 23:05:01), datetime(2017-10-30 23:00:59))', 5),
        ('datetime_diff("second", datetime(2017-10-30 23:00:10.100), datetime(2017-10-30 23:00:00.900))', 10),
        (
            'datetime_diff("millisecond", datetime(2017-10-30 23:00:00.200100), datetime(2017-10-30 23:00:00.100900))',
            100,
        ),
        (
            'datetime_diff("microsecond", datetime(2017-10-30 23:00:00.1009001), datetime(2017-10-30 23:00:00.1008009))',
            100,
        ),
        ('datetime_diff("day", datetime(2024-01-01), datetime(2024-01-03))', -2),
    ],
    "datetime-local-to-utc-function": [
        ('datetime_local_to_utc(datetime(2024-07-01 14:00), "Europe/Berlin")', "2024-07-01T12:00:00.000000Z"),
    ],
    "datetime-part-function": [
        ('datetime_part("week_of_year", datetime(1970-01-01))', 1),
        ('datetime_part("Quarter", datetime(2017-10-30 01:02:03.7654321))', 4),
        ('datetime_part("millisecond", datetime(2017-10-30 01:02:03.7654321))', 765),
    ],
    "datetime-timespan-arithmetic": [
        ("2h + 30m", "02:30:00"),
        ("1d - 25h", "-01:00:00"),
        ("datetime(2024-01-02) - datetime(2024-01-01)", "1.00:00:00"),
        ("datetime(2024-01-02) - 1d", "2024-01-01T00:00:00.000000Z"),
        ("1d / 1h", 24.0),
        ("1d * 2", "2.00:00:00"),
        ("2 * 1d", "2.00:00:00"),
        ("1d / 2", "12:00:00"),
        ("(datetime(2024-01-02) - datetime(2024-01-01)) / 1h", 24.0),
        ("1d > 1h", True),
        ("datetime(null)", None),
        ("datetime(2015-12-31 23:59:59.9)", "2015-12-31T23:59:59.900000Z"),
    ],
    "datetime-utc-to-local-function": [
        ('datetime_utc_to_local(datetime(2024-07-01 12:00), "Europe/Berlin")', "2024-07-01T14:00:00.000000Z"),
    ],
    "dayofmonth-function": [
        ("dayofmonth(datetime(2015-12-14))", 14),
    ],
    "dayofweek-function": [
        ("dayofweek(datetime(2015-12-14))", "1.00:00:00"),
        ("dayofweek(datetime(2015-12-20))", "00:00:00"),
        ("dayofweek(datetime(2024-01-06)) == 6d", True),
    ],
    "dayofyear-function": [
        ("dayofyear(datetime(2015-12-14))", 348),
    ],
    "endofday-function": [
        ("endofday(datetime(2017-01-01 10:10:17))", "2017-01-01T23:59:59.999999Z"),
    ],
    "endofmonth-function": [
        ("endofmonth(datetime(2024-02-03))", "2024-02-29T23:59:59.999999Z"),
    ],
    "endofweek-function": [
        ("endofweek(datetime(2017-01-01 10:10:17), -1)", "2016-12-31T23:59:59.999999Z"),
    ],
    "endofyear-function": [
        ("endofyear(datetime(2017-01-01), 1)", "2018-12-31T23:59:59.999999Z"),
    ],
    "format-datetime-function": [
        ('format_datetime(datetime(2017-01-29 09:00:05), "yy-MM-dd [HH:mm:ss]")', "17-01-29 [09:00:05]"),
        ('format_datetime(datetime(2017-01-29 09:00:05), "yyyy-M-dd [H:mm:ss]")', "2017-1-29 [9:00:05]"),
        ('format_datetime(datetime(2017-01-29 09:00:05), "yy-MM-dd [hh:mm:ss tt]")', "17-01-29 [09:00:05 AM]"),
        ('format_datetime(datetime(2017-01-29 00:00:05), "hh:mm:ss tt")', "12:00:05 AM"),
        ('format_datetime(datetime(2017-01-29 09:00:05.1234567), "ss.fff")', "05.123"),
        ('format_datetime(datetime(2017-01-29 21:00:05.12), "h ss.FFFF")', "9 05.12"),
        ('format_datetime(datetime(2017-01-29 21:00:05.12), "yyyy-MM-dd")', "2017-01-29"),
        ('format_datetime(datetime(2017-01-29 21:00:05), "yyyyMMddHHmmss")', "20170129210005"),
        ('format_datetime(datetime(2017-01-29 21:00:05), "y")', "17"),
        ('format_datetime(datetime(2017-01-29 21:00:05.12), "fffffff")', "1200000"),
    ],
    "format-timespan-function": [
        ('format_timespan(1d + 2h + 3m + 4.5s, "d.hh:mm:ss.fff")', "1.02:03:04.500"),
        ('format_timespan(time(29.09:00:05.12345), "dd.hh:mm:ss [ffff]")', "29.09:00:05 [1234]"),
        ('format_timespan(time(29.09:00:05.12345), "ddd.h:mm:ss [fff]")', "029.9:00:05 [123]"),
        ('format_timespan(time(29.09:00:05.12), "hh:mm:ss [FFFF]")', "09:00:05 [12]"),
        ('format_timespan(25h, "h:m")', "1:0"),
    ],
    "getyear-function": [
        ("getyear(datetime(2015-12-14))", 2015),
    ],
    "hourofday-function": [
        ("hourofday(datetime(2015-12-14 18:54))", 18),
    ],
    "make-datetime-function": [
        ("make_datetime(2017,10,01)", "2017-10-01T00:00:00.000000Z"),
        ("make_datetime(2017,10,01,12,10,40.5)", "2017-10-01T12:10:40.500000Z"),
        ("make_datetime(2017,13,01)", None),
        ("make_datetime(2017,02,30)", None),
    ],
    "make-timespan-function": [
        ("make_timespan(1,12)", "01:12:00"),
        ("make_timespan(1,12,30,55.123)", "1.12:30:55.1230000"),
        ("make_timespan(1,12,30)", "01:12:30"),
    ],
    "monthofyear-function": [
        ("monthofyear(datetime(2015-12-14))", 12),
    ],
    "now-function": [
        ("now() == now()", True),
        ("now(-1d) == ago(1d)", True),
        ("now() - ago(2h)", "02:00:00"),
        ("now()", "2023-11-14T22:13:20.000000Z"),
    ],
    "startofday-function": [
        ("startofday(datetime(2017-01-01 10:10:17), -1)", "2016-12-31T00:00:00.000000Z"),
    ],
    "startofmonth-function": [
        ("startofmonth(datetime(2017-01-15), 1)", "2017-02-01T00:00:00.000000Z"),
    ],
    "startofweek-function": [
        ("startofweek(datetime(2017-01-01 10:10:17))", "2017-01-01T00:00:00.000000Z"),
        ("startofweek(datetime(2017-01-01 10:10:17), -1)", "2016-12-25T00:00:00.000000Z"),
        ("startofweek(datetime(2024-01-06))", "2023-12-31T00:00:00.000000Z"),
        ("startofweek(datetime(1960-01-01))", "1959-12-27T00:00:00.000000Z"),
    ],
    "startofyear-function": [
        ("startofyear(datetime(2017-05-15), -1)", "2016-01-01T00:00:00.000000Z"),
    ],
    "unixtime-microseconds-todatetime-function": [
        ("unixtime_microseconds_todatetime(1546300800000000)", "2019-01-01T00:00:00.000000Z"),
    ],
    "unixtime-milliseconds-todatetime-function": [
        ("unixtime_milliseconds_todatetime(1546300800000)", "2019-01-01T00:00:00.000000Z"),
    ],
    "unixtime-nanoseconds-todatetime-function": [
        ("unixtime_nanoseconds_todatetime(1546300800000000000)", "2019-01-01T00:00:00.000000Z"),
    ],
    "unixtime-seconds-todatetime-function": [
        ("unixtime_seconds_todatetime(1546300800)", "2019-01-01T00:00:00.000000Z"),
        ("unixtime_seconds_todatetime(1546300800.5)", "2019-01-01T00:00:00.500000Z"),
    ],
    "week-of-year-function": [
        ("week_of_year(datetime(2020-12-31))", 53),
        ("week_of_year(datetime(2020-06-15))", 25),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])
