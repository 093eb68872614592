"""Heads of requests: what is read of them, what is reported, and that nothing secret is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.http.heads import CHUNKED, TARGET_CHARS_MAX, UNKNOWN, First, Urls, first_of, request_of, status_of


def reported(line: str, *fields: str, urls: Urls = Urls.PATH) -> tuple[str, str, int]:
    """Target, host and port of a request."""
    request = request_of("\r\n".join([line, *fields]).encode("latin-1"), urls)
    return request.target, request.host, request.port


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CONNECT www.Example.com:443 HTTP/1.1", ("www.example.com:443", "www.example.com", 443)),
        ("CONNECT [2001:DB8::1]:443 HTTP/1.1", ("[2001:db8::1]:443", "2001:db8::1", 443)),
        ("GET http://a.example HTTP/1.1", ("http://a.example/", "a.example", 80)),
        ("GET HTTP://A.example:80/b;c?d=e#f HTTP/1.1", ("http://a.example/b;c", "a.example", 80)),
        ("GET https://[::1]:8443/b HTTP/1.1", ("https://[::1]:8443/b", "::1", 8443)),
        ("GET ftp://jane:secret@a.example/b HTTP/1.1", ("ftp://a.example/b", "a.example", 21)),
        ("GET http://a.example?q=/b HTTP/1.1", ("http://a.example/", "a.example", 80)),
        (
            "GET http://a.example/http://jane:secret@b.example/c HTTP/1.1",
            ("http://a.example/http://b.example/c", "a.example", 80),
        ),
        (
            "GET http://a.example/http%3A%2F%2Fjane%3Asecret%40b.example/ HTTP/1.1",
            ("http://a.example/http%3A%2F%2Fb.example/", "a.example", 80),
        ),
        ("GET http://a.example/x//jane@b.example/ HTTP/1.1", ("http://a.example/x//b.example/", "a.example", 80)),
        (
            "GET http://a.example/users/jane@b.example HTTP/1.1",
            ("http://a.example/users/jane@b.example", "a.example", 80),
        ),
        ("GET /b?c HTTP/1.1", ("/b", "host.example", 8080)),
        ("OPTIONS * HTTP/1.1", ("*", "host.example", 8080)),
    ],
)
def test_targets(line: str, expected: tuple[str, str, int]) -> None:
    """Every form of a target, without query, fragment and credentials."""
    assert (
        reported(line, f"Host: {expected[1] if 'https' in line or 'ftp' in line else 'host.example'}:8080") == expected
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET  http://a.example/ HTTP/1.1", ("http://a.example/", "a.example", 80)),
        ("GET\thttp://a.example/\tHTTP/1.1", ("http://a.example/", "a.example", 80)),
        (" GET http://a.example/ \x0bHTTP/1.1 ", ("http://a.example/", "a.example", 80)),
        ("GET http://a.example/b c HTTP/1.1", ("http://a.example/b c", "a.example", 80)),
        ("GET http://a.example/ HTTP/1.2", ("http://a.example/", "a.example", 80)),
        ("GET http://a.example/ HTTP/1.10", ("http://a.example/", "a.example", 80)),
        ("GET http://a.example/ HTTP/2.0", ("http://a.example/", "a.example", 80)),
        ("GET http://a.example/ http/1.1", ("http://a.example/", "a.example", 80)),
        ("get http://a.example/ HTTP/1.1", ("http://a.example/", "a.example", 80)),
        ("GET http://a.example/", ("http://a.example/", "a.example", 80)),
        ("connect a.example:443 HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT http://a.example:443/ HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT HTTPS://a.example:8443 HTTP/1.0", ("a.example:8443", "a.example", 8443)),
        ("CONNECT http://a.example:443/b?c HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT a.example:443/ HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT %61.exampl%65:443 HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT [a.example]:443 HTTP/1.1", ("a.example:443", "a.example", 443)),
        ("CONNECT 3405803786:443 HTTP/1.1", ("203.0.113.10:443", "203.0.113.10", 443)),
        ("CONNECT 0xCB00710a:443 HTTP/1.1", ("203.0.113.10:443", "203.0.113.10", 443)),
        ("CONNECT 0313.0.0161.012:443 HTTP/1.1", ("203.0.113.10:443", "203.0.113.10", 443)),
        ("CONNECT 0xcb.0.28938:443 HTTP/1.1", ("203.0.113.10:443", "203.0.113.10", 443)),
        ("CONNECT [203.28938]:443 HTTP/1.1", ("203.0.113.10:443", "203.0.113.10", 443)),
        ("GET http://%32%303.28938./ HTTP/1.1", ("http://203.0.113.10/", "203.0.113.10", 80)),
        ("GET http://[::ffff:cb00:710a]/ HTTP/1.1", ("http://203.0.113.10/", "203.0.113.10", 80)),
        ("GET http://1.2.3.4.example/ HTTP/1.1", ("http://1.2.3.4.example/", "1.2.3.4.example", 80)),
    ],
)
def test_what_proxies_read_leniently(line: str, expected: tuple[str, str, int]) -> None:
    """Each of these was sent to squid, tinyproxy, privoxy, Apache and nginx: those that accept it go to this host."""
    assert reported(line) == expected


@pytest.mark.parametrize(
    ("line", "others"),
    [
        # squid goes to the first one, tinyproxy and privoxy to the second one
        ("CONNECT a.example:443@b.example:8443 HTTP/1.1", [("a.example", 443), ("b.example", 8443)]),
        ("CONNECT jane@b.example:443 HTTP/1.1", [("jane", 443), ("b.example", 443), ("jane", 80)]),
        # squid goes to the first one, tinyproxy, privoxy and Apache to the second one
        ("GET http://a.example?@b.example/ HTTP/1.1", [("a.example", 80), ("b.example", 80)]),
        ("GET http://a.example#@b.example/c HTTP/1.1", [("a.example", 80), ("b.example", 80)]),
        # squid to the first one, tinyproxy to the second one
        ("GET http://a.example\t@b.example/ HTTP/1.1", [("a.example", 80), ("b.example", 80)]),
        ("GET http://a.example\\@b.example/ HTTP/1.1", [("a.example", 80), ("b.example", 80)]),
        ("GET http://a@b@c.example/ HTTP/1.1", [("a", 80), ("b", 80), ("c.example", 80)]),
        # nginx reads decimal numbers only
        ("GET http://203.0.113.010/ HTTP/1.1", [("203.0.113.8", 80), ("203.0.113.10", 80)]),
        # ports that are cut, or read as far as they are numbers
        ("CONNECT a.example:65979 HTTP/1.1", [("a.example", 443)]),
        ("CONNECT a.example:+443 HTTP/1.1", [("a.example", 443)]),
        ("CONNECT a.example:443:8443 HTTP/1.1", [("a.example", 443)]),
        ("CONNECT ftp://a.example:443/ HTTP/1.1", [("a.example", 443)]),
        ("CONNECT //a.example:443/ HTTP/1.1", [("a.example", 443)]),
        ("CONNECT http://jane@a.example:443/ HTTP/1.1", [("jane", 443), ("a.example", 443), ("jane", 80)]),
        ("CONNECT http://a.example:443?b HTTP/1.1", [("a.example", 443), ("b", 443), ("b", 80)]),
        # tinyproxy takes the port of the Host field for a method in lower case
        ("connect https://a.example:443/ HTTP/1.1", [("a.example", 443)]),
        # goproxy goes to port 80, the others to 443; of http:// tinyproxy to 80
        ("CONNECT a.example HTTP/1.1", [("a.example", 443), ("a.example", 80)]),
        ("CONNECT a.example: HTTP/1.1", [("a.example", 443), ("a.example", 80)]),
        ("CONNECT http://a.example/ HTTP/1.1", [("a.example", 443), ("a.example", 80)]),
        ("CONNECT a.example%2f:443 HTTP/1.1", []),
        ("CONNECT %ff.example:443 HTTP/1.1", []),
        ("CONNECT 256.0.0.1:443 HTTP/1.1", []),
        ("CONNECT /a:443 HTTP/1.1", []),
        ("GET a.example:80 HTTP/1.1", [("a.example", 80)]),
        ("GET http://a.example:99999/ HTTP/1.1", [("a.example", 34463)]),
        ("GET gopher://a.example/ HTTP/1.1", [("a.example", 80)]),
        ("GET http:///a.example/ HTTP/1.1", [("a.example", 80)]),
        ("GET http://a.example\0.b.example/ HTTP/1.1", [("a.example", 80), (".b.example", 80)]),
        ("G(ET http://a.example/ HTTP/1.1", [("a.example", 80)]),
        ("", []),
    ],
)
def test_what_proxies_read_in_several_ways_names_nothing(line: str, others: list[tuple[str, int]]) -> None:
    """The head has no host for certain; each that may be meant is known, so that a list finds it."""
    request = request_of(line.encode(), Urls.PATH)

    assert (request.target, request.host, request.port, request.is_readable) == ("?", "", 0, False)
    assert list(request.others) == others


def test_tinyproxy_takes_the_port_of_the_host_field() -> None:
    """For CONNECT in lower case; other proxies take the target's."""
    same, other = (
        request_of(f"connect a.example:443 HTTP/1.1\r\nHost: {host}".encode(), Urls.PATH)
        for host in ("a.example:443", "a.example")
    )

    assert (same.host, same.port) == ("a.example", 443)
    assert (other.host, other.others) == ("", (("a.example", 443), ("a.example", 80)))


