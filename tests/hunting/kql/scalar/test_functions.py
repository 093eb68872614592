"""Functions that are refused: each by its name and place, and wrong arguments with what was expected."""

from __future__ import annotations

import pytest

from tests.hunting.kql.answers import refused

UNSUPPORTED = [
    "parse_xml", "parse_user_agent", "punycode_from_string", "hash_many", "geo_point_in_circle", "series_decompose_anomalies",
    "zlib_decompress_from_base64_string", "gzip_decompress_from_base64_string", "ipv4_range_to_cidr_list", "parse_ipv6_mask",
    "bin_auto", "treepath", "buildschema", "no_such_function",
]  # fmt: skip
UNSUPPORTED_AGGREGATES = ["hll", "tdigest", "hll_merge", "buildschema"]
WRONG = [
    ("substring()", "takes 2 to 3 arguments, found 0"),
    ("substring('abc')", "takes 2 to 3 arguments, found 1"),
    ("round()", "takes 1 to 2 arguments, found 0"),
    ("strcat()", "takes 1 to 64 arguments, found 0"),
    ("pack_array()", "takes 1 to 64 arguments, found 0"),
    ("pack('a')", "takes 2 to 64 arguments, found 1"),
    ("pack('a', 1, 'b')", "pairs of keys and values"),
    ("strlen(5)", "expected a string, found a long"),
    ("extract('(a)', 1, 5)", "expected a string, found a long"),
    ("extract_all(@'\\d', '12')", "no group in parentheses"),
    ("extract('(?=a)', 0, 'a')", "`(?=` is not supported in regular expressions"),
    ("'a' matches regex '(?<!b)a'", "`(?<!` is not supported in regular expressions"),
    ("replace_regex('a', 'a', @'\\1')", "names group 1, the pattern has 0"),
    ("bin(datetime(2024-01-01), 1)", "expected a timespan"),
    ("bin(5, 0)", "must not be 0"),
    ("datetime_add('eon', 1, now())", "is no part of a time"),
    ("format_datetime(now(), 'MMMM')", "is no part of a time format"),
    ("iff(1, 2, 3)", "expected a condition, found a long"),
    ("iff(true, 1, 'a')", "are mixed"),
    ("hash(1.5)", "the hash of a real is not documented"),
    ("abs('a')", "expected a number or timespan, found a string"),
    ("'a' has 5", "expected a string, found a long"),
    ("1d + 1", "does not apply to timespan and long"),
    ("ago(5)", "expected a timespan such as 7d"),
    ("datetime(2024-02-30)", "is no datetime"),
    ("translate(tostring(now()), 'a', 'b')", "expected a constant"),
]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_function_is_refused_by_name_and_place(name: str) -> None:
    message, marked = refused(f"print x = 1, y = strcat('a', {name}('b', 2))")

    assert f"`{name}` is not supported" in message
    assert marked == name


@pytest.mark.parametrize("name", UNSUPPORTED_AGGREGATES)
def test_unsupported_aggregate_is_refused_by_name_and_place(name: str) -> None:
    message, marked = refused(f"datatable(x:long)[1] | summarize count(), {name}(x)")

    assert f"`{name}` is not supported" in message
    assert marked == name


@pytest.mark.parametrize(("expression", "expected"), WRONG, ids=[expression for expression, _ in WRONG])
def test_wrong_arguments_are_refused(expression: str, expected: str) -> None:
    message, _ = refused(f"print x = {expression}")

    assert expected in message


def test_window_function_needs_sorted_rows() -> None:
    message, marked = refused("datatable(x:long)[1] | extend r = row_number()")

    assert "needs rows in order" in message
    assert marked == "row_number()"


def test_aggregate_of_dynamic_values_has_no_maximum() -> None:
    """Kusto's binder refuses it too: dynamic values have no order."""
    message, _ = refused("datatable(x:dynamic)[dynamic(1)] | summarize max(x)")

    assert "dynamic values have no order" in message
