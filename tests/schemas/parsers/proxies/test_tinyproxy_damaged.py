"""Tinyproxy's log: lines that are cut off, mixed up, forged or damaged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Reason, Reject
from schemas.parsers.proxies.tinyproxy import claims, device_of, parse
from schemas.parsers.proxies.tinyproxy_requests import JOINED, LINE_BYTES_MAX, Requests
from tests.schemas.parsers.proxies.tinyproxy_log import REAL, A, B, Log, dates, joined, requests, served


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("GET http://a.example/x HTTP/1.1", "http://a.example/x"),
        (f"GET http://a.example/{'x' * 700}", f"http://a.example/{'x' * 700}"),
        (f"GET http://a.example/{'x' * 700} HTTP/1", f"http://a.example/{'x' * 700}"),
        (f"GET http://a.example.{'x' * 700}", ""),
        ("GET http://a.example/x", ""),
        ("CONNECT a.examp", ""),
        ("GET http://a.example/ HTTP/1.1CONNECT   Nov 24 10:00:09 [8]: x", ""),
        ("GET http://b.example\\@a.example/ HTTP/1.1", ""),
        ("GET http://a.example/\x1e HTTP/1.1", ""),
        ("GET / HTTP/1.1", ""),
        ("", ""),
        (f"GET http://a.example/{'x' * LINE_BYTES_MAX} HTTP/1.1", ""),
    ],
)
def test_requests_that_may_be_cut_off(asked: str, target: str) -> None:
    """Tinyproxy cuts at 800 characters: behind its host a target may be cut, before it is not known. It is asked all the same."""
    log = Log()
    lines = [
        log.connect(6, A), log(f"Request (file descriptor 6): {asked}"), log.established(7, "a.example"),
        log.request(6, "c.example:443"), log.established(9, "c.example"),
    ]  # fmt: skip

    assert [one.target for one in requests(lines)] == ([target] if target else [])


def test_a_line_with_what_stands_between_lines_goes_on_as_it_is() -> None:
    """A client may write that into its request, a resolver into its answer."""
    log = Log()
    hostile = [log.connect(6, A), log.request(6, "http://a.example/\x1e", "GET"), log.established(7, "a.example")]
    failed = "opensock: Could not retrieve address info for a.example:443: \x1e"

    for lines in (hostile, [log.connect(6, A), log.request(6, "a.example:443"), log(failed)]):
        framing = Requests(dates)
        assert [made for line in lines for made in framing.take(line, 0)] == lines


def test_lines_that_are_mixed_up() -> None:
    """Up to 1.10 a line is written in pieces: behind two beginnings messages are another process's, for a moment."""
    first, second = Log(7), Log(8)
    lines = [
        first.connect(6, A),
        second("") + Log(9)("Connect (file descriptor 6): x"),
        first.request(6, "b.example:443"),
        first.established(7, "b.example"),
    ]
    soon = [second.connect(8, A), second.request(8, "c.example:443"), second.established(9, "c.example")]
    first.second = 60

    assert served(lines) == []
    assert served([lines[1], *soon]) == []
    assert served([*lines, *first.whole(B, "b.example")]) == [(B, "b.example")]
    assert served([line for line in lines if line != lines[1]]) == [(A, "b.example")]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"[7]: Request", b"[8]: Request", Reason.BAD_VALUE),
        (b"[7]: Closed", b"[8]: Closed", Reason.BAD_VALUE),
        (b"Request (file descriptor 6)", b"Request (file descriptor 8)", Reason.BAD_VALUE),
        (b"Request (", b"Asked (", Reason.MALFORMED),
        (b"Connect (", b"Came (", Reason.MALFORMED),
        (b"Closed connection", b"Opened connection", Reason.MALFORMED),
        (b": 192.0.2.1", b": x.example", Reason.INCOMPLETE),
        (b" HTTP/1.1", b"", Reason.INCOMPLETE),
        (b"2026-11-24T", b"2026-13-24T", Reason.BAD_VALUE),
        (b"2026-11-24T", b"9026-11-24T", Reason.BAD_VALUE),
        (b"\x1e", b"\x1f", Reason.MALFORMED),
    ],
)
def test_a_joined_line_that_does_not_fit_keeps_its_bytes(old: bytes, new: bytes, reason: Reason) -> None:
    """The lines stand in it as they were."""
    line = joined(Log().whole(A, "a.example")).replace(old, new)
    parsed = parse(line)

    assert isinstance(parsed, Reject)
    assert (parsed.reason, parsed.raw) == (reason, line)
    assert device_of(line) == ""
    assert not claims(line)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(REAL[:300]) | st.binary(max_size=60), max_size=40))
def test_any_lines_are_given_on(lines: list[bytes]) -> None:
    """Each in its place, as it is or as the last of its request."""
    framing = Requests(dates)
    given_on = [framing.take(line, 0) for line in lines]

    assert [len(made) for made in given_on] == [1] * len(lines)
    assert [made == line or made.endswith(JOINED + line) for line, (made,) in zip(lines, given_on, strict=True)] == [
        True
    ] * len(lines)
    assert framing.release() == []
    assert framing.held is None