def test_a_path_that_may_be_an_authority() -> None:
    """proxy.py and pproxy go to the first host, other proxies by the Host field; an ordinary server is asked so as well."""
    request = request_of(b"GET //a.example/b HTTP/1.1\r\nHost: b.example", Urls.PATH)

    assert (request.target, request.host, request.named, request.is_readable) == ("//a.example/b", "", "", False)
    assert request.others == (("a.example", 80), ("b.example", 80))


def test_a_host_field_that_differs() -> None:
    """Proxies go by the target, some by the field: tinyproxy for what it does not know, nginx where it is set up so."""
    lines = (
        "GET http://a.example/ HTTP/1.1",
        "GET https://a.example/ HTTP/1.1",
        "connect a.example:443 HTTP/1.1",
        "CONNECT a.example:443 HTTP/1.1",
    )
    absolute, other, lower, upper = (
        request_of(f"{line}\r\nHost: b.example:8080".encode(), Urls.PATH) for line in lines
    )

    assert (absolute.target, absolute.host, absolute.others) == (
        "http://a.example/",
        "a.example",
        (("b.example", 8080),),
    )
    assert (other.target, other.host, other.is_readable) == ("?", "", True)
    assert other.others == (("a.example", 443), ("b.example", 8080))
    assert (lower.host, lower.is_readable, lower.others) == ("", False, (("a.example", 443), ("b.example", 8080)))
    assert (upper.host, upper.is_readable, upper.others) == ("a.example", True, ())


