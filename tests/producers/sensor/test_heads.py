"""Heads of requests: what is read of them, what is told, and that nothing secret is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.heads import CHUNKED, TARGET_CHARS_MAX, UNKNOWN, Urls, request_of, status_of


def told(line: str, *fields: str, urls: Urls = Urls.PATH) -> tuple[str, str, int] | None:
    """Target, host and port of a request."""
    request = request_of("\r\n".join([line, *fields]).encode("latin-1"), urls)
    return None if request is None else (request.target, request.host, request.port)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CONNECT www.Example.com:443 HTTP/1.1", ("www.example.com:443", "www.example.com", 443)),
        ("CONNECT [2001:DB8::1]:443 HTTP/1.1", ("[2001:db8::1]:443", "2001:db8::1", 443)),
        ("CONNECT jane:secret@a.example:443 HTTP/1.0", ("a.example:443", "a.example", 443)),
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
    assert told(line, "Host: host.example:8080") == expected


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT www.example.com HTTP/1.1",
        "CONNECT http://a.example:443 HTTP/1.1",
        "CONNECT /a:443 HTTP/1.1",
        "GET http://a.example\\@b.example/ HTTP/1.1",
        "GET http://a@b@c.example/ HTTP/1.1",
        "GET http:///b HTTP/1.1",
        "GET http://a.example:99999/ HTTP/1.1",
        "GET gopher://a.example/ HTTP/1.1",
        "GET b HTTP/1.1",
        "GET http://a.example/ b HTTP/1.1",
        "GET http://a.example/\x01 HTTP/1.1",
        "get http://a.example/ HTTP/1.1",
        "GET http://a.example/ HTTP/2.0",
        "GET  http://a.example/ HTTP/1.1",
        "",
    ],
)
def test_what_is_no_request(line: str) -> None:
    """Nothing is told of a line that somebody might read otherwise."""
    assert told(line, "Host: host.example") is None


@pytest.mark.parametrize("field", ["Host : a", " folded", "no colon", ": a", "Host: a\rX: b"])
def test_fields_that_are_not_well_formed(field: str) -> None:
    """Proxies refuse them, or read them in their own way."""
    assert told("GET http://a.example/ HTTP/1.1", field) is None


def test_two_hosts_are_none() -> None:
    """Which of them counts is the proxy's secret; the target still names one."""
    assert told("GET / HTTP/1.1", "Host: a.example", "Host: b.example") == ("/", "", 0)
    assert told("GET / HTTP/1.1", "Host: a.example", "Host: A.example") == ("/", "a.example", 80)
    assert told("GET http://c.example/ HTTP/1.1", "Host: a.example", "Host: b.example") == (
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
    """Only where nobody could read it otherwise."""
    request = request_of("\r\n".join(["POST http://a.example/ HTTP/1.1", *fields]).encode(), Urls.PATH)

    assert request is not None
    assert request.body == body


def test_secrets_are_not_told() -> None:
    """Credentials and fields that nobody asked for, whatever is told of the URL."""
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
    assert told("GET http://a.example/b?c=d#e HTTP/1.1", urls=Urls.FULL) == ("http://a.example/b?c=d", "a.example", 80)
    assert told("GET /b?c=d HTTP/1.1", urls=Urls.HOST) == ("/", "", 0)


def test_texts_are_bounded_and_can_be_seen() -> None:
    """No target of any length, no control characters, no bytes that are no text."""
    long = request_of(b"GET http://a.example/" + b"a" * 9_000 + b" HTTP/1.1\r\nUser-Agent: " + b"b" * 9_000, Urls.PATH)
    odd = request_of(b"GET http://a.example/\xff\xc3\xa4 HTTP/1.1\r\nUser-Agent: a\x1bb", Urls.PATH)

    assert long is not None
    assert (len(long.target), len(long.user_agent)) == (TARGET_CHARS_MAX, 256)
    assert odd is not None
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
