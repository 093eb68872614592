"""Functions of texts. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "base64-decode-toarray-function": [
        ('base64_decode_toarray("S3VzdG8=")', [75, 117, 115, 116, 111]),
    ],
    "base64-decode-tostring-function": [
        ('base64_decode_tostring("S3VzdG8=")', "Kusto"),
        ('base64_decode_tostring("!!!")', ""),
        ('base64_decode_tostring("U3RyaW5n_0KHR0L")', ""),
    ],
    "base64-encode-tostring-function": [
        ('base64_encode_tostring("Kusto")', "S3VzdG8="),
    ],
    "countof-function": [
        ('countof("aaa","a")', 3),
        ('countof("aaaa","aa")', 3),
        ('countof("ababa", "ab", "normal")', 2),
        ('countof("ababa", "aba")', 2),
        ('countof("ababa", "aba", "regex")', 1),
        ('countof("abcabc", "a.c", "regex")', 2),
        ('countof("The cat sat on the mat", "at")', 3),
    ],
    "extract-all-function": [
        ('extract_all(@"(\\d+)", "a set of numbers: 123, 567 and 789")', ["123", "567", "789"]),
        ('extract_all(@"(\\w)(\\d)", "a1 b2")', [["a", "1"], ["b", "2"]]),
        ('extract_all(@"(\\w)(\\w+)(\\w)", dynamic([1,3]), "The quick fox")', [["T", "e"], ["q", "k"], ["f", "x"]]),
        ('extract_all(@"(\\d)", "none")', None),
        ('extract_all(@"(\\w)(\\d)", dynamic([2]), "a1 b2")', ["1", "2"]),
    ],
    "regex": [
        (r"'a\nb' matches regex 'a.b'", False),
        (r"'a\nb' matches regex '(?s)a.b'", True),
        (r'extract("a=(.*)", 1, "a=1\nb=2")', "1"),
        (r'extract_all("(a.)", "a\nab")', ["ab"]),
        (r'replace_regex("a\nb", "a.b", "x")', "a\nb"),
    ],
    "extract-function": [
        ('extract("x=([0-9.]+)", 1, "hello x=45.6|wo")', "45.6"),
        ('extract("x=([0-9.]+)", 0, "hello x=45.6|wo")', "x=45.6"),
        ('extract("x=([0-9.]+)", 1, "none")', ""),
        ('extract("x=([0-9]+)", 1, "x=45", typeof(long))', 45),
        ('extract("(b)?(a)", 1, "a")', ""),
        ('extract("(a)(b)", 2, "ab")', "b"),
        ('extract("a", 1, "a")', ""),
        ('extract("(a)", 5, "a")', ""),
        ('extract("x=([0-9]+)", 1, "none", typeof(long))', None),
        ('extract(@"(\\d+\\.\\d+)", 1, "v1.5", typeof(real))', 1.5),
        ('extract("([a-z])", 1, "ABC")', ""),
    ],
    "hash-function": [
        ('hash("World")', 1846988464401551951),
        ('hash("World", 100)', 51),
    ],
    "hash-md5-function": [
        ('hash_md5("World")', "f5a7924e621e84c9280a9a27e1bcb7f6"),
    ],
    "hash-sha1-function": [
        ('hash_sha1("World")', "70c07ec18ef89c5309bbb0937f3a6342411e1fdd"),
    ],
    "hash-sha256-function": [
        ('hash_sha256("World")', "78ae647dc5544d227130a0682a51e30bc7777fbb6d8a8f17007463a3ecd1d524"),
    ],
    "hash-xxhash64-function": [
        ('hash_xxhash64("World")', 1846988464401551951),
        ('hash_xxhash64("World",100)', 51),
    ],
    "indexof-function": [
        ('indexof("abcdefg","cde")', 2),
        ('indexof("abcdefg","cde",1,4)', 2),
        ('indexof("abcdefg","cde",1,-1)', 2),
        ('indexof("abcdefg","z")', -1),
        ('indexof("abcabc","b",2)', 4),
        ('indexof("abcabc","b",0,-1,2)', 4),
        ('indexof("abcdefg","cde",-5)', 2),
        ('indexof("abcabcabc","b",0,-1,3)', 7),
        ('indexof("abc","b",0,1)', -1),
        ("indexof(1234567,5,1,4)", 4),
        ('indexof("abcdefg","cde",3)', -1),
        ('indexof("abc","c",5)', -1),
    ],
    "isascii-function": [
        ('isascii("abc")', True),
        ('isascii("é")', False),
    ],
    "isempty-function": [
        ('isempty(" ")', False),
    ],
    "isnotempty-function": [
        ('isnotempty("a")', True),
    ],
    "isutf8-function": [
        ('isutf8("é")', True),
    ],
    "make-string-function": [
        ("make_string(75,117,115,116,111)", "Kusto"),
        ("make_string(8364)", "€"),
        ("make_string(dynamic([97,98]), 99)", "abc"),
    ],
    "parse-command-line-function": [
        ('parse_command_line("echo \\"hello world!\\" print$?", "windows")', ["echo", "hello world!", "print$?"]),
    ],
    "parse-csv-function": [
        ('parse_csv("aaa,bbb,ccc")', ["aaa", "bbb", "ccc"]),
        ("parse_csv('aa,\"b,b,b\",cc')", ["aa", "b,b,b", "cc"]),
        ('parse_csv(\'aa,"""b,b,b""",cc\')', ["aa", '"b,b,b"', "cc"]),
        ('parse_csv("")', [""]),
        ('parse_csv("a,,b")', ["a", "", "b"]),
        ('parse_csv("a,b,")', ["a", "b", ""]),
        ('parse_csv("r1,1\\nr2,2")', ["r1", "1"]),
    ],
    "parse-path-function": [
        ('parse_path("C:\\\\temp\\\\file.txt").Filename', "file.txt"),
        ('tostring(parse_path(@"C:\\temp\\file.txt:alt").AlternateDataStreamName)', "alt"),
        (
            'parse_path(@"C:\\temp\\file.txt")',
            {
                "Scheme": "",
                "RootPath": "C:",
                "DirectoryPath": "C:\\temp",
                "DirectoryName": "temp",
                "Filename": "file.txt",
                "Extension": "txt",
                "AlternateDataStreamName": "",
            },
        ),
        (
            'parse_path(@"temp\\file.txt")',
            {
                "Scheme": "",
                "RootPath": "",
                "DirectoryPath": "temp",
                "DirectoryName": "temp",
                "Filename": "file.txt",
                "Extension": "txt",
                "AlternateDataStreamName": "",
            },
        ),
        (
            'parse_path("file://C:/temp/file.txt:some.exe")',
            {
                "Scheme": "file",
                "RootPath": "C:",
                "DirectoryPath": "C:/temp",
                "DirectoryName": "temp",
                "Filename": "file.txt",
                "Extension": "txt",
                "AlternateDataStreamName": "some.exe",
            },
        ),
        (
            'parse_path(@"\\\\shared\\users\\temp\\file.txt.gz")',
            {
                "Scheme": "",
                "RootPath": "",
                "DirectoryPath": "\\\\shared\\users\\temp",
                "DirectoryName": "temp",
                "Filename": "file.txt.gz",
                "Extension": "gz",
                "AlternateDataStreamName": "",
            },
        ),
        (
            'parse_path("/usr/lib/temp/file.txt")',
            {
                "Scheme": "",
                "RootPath": "",
                "DirectoryPath": "/usr/lib/temp",
                "DirectoryName": "temp",
                "Filename": "file.txt",
                "Extension": "txt",
                "AlternateDataStreamName": "",
            },
        ),
    ],
    "parse-version-function": [
        ('parse_version("1.2.3") < parse_version("1.10.0")', True),
    ],
    "regex-quote-function": [
        ('regex_quote("(so$me.A^b)")', "\\(so\\$me\\.A\\^b\\)"),
    ],
    "replace-regex-function": [
        ('replace_regex("Number is 1", @"is (\\d+)", @"was: \\1")', "Number was: 1"),
        ('replace_regex("Hello, World!", ".", @"\\0\\0")', "HHeelllloo,,  WWoorrlldd!!"),
        ('replace_regex("a1b2", @"(\\w)(\\d)", @"\\2\\1")', "1a2b"),
        ('replace_regex("abc","b","$0")', "a$0c"),
    ],
    "replace-string-function": [
        ('replace_string("A magic trick", "magic", "x")', "A x trick"),
        ('replace_string("a.b", ".", "-")', "a-b"),
        ('replace_string("abc", "", "x")', "abc"),
    ],
    "replace-strings-function": [
        (
            'replace_strings("A magic trick can turn a cat into a dog", dynamic(["cat","dog","magic"]), dynamic(["dog","cat","fake"]))',
            "A fake trick can turn a dog into a cat",
        ),
    ],
    "reverse-function": [
        ('reverse("abc")', "cba"),
        ("reverse(123)", "321"),
    ],
    "scalar-data-types/string": [
        ("@'C:\\x' == 'C:\\\\x'", True),
        ('"a" "b"', "ab"),
        ('h"abc"', "abc"),
    ],
    "split-function": [
        ('split("aa_bb","_")', ["aa", "bb"]),
        ('split("aaa_bbb_ccc","_",1)', ["bbb"]),
        ('split("","_")', [""]),
        ('split("a__b","_")', ["a", "", "b"]),
        ('split("aabbcc","bb")', ["aa", "cc"]),
        ('split("aabb_aabb_aabb", "bb_", 2)', ["aabb"]),
        ('split("a,b", ",")[1]', "b"),
        ('tostring(split("a,b,c", ",")[-1])', "c"),
        ('split("abc","")', ["abc"]),
    ],
    "strcat-array-function": [
        ('strcat_array(dynamic([1,2,3]), "->")', "1->2->3"),
        ('strcat_array(dynamic([]), ",")', ""),
        ('strcat_array(dynamic(["a",true,null,1.5]), ",")', "a,true,,1.5"),
    ],
    "strcat-delim-function": [
        ('strcat_delim("-", "1", "2", "A", 3)', "1-2-A-3"),
        ('strcat_delim(",", "a")', "a"),
    ],
    "strcat-function": [
        ('strcat("a", 1, true, 1.5)', "a1true1.5"),
        ("strcat(1d, datetime(2024-01-02))", "1.00:00:002024-01-02T00:00:00.0000000Z"),
        ('strcat("a","b")', "ab"),
    ],
    "strcmp-function": [
        ('strcmp("ABC","ABC")', 0),
        ('strcmp("abc","ABC")', 1),
        ('strcmp("ABC","abc")', -1),
    ],
    "string-size-function": [
        ('string_size("日本")', 6),
    ],
    "strlen-function": [
        ('strlen("hello")', 5),
        ('strlen("日本")', 2),
    ],
    "strrep-function": [
        ('strrep("ab",3)', "ababab"),
        ('strrep("ab",2,"-")', "ab-ab"),
        ("strrep(123.45, 2)", "123.45123.45"),
    ],
    "substring-function": [
        ('substring("123456", 1)', "23456"),
        ('substring("123456", 2, 2)', "34"),
        ('substring("ABCD", 0, 2)', "AB"),
        ('substring("ABCD", -2, 2)', "CD"),
        ('substring("ABCD", 10)', ""),
        ('substring("ABCD", 2, 100)', "CD"),
        ('substring("日本語", 1, 1)', "本"),
        ('substring("ABCD", -10, 2)', "AB"),
    ],
    "to-utf8-function": [
        ('to_utf8("ab")', [97, 98]),
    ],
    "tohex-function": [
        ("tohex(15)", "f"),
    ],
    "tolower-function": [
        ('tolower("ÀB")', "àb"),
    ],
    "toupper-function": [
        ('toupper("aé")', "AÉ"),
        ('toupper(dynamic("a"))', "A"),
    ],
    "translate-function": [
        ('translate("krasp","otsku","spark")', "kusto"),
        ('translate("abc","x","abc")', "xxx"),
        ('translate("abc", "xy", "abc")', "xyy"),
    ],
    "trim-end-function": [
        ('trim_end(".com","bing.com")', "bing"),
    ],
    "trim-function": [
        ('trim("--","--https://bing.com--")', "https://bing.com"),
        ('trim(@"[^\\w]+", "-  -Ab st1  ")', "Ab st1"),
        ('trim(" ", "  a ")', "a"),
    ],
    "trim-start-function": [
        ('trim_start("https://","https://bing.com")', "bing.com"),
        ('trim_start(@"[^\\w]+", "- $ab$")', "ab$"),
    ],
    "unicode-codepoints-from-string-function": [
        ('unicode_codepoints_from_string("a€")', [97, 8364]),
    ],
    "unicode-codepoints-to-string-function": [
        ("unicode_codepoints_to_string(dynamic([97,8364]))", "a€"),
    ],
    "url-decode-function": [
        ('url_decode("https%3a%2f%2fwww.bing.com%2f")', "https://www.bing.com/"),
        ('url_decode("a+b")', "a b"),
    ],
    "url-encode-component-function": [
        ('url_encode_component("a b")', "a%20b"),
    ],
    "url-encode-function": [
        ('url_encode("https://www.bing.com/hello world")', "https%3a%2f%2fwww.bing.com%2fhello+world"),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])