@pytest.mark.parametrize(
    "field", [" folded", "X: a\r\n folded", "no colon", ": a", "X : a", "H\u00f6: a", "X: a\rY: b"]
)
def test_fields_that_are_not_well_formed(field: str) -> None:
    """Proxies pass them over; where the body ends does not depend on them."""
    head = f"GET http://a.example/ HTTP/1.1\r\n{field}\r\nHost: a.example\r\nContent-Length: 5"
    request = request_of(head.encode(), Urls.PATH)

    assert (request.host, request.body, request.is_readable) == ("a.example", 5, True)


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: 5\r\n 0",
        "Content-Length : 5",
        " Content-Length: 5",
        "X: a\rTransfer-Encoding: chunked",
        "\r",
        " ",
    ],
)
def test_fields_that_may_give_the_end_of_the_body(field: str) -> None:
    """What follows the head could be its body, or the next request: nothing of it is certain."""
    request = request_of(f"GET http://a.example/ HTTP/1.1\r\nX: a\r\n{field}".encode(), Urls.PATH)

    assert (request.host, request.body, request.is_readable) == ("a.example", UNKNOWN, False)


@pytest.mark.parametrize(
    "field",
    ["Host : a.example", "Host:\r\n a.example", "X: b\rHost: a.example", "Host: a.example, b", "Host: b@a.example"],
)
def test_a_host_field_that_is_not_well_formed(field: str) -> None:
    """It names nothing; a target that names a host does."""
    plain = request_of(f"GET / HTTP/1.1\r\n{field}".encode(), Urls.PATH)
    absolute = request_of(f"GET http://a.example/ HTTP/1.1\r\n{field}".encode(), Urls.PATH)

    assert (plain.target, plain.host, plain.is_readable) == ("?", "", False)
    assert (absolute.host, absolute.is_readable) == ("a.example", True)


