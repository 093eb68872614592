"""Syslog headers without a year are completed when a file is read, if year and zone are certain."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from producers.files.replay import replay
from producers.sources.source import parse_source
from schemas.clock import parse_micros
from schemas.events import ProxyLogged, Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.common.syslog_dates import DatedHeaders
from tests.schemas.parsers.proxies.proxy_log_lines import FORCEPOINT

BODY = FORCEPOINT.partition(" - - - ")[2]
CEF = (
    "CEF:0|Zscaler|NSSWeblog|5.0|Allowed|Allowed|3| act=Allowed src=192.0.2.7 dst=203.0.113.9 request=a.example/x "
    "app=HTTPS requestMethod=GET outcome=200"
)
AT = parse_micros("2020-11-03T12:41:27Z")


def dated(line: str, at: int = AT) -> str:
    """The line as it is published."""
    (made,) = DatedHeaders(lambda _: at).take(line.encode(), 0)
    return made.decode()


@pytest.mark.parametrize(
    "header", ["<134>Nov  3 12:41:27 gw-1 ", "Nov  3 12:41:27 gw-1 ", "<134>Nov  3 12:41:27.000 gw-1 "]
)
@pytest.mark.parametrize("body", [BODY, CEF])
def test_a_line_gets_its_year(header: str, body: str) -> None:
    """Priority and host stay; the event has the time of the header."""
    dialect = dialects()["zscaler" if body == CEF else "forcepoint"]
    line = dated(header + body)
    found = dialect.parse(line.encode())

    assert isinstance(found, ProxyLogged), found
    assert (found.at, found.proxy, found.host) == (AT, "gw-1", "a.example")
    assert isinstance(dialect.parse((header + body).encode()), Reject)


@pytest.mark.parametrize(
    "line",
    [
        "<159>Nov  3 12:41:27 EST 192.0.2.80 " + BODY,
        "<134>Nov  3 2020 12:41:27 gw-1 " + BODY,
        "2020-11-03T12:41:27Z gw-1 " + BODY,
        FORCEPOINT,
        BODY,
        CEF,
        "",
    ],
)
def test_other_headers_stay(line: str) -> None:
    """One of another zone, one with a year, none at all."""
    assert dated(line) == line


def test_what_is_not_certain_stays() -> None:
    """The line is then rejected for its missing year, with its bytes."""
    line = "<134>Nov  3 12:41:27 gw-1 " + BODY
    found = dialects()["forcepoint"].parse(dated(line, 0).encode())

    assert dated(line, 0) == line
    assert isinstance(found, Reject)
    assert (found.reason, found.detail) == (Reason.INCOMPLETE, "no header with a time and its year")


@pytest.mark.parametrize(("changed", "year"), [("2020-11-03T12:41:28Z", 2020), ("2021-11-01T00:00:00Z", 2020)])
def test_the_file_reports_the_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, year: int) -> None:
    """The latest in which the line is not younger than the file's last change."""
    file = tmp_path / "forcepoint.log"
    file.write_text(f"<134>Nov  3 12:41:27 gw-1 {BODY}\n")
    seconds = parse_micros(changed) // 1_000_000
    os.utime(file, (seconds, seconds))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        (line,) = replay([parse_source(f"auto:{file}")])
    time.tzset()
    found = dialects()["forcepoint"].parse(line.value)

    assert isinstance(found, ProxyLogged), found
    assert found.at == parse_micros(f"{year}-11-03T12:41:27Z")


def test_a_url_ends_at_a_blank() -> None:
    """A key that is not known may stand behind it."""
    found = dialects()["forcepoint"].parse(
        f"2020-11-03T12:41:27Z gw-1 {BODY.partition(' logRecordSource')[0]} other=-".encode()
    )

    assert isinstance(found, ProxyLogged)
    assert found.target == "https://a.example/?u="
