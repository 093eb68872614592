"""Dynamic values: literals, paths, arrays and bags. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "array-concat-function": [
        ('array_concat(dynamic([1]),dynamic(["a",2]))', [1, "a", 2]),
    ],
    "array-iff-function": [
        ("array_iff(dynamic([true,false,true]), dynamic([1,2,3]), dynamic([4,5,6]))", [1, 5, 3]),
        ('array_iff(dynamic([1,0,true]), "y", "n")', ["y", "n", "y"]),
    ],
    "array-index-of-function": [
        ('array_index_of(dynamic(["a","b"]),"b")', 1),
        ('array_index_of(dynamic(["a","b"]),"z")', -1),
        ("array_index_of(dynamic([1,2,3,2]),2)", 1),
        ("array_index_of(dynamic([1,2,3,2]),2,2)", 3),
    ],
    "array-length-function": [
        ("array_length(dynamic([1,2,3]))", 3),
        ("array_length(dynamic([]))", 0),
        ('array_length(dynamic({"a":1}))', None),
        ('array_length(parse_json("junk"))', None),
        ('array_length(split("a,b",","))', 2),
    ],
    "array-reverse-function": [
        ("array_reverse(dynamic([1,2,3]))", [3, 2, 1]),
    ],
    "array-rotate-left-function": [
        ("array_rotate_left(dynamic([1,2,3,4,5]), 2)", [3, 4, 5, 1, 2]),
    ],
    "array-rotate-right-function": [
        ("array_rotate_right(dynamic([1,2,3,4,5]), 2)", [4, 5, 1, 2, 3]),
    ],
    "array-shift-left-function": [
        ("array_shift_left(dynamic([1,2,3,4,5]), 2)", [3, 4, 5, None, None]),
        ("array_shift_left(dynamic([1,2,3]), -1, 9)", [9, 1, 2]),
        ('array_shift_left(dynamic(["a","b"]), 1)', ["b", ""]),
    ],
    "array-shift-right-function": [
        ("array_shift_right(dynamic([1,2,3,4,5]), 2)", [None, None, 1, 2, 3]),
    ],
    "array-slice-function": [
        ("array_slice(dynamic([1,2,3]),1,2)", [2, 3]),
        ("array_slice(dynamic([1,2,3,4,5]),-3,-2)", [3, 4]),
        ("array_slice(dynamic([1,2,3,4,5]),2,-1)", [3, 4, 5]),
    ],
    "array-sort-asc-function": [
        ("array_sort_asc(dynamic([3,1,2]))", [1, 2, 3]),
        ("array_sort_asc(dynamic([10,9,2]))", [2, 9, 10]),
        ('array_sort_asc(dynamic([null,"b","a"]))', ["a", "b", None]),
        ("array_sort_asc(dynamic([-5,3,-10]))", [-10, -5, 3]),
    ],
    "array-sort-desc-function": [
        ('array_sort_desc(dynamic(["b","a","c"]))', ["c", "b", "a"]),
    ],
    "array-split-function": [
        ("array_split(dynamic([1,2,3,4,5]), 2)", [[1, 2], [3, 4, 5]]),
        ("array_split(dynamic([1,2,3,4,5]), dynamic([1,3]))", [[1], [2, 3], [4, 5]]),
    ],
    "array-sum-function": [
        ("array_sum(dynamic([1,2,3]))", 6.0),
    ],
    "bag-has-key-function": [
        ('bag_has_key(dynamic({"a":1}),"a")', True),
        ('bag_has_key(dynamic({"a":1}),"b")', False),
    ],
    "bag-keys-function": [
        ('bag_keys(dynamic({"a":1,"b":2}))', ["a", "b"]),
        ("bag_keys(dynamic([1]))", None),
        ("bag_keys(dynamic({}))", []),
    ],
    "bag-merge-function": [
        ('bag_merge(dynamic({"a":1}),dynamic({"a":2,"b":3}))', {"a": 1, "b": 3}),
    ],
    "bag-pack-function": [
        ('bag_pack("a",1,"d",dynamic([1]))', {"a": 1, "d": [1]}),
    ],
    "bag-remove-keys-function": [
        ('bag_remove_keys(dynamic({"a":1,"b":2}),dynamic(["a"]))', {"b": 2}),
    ],
    "bag-set-key-function": [
        ('bag_set_key(dynamic({"a":1}),"b",2)', {"a": 1, "b": 2}),
    ],
    "bag-zip-function": [
        ('bag_zip(dynamic(["a","b"]),dynamic([1,2]))', {"a": 1, "b": 2}),
        ('bag_zip(dynamic(["a","b","c"]),dynamic([1]))', {"a": 1, "b": None, "c": None}),
    ],
    "dynamic-to-json-function": [
        ('dynamic_to_json(dynamic({"b":1,"a":2}))', '{"a":2,"b":1}'),
    ],
    "extract-json-function": [
        ('extract_json("$.a.b", "{\\"a\\":{\\"b\\":7}}")', "7"),
        ('extract_json("$.a.b", "{\\"a\\":{\\"b\\":7}}", typeof(long))', 7),
        ('extractjson("$[\'a\'][1]", "{\\"a\\":[1,2]}")', "2"),
        ('extract_json("$.x", "{}")', ""),
    ],
    "gettype-function": [
        ('gettype(parse_json("123"))', "long"),
        ('gettype(parse_json("junk"))', "string"),
        ('gettype("x")', "string"),
        ("gettype(111)", "long"),
        ("gettype(1==1)", "bool"),
        ("gettype(now())", "datetime"),
        ("gettype(1s)", "timespan"),
        ("gettype(1.5)", "real"),
        ("gettype(dynamic({}))", "dictionary"),
        ("gettype(dynamic([]))", "array"),
        ("gettype(dynamic(null))", "null"),
        ('gettype(parse_json("{\\"abc\\":123}").abc)', "long"),
        ("gettype(int(5))", "int"),
        ("gettype(guid(74be27de-1e4e-49d9-b579-fe0b331d3642))", "guid"),
    ],
    "jaccard-index-function": [
        ("jaccard_index(dynamic([1,2,3]),dynamic([2,3,4]))", 0.5),
        ("gettype(jaccard_index(dynamic([1]),dynamic([1,2])))", "real"),
        ("isnull(jaccard_index(dynamic([]),dynamic([])))", True),
        ("jaccard_index(dynamic([1]),dynamic([1,2])) > 0.4", True),
    ],
    "pack-array-function": [
        ('pack_array(1,"a",true, 1.5, 1d)', [1, "a", True, 1.5, "1.00:00:00"]),
        ("tostring(pack_array(1,2))", "[1,2]"),
    ],
    "pack-function": [
        ('pack("a",1,"b","x")', {"a": 1, "b": "x"}),
        ('pack("t", datetime(2024-01-02))', {"t": "2024-01-02T00:00:00.0000000Z"}),
        ('pack("n", long(null))', {"n": None}),
        ('pack("b", 1 == 1)', {"b": True}),
        ('tostring(pack("a","b"))', '{"a":"b"}'),
    ],
    "parse-json-function": [
        ('parse_json("{\\"a\\":{\\"b\\":5}}").a.b', 5),
        ('parse_json("{\\"a\\":{\\"b\\":5}}")["a"]["b"]', 5),
        ('parse_json("[1,2,3]")[1]', 2),
        ('parse_json("[1,2,3]")[-1]', 3),
        ('parse_json("[1,2,3]")[5]', None),
        ('parse_json("junk")', "junk"),
        ('parse_json("")', None),
        ('parse_json("junk").a', None),
        ('parse_json("123")', 123),
        ('parse_json("null")', None),
        ('isnull(parse_json("null"))', True),
        ('parse_json("{\\"a\\":null}").a', None),
        ('isnull(parse_json("{\\"a\\":null}").a)', True),
        ('tostring(parse_json("{\\"a\\":\\"x\\"}").a)', "x"),
        ('tostring(parse_json("{\\"a\\":[1, 2]}").a)', "[1,2]"),
        ('tostring(parse_json("{ \\"a\\" : 1 }"))', '{"a":1}'),
        ('tostring(parse_json("{\\"a\\":true}").a)', "true"),
        ('tostring(parse_json("{\\"a\\":1.5}").a)', "1.5"),
        ("parse_json('\"abc\"')", "abc"),
        ("tostring(parse_json('\"abc\"'))", "abc"),
        ('parse_json("{\\"a b\\":1}")["a b"]', 1),
        ("parse_json('{\"a\":1}')['a'] == 1", True),
        ('parse_json(\'{"a":"1"}\').a == 1', True),
        ("parse_json('{\"a\":\"x\"}').a == 'x'", True),
        ("parse_json('{\"a\":\"x\"}').a != 'y'", True),
        ("parse_json('{\"a\":5}').a > 3", True),
        ("parse_json('{\"a\":5}').b == 3", False),
        ("tolong(parse_json('{\"a\":5}').a) + 1", 6),
        ("parse_json('{\"a\":5}').a + 1", 6),
        ("parse_json('{\"a\":true}').a == true", True),
        ("tobool(parse_json('{\"a\":true}').a)", True),
        ('todatetime(parse_json(\'{"a":"2024-01-02"}\').a)', "2024-01-02T00:00:00.000000Z"),
        ('toint(parse_json(\'{"a":"7"}\').a)', 7),
        ('tostring(parse_json(\'{"a":""}\').b)', ""),
        ('isempty(parse_json(\'{"a":""}\').a)', True),
        ("parse_json('{\"a\":\"x\"}').a in ('x','y')", True),
        ("parse_json('{\"a\":\"X\"}').a =~ 'x'", True),
        ("parse_json('{\"a\":\"foo bar\"}').a has 'foo'", True),
        ('strlen(tostring(parse_json(\'{"a":"foo"}\').a))', 3),
        ('parse_json(\'{"a":{"b":[{"c":9}]}}\').a.b[0].c', 9),
        ("parse_json('{\"a\":{\"b\":[{\"c\":9}]}}')['a'].b[0]['c']", 9),
        ("parse_json('{\"big\":9007199254740993}').big", 9007199254740993),
        ("tolong(parse_json('{\"big\":9007199254740993}').big)", 9007199254740993),
        ('parse_json(\'{"u":"\\\\u00e9"}\').u', "é"),
        ('tostring(parse_json(\'{"u":"\\\\u00e9"}\').u)', "é"),
        ("tostring(parse_json('[\"a/b\"]'))", '["a/b"]'),
        ('parse_json(\'{"a":1,"A":2}\').A', 2),
        ('todynamic("[1]")[0]', 1),
        ("parse_json(dynamic([1]))", [1]),
    ],
    "range-function": [
        ("range(1,8,3)", [1, 4, 7]),
        ("range(1,3)", [1, 2, 3]),
        (
            "range(datetime(2024-01-01), datetime(2024-01-02), 1d)",
            ["2024-01-01T00:00:00.0000000Z", "2024-01-02T00:00:00.0000000Z"],
        ),
        ("range(1d,3d,1d)", ["1.00:00:00", "2.00:00:00", "3.00:00:00"]),
        ("range(5,1)", []),
    ],
    "repeat-function": [
        ("repeat(1,3)", [1, 1, 1]),
        ('repeat("a",0)', []),
    ],
    "scalar-data-types/dynamic": [
        ('dynamic({"a":1, "b":[1,2]})', {"a": 1, "b": [1, 2]}),
        ('dynamic([1,"x",null,true,1.5])', [1, "x", None, True, 1.5]),
        ("dynamic(null)", None),
        ('dynamic({"a":datetime(2024-01-02)}).a', "2024-01-02T00:00:00.0000000Z"),
        ("dynamic([1d])[0]", "1.00:00:00"),
    ],
    "set-difference-function": [
        ("set_difference(dynamic([1,2,3,3]),dynamic([2]))", [1, 3]),
    ],
    "set-has-element-function": [
        ('set_has_element(dynamic(["a","b"]),"a")', True),
        ('set_has_element(dynamic([1,2]),"1")', False),
        ("set_has_element(dynamic([1,2]),3)", False),
    ],
    "set-intersect-function": [
        ("set_intersect(dynamic([1,2,3]),dynamic([2,3,4]))", [2, 3]),
    ],
    "set-union-function": [
        ("set_union(dynamic([1,2]),dynamic([2,3]))", [1, 2, 3]),
        ('set_union(dynamic([]),dynamic(["b"]))', ["b"]),
    ],
    "zip-function": [
        ("zip(dynamic([1,2]),dynamic([3,4]))", [[1, 3], [2, 4]]),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "scalar-data-types/dynamic": [
        ('datatable(x:dynamic)[dynamic({"k":"foo bar"})] | where x.k == "foo bar" | count', [[1]]),
        (
            'datatable(s:string)[\'{"a":{"b":"v"}}\', "junk", ""] | project tostring(parse_json(s).a.b)',
            [["v"], [""], [""]],
        ),
        (
            'datatable(s:string)[\'{"a":{"b":"v"}}\', "junk", ""] | extend d = parse_json(s) | extend x = d.a | project x.b',
            [["v"], [None], [None]],
        ),
        (
            'datatable(s:string)[\'{"a":"{\\\\"b\\\\":1}"}\'] | extend d = parse_json(s) | project parse_json(tostring(d.a)).b, d.a.b',
            [[1, None]],
        ),
        ('datatable(s:string, k:string)[\'{"a":1}\',"a"] | extend d = parse_json(s) | project d[k]', [[1]]),
        (
            "datatable(d:dynamic, i:long)[dynamic([1,2,3]),1,dynamic([1,2,3]),-1,dynamic([1,2,3]),7] | project d[i]",
            [[2], [3], [None]],
        ),
        ('datatable(d:dynamic)[dynamic("a"),dynamic(1),dynamic(null)] | where d == "a" | count', [[1]]),
        ('datatable(d:dynamic)[dynamic("a"),dynamic(1),dynamic(null)] | where d != "a" | count', [[2]]),
        ('datatable(d:dynamic)[dynamic("a"),dynamic(1),dynamic(null)] | where d == 1 | count', [[1]]),
        ('datatable(d:dynamic)[dynamic("a"),dynamic(1),dynamic(null)] | where isnotempty(d) | count', [[2]]),
        ('datatable(d:dynamic)[dynamic(["a","b"]),dynamic(["c"])] | where "a" in (d) | count', [[1]]),
        ('datatable(d:dynamic)[dynamic(["a","b"]),dynamic(["c"])] | where d has_any ("a","c") | count', [[2]]),
        (
            'datatable(d:dynamic)[dynamic(["a","b"]),dynamic(["c"])] | extend n = array_length(d) | project n',
            [[2], [1]],
        ),
        ('datatable(d:dynamic)[dynamic({"x":{"y":1}}),dynamic({"x":2})] | extend v = d.x.y | project v', [[1], [None]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
