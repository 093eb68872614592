"""Logins in URLs: no event holds one, and a reject holds a mask in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import TEXT_CHARS_MAX, HttpExchange, Ignored, Process, Reason, Reject, flow_of
from schemas.logins import CHARS_MAX, LOGINS_MAX, masked, target_without_login, without_logins
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.fuzz.corpus import Real, corpus

SECRET = "s3cret"
REAL_LINES_MAX = 400
TUNNEL = re.compile(rb"CONNECT (?=[\w.-]{1,200}:\d{1,5} )")
COMMAND_KEYS = re.compile(r"(?i)command|cmdline|arguments|RemoteUrl|url$|uri$|destination$|target|signature$|title$")


@pytest.mark.parametrize(
    ("written", "stored", "rejected"),
    [
        ("http://user:s3cret@host/x", "http://host/x", "http://***@host/x"),
        ("https://user@host", "https://host", "https://***@host"),
        ("//u:s3cret@h/", "//h/", "//***@h/"),
        ("ftp://u:s3cret@[2001:db8::1]:21/a", "ftp://[2001:db8::1]:21/a", "ftp://***@[2001:db8::1]:21/a"),
        ("http://u:a@s3cret@h/", "http://h/", "http://***@h/"),
        ("http://u:a%2Fs3cret@h/", "http://h/", "http://***@h/"),
        ("http://u&s3cret@h/", "http://h/", "http://***@h/"),
        ("http://user%3As3cret%40host/", "http://host/", "http://***%40host/"),
        ("/p?u=http%3A%2F%2Fu%3As3cret%40h%2Fx&m=a@b", "/p?u=http%3A%2F%2Fh%2Fx&m=a@b", "/p?u=http%3A%2F%2F***%40h%2Fx&m=a@b"),
        ("/%2f%2fu%3as3cret%40h/", "/%2f%2fh/", "/%2f%2f***%40h/"),
        ("/p?u=http:%2F%2fu:s3cret@h", "/p?u=http:%2F%2fh", "/p?u=http:%2F%2f***@h"),
        ("http%253A%252F%252Fu%253As3cret%2540h%252F", "http%253A%252F%252Fh%252F", "http%253A%252F%252F***%2540h%252F"),
        (r"curl -x http://CORP\bob:s3cret@p:8080 http://a/", "curl -x http://p:8080 http://a/", "curl -x http://***@p:8080 http://a/"),
        (r"http:\/\/u:s3cret@h\/", r"http:\/\/h\/", r"http:\/\/***@h\/"),
        (r"http://u:s3cret\u0040h", "http://h", r"http://***\u0040h"),
        ("http://u:s3cret@h|suser=a@b", "http://h|suser=a@b", "http://***@h|suser=a@b"),
    ],
)  # fmt: skip
def test_logins_are_removed_and_masked(written: str, stored: str, rejected: str) -> None:
    """In every spelling; the rest of the text stays as it is, and so does a line that is masked already."""
    assert without_logins(written) == stored
    assert masked(written.encode()) == rejected.encode()
    assert masked(rejected.encode()) == rejected.encode()
    assert without_logins(rejected) == stored


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/?x=a@b",
        "http://host:8080?x=a@b",
        "http://host/#a@b",
        "/r?next=https://app.example&email=a@b.example",
        "/r?next=https%3A%2F%2Fapp.example%2F&email=a%40b.example",
        "/a//b:c@d",
        "/a?b=%2f%2f%2fb:c@d",
        "https://registry.example//@scope/x",
        "mailto:a@b.example",
        "bob@corp.example",
        "http://[2001:db8::1]:8080/",
        "http://host:8080 user=bob@corp.example",
    ],
)
def test_what_is_no_login_stays(text: str) -> None:
    """An `@` behind the authority, a user name, a mail address, a port."""
    assert without_logins(text) == text
    assert masked(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("target", "stored"),
    [
        ("user:s3cret@ok:443", "ok:443"),
        ("user:s3cret@host.example/path?a=b@c", "host.example/path?a=b@c"),
        ("http://u:a|s3cret&b=1@h/", "http://h/"),
        ("http://h:8080@evil.example/", "http://evil.example/"),
        ("/path@x", "/path@x"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("*", "*"),
    ],
)
def test_a_target_loses_its_own_login(target: str, stored: str) -> None:
    """As a URL, and as a URL without scheme; its host stays the one that was asked for."""
    assert target_without_login(target) == stored


@pytest.mark.parametrize("url", ["http://user:s3cret", "http%3A%2F%2Fuser%3As3cret", "http:%2f%2fs3cret"])
def test_a_cut_login_is_removed(url: str) -> None:
    """A text that was cut at its bound may end in the middle of a login, without an `@`."""
    cut = url.rjust(TEXT_CHARS_MAX, "x")

    assert SECRET not in Process(command_line=cut).command_line
    assert Process(command_line=cut[1:]).command_line == cut[1:]


def test_a_mark_behind_the_bound_is_cut_off() -> None:
    """Only an `@` that is cut off with the rest may be left in a text: there is nothing to remove then."""
    path = "/" + "x" * CHARS_MAX

    assert without_logins(path + "@") == path[:CHARS_MAX]


def test_more_logins_than_are_looked_for_are_cut_off() -> None:
    """The rest of a text with more than LOGINS_MAX of them is removed, so no login is left."""
    line = b"http://user:s3cret@h " * (LOGINS_MAX + 2)

    assert SECRET.encode() not in masked(line)
    assert masked(line).count(b"***@h") == LOGINS_MAX - 1
    assert masked(masked(line)) == masked(line)


@given(
    st.lists(
        st.sampled_from(["://", "//", "%2f", "%2F", "%25", "@", "%40", "a", ":", "/", "?", "&", "x=", "\\", '"', " "])
    )
)
def test_masking_twice_is_masking_once(parts: list[str]) -> None:
    """A reject is made of a line more than once on its way out."""
    once = masked("".join(parts).encode())

    assert masked(once) == once
    assert without_logins(without_logins("".join(parts))) == without_logins("".join(parts))


@given(
    pieces=st.lists(
        st.tuples(
            st.sampled_from(("://", "%3a%2f%2f", "%252F", "a", " ", '"', "%", "\\", "&b=")), st.integers(1, 30_000)
        ),
        max_size=4,
    ),
    login=st.sampled_from(("http://u:s3cret@h/", "http%3A%2F%2Fu%3As3cret%40h", "http:\\/\\/u:s3cret\\u0040h")),
    place=st.integers(0, 4),
)
def test_a_long_line_is_masked_as_a_short_one(pieces: list[tuple[str, int]], login: str, place: int) -> None:
    """A line too long to search as a whole loses the login between its runs, and nothing else."""
    before, after = (
        "".join(text * count for text, count in some) + " " * (CHARS_MAX // 2)
        for some in (pieces[:place], pieces[place:])
    )
    short = masked(f" {login} ".encode()).decode()

    assert SECRET not in short
    assert masked(f"{before} {login} {after}".encode()).decode() == f"{before}{short}{after}"


def test_a_reject_holds_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its bytes nor where its detail quotes them; other bytes, also those that are no UTF-8, are kept."""
    detail = "Destination 'ftp://user:s3cret@/x' names no host"
    failing = {
        **dialects(),
        "squid": replace(dialects()["squid"], parse=lambda raw: Reject(Reason.BAD_VALUE, detail, raw)),
    }
    monkeypatch.setattr("streams.pipeline.dialects", lambda: failing)

    (reject,) = _rejects("squid", b"\xff\xa0 http://us\xc3\xa0r:s3cret@h/ \x00")

    assert reject.detail == "Destination 'ftp:///x' names no host"
    assert reject.raw == b"\xff\xa0 http://***@h/ \x00"


