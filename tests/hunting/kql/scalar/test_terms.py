"""Operators that search in texts: terms, case and lists. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "contains-cs-operator": [
        ('"abc" contains_cs "B"', False),
    ],
    "contains-operator": [
        ('"abc" contains "B"', True),
        ('"abc" contains ""', True),
        ('"" contains ""', True),
    ],
    "datatypes-string-operators": [
        ('"my powershell" hassuffix "shell"', True),
    ],
    "endswith-cs-operator": [
        ('"abc" endswith_cs "BC"', False),
    ],
    "endswith-operator": [
        ('"abc" endswith "BC"', True),
    ],
    "has-all-operator": [
        ('"a b" has_all ("a","b")', True),
        ('"a b" has_all ("a","c")', False),
    ],
    "has-any-operator": [
        ('"a b" has_any ("x","b")', True),
        ('"a b" has_any (dynamic(["x","B"]))', True),
        ('"ab" has_any ("a")', False),
    ],
    "has-cs-operator": [
        ('"xa" has_cs "XA"', False),
        ('"XA" has_cs "XA"', True),
    ],
    "has-operator": [
        ('"North America" has "america"', True),
        ('"North America" has "amer"', False),
        ('"a_b" has "a"', True),
        ('"abc" has "b"', False),
        ('"evil.example.com" has "example.com"', True),
        ('"notexample.com" has "example.com"', False),
        ('"x notexample.com" has ".com"', True),
        ('"x.comx" has ".com"', False),
        ('"a-b-c" has "-b-"', True),
        ('"abc-b-c" has "-b-"', True),
        ('"ABC" has "abc"', True),
        ('"straße 1" has "STRASSE"', False),
        ('"ÉCOLE" has "école"', True),
        ('"naïve" has "na"', False),
        ('"дом 1" has "дом"', True),
        ('"домик" has "дом"', False),
        ('"x \\u2013enc" has "enc"', True),
        ('"a\\u2014b" has "b"', True),
        ('"powershell.exe" has "powershell"', True),
        ('"abc" has ""', True),
        ('"" has "a"', False),
        ('"a.b" has "a.b"', True),
        ('"axb" has "a.b"', False),
        ('"50% off" has "50%"', True),
        ('"150%" has "50%"', False),
    ],
    "hasprefix-operator": [
        ('"powershell.exe" hasprefix "power"', True),
        ('"my powershell" hasprefix "shell"', False),
        ('"my_file" hasprefix "file"', True),
        ('"fool" !hasprefix "foo"', False),
    ],
    "in-operator": [
        ('"B" in~ ("a","b")', True),
        ('"A" in~ (dynamic(["a","b"]))', True),
    ],
    "not-contains-operator": [
        ('"abc" !contains "z"', True),
    ],
    "not-has-operator": [
        ('"foo" !has "foo"', False),
        ('"fool" !has "foo"', True),
    ],
    "not-in-cs-operator": [
        ('"B" !in~ ("a","b")', False),
    ],
    "not-in-operator": [
        ('"c" !in ("a","b")', True),
    ],
    "not-startswith-operator": [
        ('"abc" !startswith "b"', True),
    ],
    "regex-operator": [
        ('"abc" matches regex "b"', True),
        ('"abc" matches regex "^b"', False),
        ('"ABC" matches regex "(?i)abc"', True),
        ('"a1" matches regex @"^\\w\\d$"', True),
    ],
    "startswith-cs-operator": [
        ('"abc" startswith_cs "AB"', False),
    ],
    "startswith-operator": [
        ('"abc" startswith "AB"', True),
        ('"abc" startswith ""', True),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "has-any-operator": [
        (
            'let l = dynamic(["evil.com"]); datatable(x:string)["http://evil.com/x","c"] | where x has_any (l)',
            [["http://evil.com/x"]],
        ),
        (
            'let l = datatable(y:string)["evil.com"]; datatable(x:string)["http://EVIL.com/x","c"] | where x has_any (l)',
            [["http://EVIL.com/x"]],
        ),
        (
            'datatable(x:string, y:dynamic)["foo bar",dynamic(["q","bar"]), "foobar",dynamic(["bar"])] | where x has_any (y) | project x',
            [["foo bar"]],
        ),
    ],
    "has-operator": [
        ('datatable(x:string, y:string)["foo bar","bar", "foobar","bar"] | where x has y | project x', [["foo bar"]]),
        ('datatable(x:dynamic)[dynamic(["a","b"]), dynamic("b c")] | where x has "b" | count', [[2]]),
        ('datatable(x:dynamic)[dynamic({"k":"foo bar"})] | where x has "foo" | count', [[1]]),
    ],
    "in-operator": [
        ('let l = dynamic(["a","b"]); datatable(x:string)["A","c"] | where x in~ (l)', [["A"]]),
        ('let l = datatable(y:string)["A"]; datatable(x:string)["a","c"] | where x in~ (l)', [["a"]]),
    ],
    "not-in-cs-operator": [
        ('let l = dynamic(["a","b"]); datatable(x:string)["A","c"] | where x !in~ (l)', [["c"]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
