"""Arithmetic and functions of numbers. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "abs-function": [
        ("abs(-3)", 3),
        ("abs(-3.5)", 3.5),
    ],
    "bin-function": [
        ("floor(-1.5, 1)", -2.0),
    ],
    "binary-and-function": [
        ("binary_and(6, 3)", 2),
    ],
    "binary-not-function": [
        ("binary_not(0)", -1),
    ],
    "binary-or-function": [
        ("binary_or(6,3)", 7),
    ],
    "binary-shift-left-function": [
        ("binary_shift_left(1, 4)", 16),
    ],
    "binary-shift-right-function": [
        ("binary_shift_right(16, 2)", 4),
    ],
    "binary-xor-function": [
        ("binary_xor(6,3)", 5),
    ],
    "bitset-count-ones-function": [
        ("bitset_count_ones(42)", 3),
    ],
    "ceiling-function": [
        ("ceiling(1.2)", 2),
    ],
    "exp-function": [
        ("exp(0)", 1.0),
    ],
    "format-bytes-function": [
        ("format_bytes(564)", "564 Bytes"),
        ("format_bytes(10332, 1)", "10.1 KB"),
        ("format_bytes(20010332)", "19 MB"),
        ("format_bytes(20010332, 2)", "19.08 MB"),
        ('format_bytes(20010332, 0, "KB")', "19541 KB"),
    ],
    "gamma-function": [
        ("gamma(5)", 24.0),
    ],
    "isfinite-function": [
        ("isfinite(1.0)", True),
    ],
    "isinf-function": [
        ("isinf(1.0/0)", True),
    ],
    "isnan-function": [
        ("isnan(real(nan))", True),
    ],
    "log-function": [
        ("log(1)", 0.0),
    ],
    "log10-function": [
        ("log10(100)", 2.0),
    ],
    "log2-function": [
        ("log2(8)", 3.0),
    ],
    "max-of-function": [
        ("max_of(1, 5, 3)", 5),
        ('max_of("a","b")', "b"),
        ("max_of(1, int(null))", 1),
    ],
    "min-of-function": [
        ("min_of(1, 2.5)", 1.0),
    ],
    "numerical-operators": [
        ("5 / 2", 2),
        ("-5 / 2", -2),
        ("5 % 3", 2),
        ("-5 % 3", 1),
        ("5 % -3", 2),
        ("5.0 / 2", 2.5),
        ("1 / 0", None),
        ("1.0 / 0", "inf"),
        ("5 / 2.0", 2.5),
        ("tolong(7) / 2", 3),
        ("int(2147483647) + 1", 2147483648),
        ("1 - 2", -1),
        ("2 * 3.5", 7.0),
        ("-2", -2),
        ("- 2 * 3", -6),
        ("0.1 + 0.2", 0.30000000000000004),
    ],
    "pi-function": [
        ("pi() > 3.14", True),
    ],
    "pow-function": [
        ("pow(2, 10)", 1024.0),
    ],
    "rand-function": [
        ("rand(1)", 0.0),
    ],
    "round-function": [
        ("round(2.675, 2)", 2.68),
        ("round(2.5)", 3.0),
        ("round(-2.5)", -3.0),
        ("round(1234.5678, -2)", 1200.0),
    ],
    "sign-function": [
        ("sign(-2)", -1.0),
    ],
    "sqrt-function": [
        ("sqrt(16)", 4.0),
    ],
    "tohex-function": [
        ("tohex(255)", "ff"),
        ("tohex(255, 4)", "00ff"),
        ("tohex(-1)", "ffffffffffffffff"),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])