def test_an_event_that_is_decoded_holds_no_login() -> None:
    """State and messages that were written before are cleaned when they are read."""
    flow = flow_of("192.0.2.7", 5, "192.0.2.8", 80)
    event = HttpExchange("dev", 1, flow, 0, "GET", "http://h/", "h", 200, "id", "zeek")
    written = msgspec.json.encode(event).replace(b"http://h/", b"http://user:s3cret@h/")

    assert msgspec.json.decode(written, type=HttpExchange) == event


def _rejects(dialect: str, line: bytes) -> list[Reject]:
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(1, 1, b"dev", line, dialect))
    return pipeline.drain().rejects


def _in_urls(real: Real) -> Iterator[bytes]:
    """The line with a login in each URL that it has, in every spelling."""
    value = real.value
    for mark, login in (
        (b"://", b"user:s3cret@"),
        (b"://", b"s3cret@"),
        (b"://", b"user%3As3cret@"),
        (b":\\/\\/", b"user:s3cret@"),
    ):
        if mark in value:
            yield value.replace(mark, mark + login)
    if TUNNEL.search(value) is not None:
        yield TUNNEL.sub(b"CONNECT user:s3cret@", value)
    for path in (b"/?u=http%3A%2F%2Fuser%3As3cret%40host", b"/http:%2f%2fuser:s3cret%40h/", b"/?http://u:s3cret@h"):
        if b"://" in value:
            yield re.sub(rb"(://[^/\s\"\\]+)/", lambda found, path=path: found[1] + path, value)  # type: ignore[misc]


def _in_values(real: Real) -> Iterator[bytes]:
    """The line with a URL with a login as value of what is a command line, a URL or a title."""
    for member in real.members:
        if COMMAND_KEYS.search(member.key) and real.value[member.value_begin : member.value_begin + 1] == b'"':
            for text in (
                b'"http://user:s3cret@host.example/x"',
                b'"curl -x http://user:s3cret@host.example:8080/ http%3a%2f%2fu:s3cret%40h"',
            ):
                yield real.value[: member.value_begin] + text + real.value[member.end :]


@pytest.mark.parametrize("name", sorted(dialects()))
@pytest.mark.parametrize("logins", [_in_urls, _in_values])
def test_no_dialect_lets_a_login_through(name: str, logins: Callable[[Real], Iterator[bytes]]) -> None:
    """Whatever becomes of a line with logins, event or reject, none is in it."""
    dialect = dialects()[name]
    for real in corpus(name).lines[:REAL_LINES_MAX]:
        for line in logins(real):
            for row in dialect.split(line) if dialect.split is not None else [line]:
                parsed = dialect.parse(row)
                if isinstance(parsed, Reject):
                    assert SECRET not in repr(_rejects(name, row))
                elif not isinstance(parsed, Ignored):
                    assert SECRET.encode() not in msgspec.json.encode(parsed), (row, parsed)

    assert [reject.raw for reject in _rejects(name, b"? http://user:s3cret@host/")] == [b"? http://***@host/"]
