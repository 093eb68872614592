"""The page for Prometheus that all parts serve."""

from __future__ import annotations

import socket

import pytest

from schemas.exporter import by_label, one, serve, served
from schemas.metrics import BOOK, PUBLISHER_RESENDS, SINK_RETRIES
from schemas.settings import SettingsError
from unproxy.embedded.service import free_port
from unproxy.up.meter import scrape


def test_numbers_are_read_when_asked() -> None:
    """The page tells what holds at that moment, by label, and is gone afterwards."""
    counts = {"DeviceEvents": 1}
    port = free_port()
    with served("sink", "127.0.0.1", port, lambda: [by_label(SINK_RETRIES, counts), one(BOOK["waiting"], 3)]):
        first = scrape(port)
        counts["DeviceEvents"] = 5
        second = scrape(port)

    assert first == {"unproxy_sink_retries_total": {"DeviceEvents": 1}, "unproxy_connections_waiting": {"": 3}}
    assert second == {"unproxy_sink_retries_total": {"DeviceEvents": 5}, "unproxy_connections_waiting": {"": 3}}
    assert scrape(port) is None


def test_without_a_port_nothing_is_served() -> None:
    """Port 0 is for none, and ending it is nothing, too."""
    serve("worker", "127.0.0.1", 0, lambda: [one(PUBLISHER_RESENDS, 1)])()


def test_port_in_use_is_said() -> None:
    """A port of somebody else is a setting to change."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"^sink\.metrics_port: cannot listen on 127\.0\.0\.1:{port}: .*; choose"
        ):
            serve("sink", "127.0.0.1", port, list)
