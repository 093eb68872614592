"""Tinyproxy's log: reading goes on after a restart, may begin anywhere, and keeps no more than its bounds allow."""

from __future__ import annotations

import pytest

from producers.files.lines import CHUNK_BYTES, Lines
from producers.sources.source import SourceFile
from schemas.parsers import dialects
from schemas.parsers.proxies.tinyproxy_requests import (
    DESCRIPTORS_MAX,
    JOINED,
    KEPT_BYTES_MAX,
    PROCESSES_MAX,
    WAITING_MAX,
    Requests,
)
from tests.schemas.parsers.proxies.tinyproxy_log import CHANGED, REAL, A, B, Log, dates, reported, requests


def lines_of(whole: bytes, taken: int = 0) -> Lines:
    """A reader of the file, from an offset on."""
    file = SourceFile("tinyproxy", "p", "s", taken=taken, changed=CHANGED)
    subject = Lines(file, dialects()["tinyproxy"], CHUNK_BYTES)
    place = 0

    def before(wanted: int) -> bytes:
        nonlocal place
        place += wanted
        return whole[place - wanted : place]

    if taken:
        subject.recall(before)
    return subject


def test_a_restart_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the reader goes on, the rest is read as if it had not stopped."""
    monkeypatch.setattr("producers.files.lines.CHUNK_BYTES", 1_000)
    monkeypatch.setattr("producers.files.dates.dated", lambda stamp, _: dates(stamp))
    whole = b"\n".join(REAL[:400]) + b"\n"
    given_on = list(lines_of(whole).feed(whole))
    assert sum(JOINED in line.value for line in given_on) == 39
    for stop in given_on[::9]:
        again = lines_of(whole, stop.end)
        after = list(again.feed(whole[stop.end :]))

        assert [line.value for line in after] == [line.value for line in given_on[given_on.index(stop) + 1 :]]


def test_what_began_too_far_back_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a restart costs no more than reading so much."""
    monkeypatch.setattr("producers.files.lines.CHUNK_BYTES", 400)
    monkeypatch.setattr("producers.files.dates.dated", lambda stamp, _: dates(stamp))
    log = Log()
    lines = log.whole(A, "a.example")
    for between, expected in ((0, 1), (20, 0)):
        whole = b"\n".join([*lines[:-1], *[log.detail("x")] * between, b""])
        with monkeypatch.context() as patch:
            patch.setattr(Requests, "reach", 500)
            again = lines_of(whole, len(whole))
            after = list(again.feed(lines[-1] + b"\n"))

        assert sum(JOINED in line.value for line in after) == expected


def test_wherever_it_begins_no_client_is_wrong() -> None:
    """Rotated, or the reader came late."""
    whole = set(reported(REAL))
    for place in range(1, len(REAL), 31):
        assert set(reported(REAL[place:])) <= whole


def test_whatever_one_line_is_missing_no_client_is_wrong() -> None:
    """Then a request is missing, and never another one's."""
    lines = REAL[:160]
    whole = set(reported(lines))
    for place in range(len(lines)):
        assert set(reported(lines[:place] + lines[place + 1 :])) <= whole


def test_no_more_is_remembered_than_the_bounds_allow() -> None:
    """Descriptors, their bytes, processes, those who wait on one descriptor, connections to hosts: the oldest is forgotten."""
    log, framing = Log(), Requests(lambda _: CHANGED)
    first = [log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example")]
    framing.take(first[0], 0)
    for number in range(DESCRIPTORS_MAX):
        framing.take(log.connect(100 + number, B), 0)
    assert len(framing._open) == DESCRIPTORS_MAX
    assert requests(first[1:], framing) == []
    long = "x" * 3_000
    for number in range(DESCRIPTORS_MAX):
        framing.take(log.connect(100 + number, B), 0)
        framing.take(log.request(100 + number, f"http://a.example/{long}", "GET"), 0)
        assert framing.kept_bytes <= KEPT_BYTES_MAX
        framing.take(log.established(100_000 + number, "x.example"), 0)
    assert framing.kept_bytes > KEPT_BYTES_MAX // 2
    assert 0 < len(framing._open) < DESCRIPTORS_MAX
    assert framing.kept_bytes == sum(one.weigh() for one in framing._open.values())
    assert len(framing._servers) == DESCRIPTORS_MAX
    for number in range(PROCESSES_MAX + 5):
        framing.take(Log(number + 1).detail("x"), 0)
        framing.take(Log(number + 1).established(9, "y.example"), 0)
    assert len(framing._detailed) == PROCESSES_MAX
    for _ in range(WAITING_MAX + 5):
        framing.take(log.connect(6, A), 0)
    assert len(framing._open[" ", "7", "6"].waiting) == WAITING_MAX
