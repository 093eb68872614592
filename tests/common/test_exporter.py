"""The pages that all parts serve."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from common.exporter import Family, by_label, one, serve, served, spread
from common.health import Health, Verdict
from common.histogram import Histogram, merged
from schemas.metrics import BOOK, PUBLISHER_RESENDS, SINK_BATCH_ROWS, SINK_RETRIES
from schemas.settings import SettingsError
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port

WELL = Health(lambda: Verdict(True, "nothing waits"), lambda: Verdict(True, "Kafka answers"))


def ask(port: int, path: str) -> tuple[int, str, bytes]:
    """Status, kind and content of a page."""
    try:
        answer: HTTPResponse | urllib.error.HTTPError = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}")
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status or 0, answer.headers["Content-Type"], answer.read()


def test_numbers_are_read_when_asked() -> None:
    """The page has the values of that moment, by label, and is gone afterwards."""
    counts = {"DeviceEvents": 1}
    port = free_port()

    def families() -> Iterator[Family]:
        yield by_label(SINK_RETRIES, counts)
        yield one(BOOK["waiting"], 3)

    with served("sink", "127.0.0.1", port, families, WELL):
        first = scrape(port) or {}
        counts["DeviceEvents"] = 5
        second = scrape(port) or {}

    assert first[SINK_RETRIES.name] == {"DeviceEvents": 1}
    assert first[BOOK["waiting"].name] == {"": 3}
    assert second[SINK_RETRIES.name] == {"DeviceEvents": 5}
    assert scrape(port) is None


def test_health_is_asked_when_asked() -> None:
    """Well is 200, unwell 503, with one line of JSON that gives the reason; each page has its own verdict, /metrics both."""
    verdicts = {"alive": Verdict(True, "7 messages wait"), "ready": Verdict(False, "joins its group")}
    health = Health(lambda: verdicts["alive"], lambda: verdicts["ready"])
    port = free_port()
    with served("worker", "127.0.0.1", port, list, health):
        assert ask(port, "/healthz") == (200, "application/json", b'{"ok": true, "why": "7 messages wait"}\n')
        assert ask(port, "/readyz") == (503, "application/json", b'{"ok": false, "why": "joins its group"}\n')
        page = scrape(port) or {}
        assert (page["unproxy_alive"], page["unproxy_ready"]) == ({"": 1}, {"": 0})
        verdicts["alive"] = Verdict(False, "stands still")
        assert json.loads(ask(port, "/healthz")[2]) == {"ok": False, "why": "stands still"}
        status, _, content = ask(port, "/elsewhere")

    assert status == 404
    assert b"/healthz" in content


def test_histograms_are_counted_up() -> None:
    """A bucket holds what is not above its bound, the ones below included; sum and count are there."""
    some, other = Histogram(SINK_BATCH_ROWS.buckets), Histogram(SINK_BATCH_ROWS.buckets)
    for rows in (1, 2, 10, 11):
        some.add(rows)
    other.add(1_000_000)
    made = spread(SINK_BATCH_ROWS, {("DeviceEvents",): merged([some, other])})
    shown = {
        (sample.name.removeprefix(SINK_BATCH_ROWS.name), sample.labels.get("le")): sample.value
        for sample in made.samples
    }

    assert [shown["_bucket", bound] for bound in ("1.0", "10.0", "100.0", "100000.0", "+Inf")] == [1, 3, 4, 4, 5]
    assert (shown["_count", None], shown["_sum", None]) == (5, 1_000_024)
    assert sum(some.counts) == 4


def test_without_a_port_nothing_is_served() -> None:
    """Port 0 is for none, and ending it is nothing, too."""
    serve("worker", "127.0.0.1", 0, lambda: [one(PUBLISHER_RESENDS, 1)], WELL)()


def test_port_in_use_is_an_error() -> None:
    """A port in use by another process is a setting to change."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"^sink\.metrics_port: cannot listen on 127\.0\.0\.1:{port}: .*; choose"
        ):
            serve("sink", "127.0.0.1", port, list, WELL)
