"""Addresses and URLs. The answers are those of the documentation, by its pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunting.kql.scalar.known import check, listed

PRINTED: dict[str, list[tuple[str, Any]]] = {
    "format-ipv4-function": [
        ('format_ipv4("192.168.1.255",24)', "192.168.1.0"),
        ("format_ipv4(3232236031,24)", "192.168.1.0"),
        ('format_ipv4("192.168.1.1")', "192.168.1.1"),
        ('format_ipv4("junk")', ""),
        ("format_ipv4(3232235777)", "192.168.1.1"),
        ('format_ipv4("192.168.1.1/24")', "192.168.1.0"),
    ],
    "format-ipv4-mask-function": [
        ('format_ipv4_mask("192.168.1.1",24)', "192.168.1.0/24"),
        ('format_ipv4_mask("192.168.1.1",32)', "192.168.1.1/32"),
    ],
    "geo-info-from-ip-address-function": [
        ('geo_info_from_ip_address("8.8.8.8")', {}),
    ],
    "has-any-ipv4-function": [
        ('has_any_ipv4("05:04:54 127.0.0.1 GET","127.0.0.1","127.0.0.2")', True),
        ('has_any_ipv4("05:04:54 127.0.0.2 GET", dynamic(["127.0.0.1","127.0.0.2"]))', True),
        ('has_any_ipv4("05:04:54 127.0.0.3", dynamic(["127.0.0.1"]))', False),
    ],
    "has-any-ipv4-prefix-function": [
        ('has_any_ipv4_prefix("05:04:54 127.0.0.1 GET","127.0.","192.168.")', True),
    ],
    "has-ipv4-function": [
        ('has_ipv4("05:04:54 127.0.0.1 GET /favicon.ico 404","127.0.0.1")', True),
        ('has_ipv4("05:04:54 127.0.0.256 GET","127.0.0.256")', False),
        ('has_ipv4("05:04:54127.0.0.1 GET","127.0.0.1")', False),
        ('has_ipv4("1127.0.0.1","127.0.0.1")', False),
        ('has_ipv4("ip=127.0.0.1;","127.0.0.1")', True),
        ('has_ipv4("127.0.0.1.5","127.0.0.1")', False),
    ],
    "has-ipv4-prefix-function": [
        ('has_ipv4_prefix("05:04:54 127.0.0.1 GET","127.0.")', True),
        ('has_ipv4_prefix("05:04:54 127.0.0.1 GET","127.0")', False),
        ('has_ipv4_prefix("05:04:54127.0.0.1 GET","127.0.0.")', False),
        ('has_ipv4_prefix("x 127.0.0.1 GET","127.0.0.1")', True),
    ],
    "ipv4-compare-function": [
        ('ipv4_compare("192.168.1.1","192.168.1.255")', -1),
        ('ipv4_compare("192.168.1.255","192.168.1.1")', 1),
        ('ipv4_compare("192.168.1.1/24","192.168.1.255")', 0),
        ('ipv4_compare("192.168.1.1/30", "192.168.1.255/24")', 0),
        ('ipv4_compare("192.168.1.1", "192.168.1.0", 31)', 0),
    ],
    "ipv4-is-in-any-range-function": [
        ('ipv4_is_in_any_range("192.168.1.6", "192.168.1.1/24", "10.0.0.1/8", "127.1.0.1/16")', True),
        ('ipv4_is_in_any_range("127.0.0.1", dynamic(["127.0.0.1/8", "192.168.1.1"]))', True),
        ('ipv4_is_in_any_range("8.8.8.8", dynamic(["127.0.0.1/8", "192.168.1.1"]))', False),
        ('ipv4_is_in_any_range("junk", dynamic(["127.0.0.1/8"]))', None),
    ],
    "ipv4-is-in-range-function": [
        ('ipv4_is_in_range("127.0.0.1","127.0.0.1")', True),
        ('ipv4_is_in_range("192.168.1.6","192.168.1.1/24")', True),
        ('ipv4_is_in_range("192.168.1.1","192.168.2.1/24")', False),
        ('ipv4_is_in_range("abc","192.168.2.1/24")', None),
        ('ipv4_is_in_range("1.2.3.4","0.0.0.0/0")', True),
        ('ipv4_is_in_range("1.2.3.4","junk")', None),
    ],
    "ipv4-is-match-function": [
        ('ipv4_is_match("192.168.1.1/24","192.168.1.255")', True),
        ('ipv4_is_match("192.168.1.1","192.168.1.255",24)', True),
        ('ipv4_is_match("192.168.1.1","192.168.1.2")', False),
        ('ipv4_is_match("192.168.1.1/24", "192.168.1.255/24")', True),
        ('ipv4_is_match("a","192.168.1.1")', None),
    ],
    "ipv4-is-private-function": [
        ('ipv4_is_private("10.1.2.3")', True),
        ('ipv4_is_private("192.168.1.1/24")', True),
        ('ipv4_is_private("208.10.0.1")', False),
        ('ipv4_is_private("junk")', None),
        ('ipv4_is_private("")', None),
        ('ipv4_is_private("172.32.0.1")', False),
        ('ipv4_is_private("172.16.5.5")', True),
        ('ipv4_is_private("172.31.255.255")', True),
        ('ipv4_is_private("172.15.255.255")', False),
        ('ipv4_is_private("192.167.0.1")', False),
        ('ipv4_is_private("11.0.0.1")', False),
        ('ipv4_is_private("127.0.0.1")', False),
        ('ipv4_is_private("10.1.2.3/24")', True),
        ('ipv4_is_private("::1")', None),
        ('ipv4_is_private("169.254.1.1")', False),
        ('not(ipv4_is_private("junk"))', None),
        ('ipv4_is_private("10.1.2.3/99")', None),
        ('ipv4_is_private("10.1.2")', None),
    ],
    "ipv4-netmask-suffix-function": [
        ('ipv4_netmask_suffix("192.168.1.1/24")', 24),
        ('ipv4_netmask_suffix("192.168.1.1")', 32),
    ],
    "ipv6-compare-function": [
        ('ipv6_compare("fe80::1","fe80::2")', -1),
        ('ipv6_compare("fe80::85d:e82c:9446:7994","fe80::85d:e82c:9446:7995",127)', 0),
    ],
    "ipv6-is-in-any-range-function": [
        ('ipv6_is_in_any_range("192.168.1.6","192.168.1.1/24")', True),
        ('ipv6_is_in_any_range("fe80::1", dynamic(["fe80::/10","::1"]))', True),
    ],
    "ipv6-is-in-range-function": [
        (
            'ipv6_is_in_range("a5e:f127:8a9d:146d:e102:b5d3:c755:abcd","a5e:f127:8a9d:146d:e102:b5d3:c755:0000/112")',
            True,
        ),
        ('ipv6_is_in_range("junk","::/0")', None),
        ('ipv6_is_in_range("192.168.1.1","192.168.1.1/24")', True),
    ],
    "ipv6-is-match-function": [
        ('ipv6_is_match("::ffff:7f00:1","127.0.0.1")', True),
        ('ipv6_is_match("fe80::85d:e82c:9446:7994","fe80::85d:e82c:9446:7995/120")', True),
        ('ipv6_is_match("192.168.1.1/24","192.168.1.255/24")', True),
        ('ipv6_is_match("fe80::1","fe80::2",112)', True),
    ],
    "parse-ipv4-function": [
        ('parse_ipv4("127.0.0.1")', 2130706433),
        ('parse_ipv4("192.1.168.1")', 3221334017),
        ('parse_ipv4("192.1.168.1/24")', 3221334016),
        ('parse_ipv4("x")', None),
    ],
    "parse-ipv4-mask-function": [
        ('parse_ipv4_mask("127.0.0.1",24)', 2130706432),
    ],
    "parse-ipv6-function": [
        ('parse_ipv6("127.0.0.1")', "0000:0000:0000:0000:0000:ffff:7f00:0001"),
        ('parse_ipv6(":fe80::85d:e82c:9446:7994")', ""),
        ('parse_ipv6("fe80::85d:e82c:9446:7994")', "fe80:0000:0000:0000:085d:e82c:9446:7994"),
    ],
    "parse-url-function": [
        (
            'parse_url("scheme://username:password@www.google.com:1234/this/is/a/path?k1=v1&k2=v2#fragment")',
            {
                "Scheme": "scheme",
                "Host": "www.google.com",
                "Port": "1234",
                "Path": "/this/is/a/path",
                "Username": "username",
                "Password": "password",
                "Query Parameters": {"k1": "v1", "k2": "v2"},
                "Fragment": "fragment",
            },
        ),
        ('tostring(parse_url("https://evil.com/x").Host)', "evil.com"),
        ('tostring(parse_url("junk").Host)', ""),
        ('parse_url("http://1.2.3.4:8080").Port', "8080"),
        ('parse_url("http://[::1]:80/a").Host', "[::1]"),
        ('parse_url("https://a.com?q=http://b.com/").Host', "a.com"),
        ('tostring(parse_url("https://a.com?q=1").Path)', ""),
        ('parse_url("https://a.com/p?a=b@c").Host', "a.com"),
        (
            'parse_url("")',
            {
                "Scheme": "",
                "Host": "",
                "Port": "",
                "Path": "",
                "Username": "",
                "Password": "",
                "Query Parameters": {},
                "Fragment": "",
            },
        ),
    ],
    "parse-urlquery-function": [
        ('parse_urlquery("k1=v1&k2=v2&k3=v3")', {"Query Parameters": {"k1": "v1", "k2": "v2", "k3": "v3"}}),
        ('parse_urlquery("k1=v1")["Query Parameters"].k1', "v1"),
    ],
}

QUERIES: dict[str, list[tuple[str, Any]]] = {
    "ipv4-is-private-function": [
        ('datatable(ip:string)["10.0.0.1","8.8.8.8","",":x"] | where not(ipv4_is_private(ip))', [["8.8.8.8"]]),
        ('datatable(ip:string)["10.0.0.1","8.8.8.8","",":x"] | where ipv4_is_private(ip) == false', [["8.8.8.8"]]),
        ('datatable(ip:string)["10.0.0.1","8.8.8.8",""] | where ipv4_is_private(ip) != true', [["8.8.8.8"], [""]]),
    ],
}


@pytest.mark.parametrize(("expression", "answer"), listed(PRINTED))
def test_expression_is_as_documented(expression: str, answer: Any) -> None:
    check(f"print {expression}", [[answer]])


@pytest.mark.parametrize(("query", "answer"), listed(QUERIES))
def test_rows_are_as_documented(query: str, answer: Any) -> None:
    check(query, answer)