@pytest.mark.parametrize(
    ("line", "expected", "in_tunnel"),
    [
        ("GET  / HTTP/1.1", First.HEAD, First.HEAD),
        ("GET http://a.example/ HTTP/1.7\r", First.HEAD, First.HEAD),
        ("GET http://a.example/", First.ALONE, First.ALONE),
        ("GET http://a.example/ HTTP/0.9", First.ALONE, First.ALONE),
        ("PRI * HTTP/2.0\r", First.FOREIGN, First.FOREIGN),
        ("GET key", First.ALONE, First.FOREIGN),
        ("EHLO a.example", First.FOREIGN, First.FOREIGN),
        ("SSH-2.0-OpenSSH_9.2", First.FOREIGN, First.FOREIGN),
        ("HTTP/1.1 200 OK", First.FOREIGN, First.FOREIGN),
        ("", First.FOREIGN, First.FOREIGN),
    ],
)
def test_what_a_first_line_is(line: str, expected: First, in_tunnel: First) -> None:
    """A head, a request of HTTP/0.9 on which proxies act at once, or nothing for a proxy."""
    assert (first_of(line.encode()), first_of(line.encode(), in_tunnel=True)) == (expected, in_tunnel)


def test_two_hosts_are_none() -> None:
    """Which of them counts is the proxy's secret; the target still names one."""
    two = request_of(b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example", Urls.PATH)
    assert (two.target, two.host, two.is_readable) == ("?", "", False)
    assert set(two.others) == {("a.example", 80), ("b.example", 80)}
    assert reported("GET / HTTP/1.1", "Host: a.example", "Host: A.example") == ("/", "a.example", 80)
    assert reported("GET http://c.example/ HTTP/1.1", "Host: a.example", "Host: b.example") == (
        "http://c.example/",
        "c.example",
        80,
    )


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([], 0),
        (["Content-Length: 5"], 5),
        (["content-length: 5, 5", "Content-Length: 5"], 5),
        (["Content-Length: +5"], UNKNOWN),
        (["Content-Length: 99999999999999999999"], UNKNOWN),
        (["Content-Length:"], UNKNOWN),
        (["Transfer-Encoding: Chunked"], CHUNKED),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], UNKNOWN),
        (["Transfer-Encoding: gzip, chunked"], UNKNOWN),
    ],
)
def test_how_long_a_body_is(fields: list[str], body: int) -> None:
    """Only where it is unambiguous."""
    request = request_of("\r\n".join(["POST http://a.example/ HTTP/1.1", *fields]).encode(), Urls.PATH)

    assert request.body == body
    assert request.is_readable == (body != UNKNOWN)


def test_secrets_are_not_reported() -> None:
    """Credentials and other fields, whatever part of the URL is reported."""
    fields = [
        "Proxy-Authorization: Basic c2VjcmV0",
        "Cookie: secret",
        "Authorization: secret",
        "Host: jane:secret@a.example",
    ]
    for urls in Urls:
        line = "GET http://jane:secret@a.example/b?c=d&u=http://jane:secret@b.example/ HTTP/1.1"
        request = request_of("\r\n".join([line, *fields, "User-Agent: curl/8"]).encode(), urls)
        assert "secret" not in repr(request)
        assert "c2Vj" not in repr(request)
    assert reported("GET http://a.example/b?c=d#e HTTP/1.1", urls=Urls.FULL) == (
        "http://a.example/b?c=d",
        "a.example",
        80,
    )
    assert reported("GET /b?c=d HTTP/1.1", urls=Urls.HOST) == ("/", "", 0)


def test_texts_are_bounded_and_can_be_seen() -> None:
    """No target of any length, no control characters, no bytes that are no text."""
    long = request_of(b"GET http://a.example/" + b"a" * 9_000 + b" HTTP/1.1\r\nUser-Agent: " + b"b" * 9_000, Urls.PATH)
    odd = request_of(b"GET http://a.example/\xff\xc3\xa4 HTTP/1.1\r\nUser-Agent: a\x1bb", Urls.PATH)

    assert (len(long.target), len(long.user_agent)) == (TARGET_CHARS_MAX, 256)
    assert (odd.target, odd.user_agent) == ("http://a.example/\\xffä", "a\\x1bb")


def test_statuses() -> None:
    """Of HTTP/1 only, and only at the beginning."""
    assert [status_of(line) for line in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 407\r\n", b"HTTP/1.1 204")] == [
        200,
        407,
        204,
    ]
    assert [
        status_of(line) for line in (b"HTTP/1.1 2000", b"HTTP/2 200", b" HTTP/1.1 200", b"HTTP/1.1 099", b"HTTP")
    ] == [None] * 5


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"GET http://", b"CONNECT a:1 HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost:"]),
)
def test_any_bytes_are_a_value(more: bytes, first: bytes) -> None:
    """Nothing is raised, whatever comes."""
    request_of(first + more, Urls.FULL)
    status_of(first + more)
