"""Each declared metric is observed to change: most of them on the pages of a whole path, the rest in the tests named here."""

from __future__ import annotations

import ast
import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.metrics import METRICS
from tests.conftest import SettingsMaker
from tests.sample import SAMPLE_FILES
from tests.streams.worker.worker_process import wait_until
from tests.test_whole_path import with_database
from unproxy.local.meter import scrape
from unproxy.local.parts import write_settings
from unproxy.local.servers.service import free_port

ROOT = Path(__file__).resolve().parents[1]
LINE_BYTES_MAX = 200_000

SQUID = Path(__file__).parent / "data" / "proxylogs" / "squid-sample.jsonl.gz"
MOVED_ELSEWHERE = {
    "unproxy_book": "tests/streams/worker/test_worker_parts.py::test_books_become_metrics",
    "unproxy_devices_near_bound": "tests/streams/test_pipeline.py::test_the_size_of_the_state_is_reported",
    "unproxy_devices_evicted_total": (
        "tests/streams/model/test_device_bound.py::test_an_evicted_device_leaves_its_rows_and_counts"
    ),
    "unproxy_worker_messages_quarantined_total": (
        "tests/streams/worker/guards/test_worker_quarantine.py::test_a_line_that_ends_the_worker_goes_to_rejects"
    ),
    "unproxy_worker_messages_stale_total": "tests/streams/worker/test_worker_parts.py::test_stale_messages_are_left_aside",
    "unproxy_worker_resends_total": (
        "tests/streams/worker/test_worker_parts.py::test_failed_deliveries_are_sent_again_in_order"
    ),
    "unproxy_worker_undeliverable_total": "tests/streams/worker/test_worker_parts.py::test_too_large_is_poison",
    "unproxy_worker_lease_waits_total": "tests/streams/worker/test_worker_parts.py::test_an_old_lease_waits_for_a_heartbeat",
    "unproxy_worker_lag_messages": "tests/streams/worker/test_worker.py::test_standing_still_ends_the_worker",
    "unproxy_reject_rate": "tests/streams/worker/test_worker.py::test_too_many_rejects_are_an_alarm",
    "unproxy_reject_rate_over_limit": "tests/streams/worker/test_worker.py::test_too_many_rejects_are_an_alarm",
    "unproxy_indicators": "tests/streams/worker/test_indicator_feed.py::test_the_feed_becomes_metrics",
    "unproxy_suppressions": "tests/streams/worker/test_indicator_feed.py::test_the_feed_becomes_metrics",
    "unproxy_indicators_unreadable_total": "tests/streams/worker/test_indicator_feed.py::test_the_feed_becomes_metrics",
    "unproxy_indicators_age_seconds": "tests/streams/worker/test_indicator_feed.py::test_the_feed_becomes_metrics",
    "unproxy_sensor_gaps_total": "tests/streams/rows/test_presence.py::test_presence_becomes_metrics",
    "unproxy_sensor_gaps_filled_total": "tests/streams/rows/test_presence.py::test_filled_gaps_are_counted",
    "unproxy_sensor_gaps_forgotten_total": "tests/streams/rows/test_presence.py::test_presence_becomes_metrics",
    "unproxy_sensor_gap_lines": "tests/streams/rows/test_presence.py::test_presence_becomes_metrics",
    "unproxy_devices_silent": "tests/streams/rows/test_presence.py::test_presence_becomes_metrics",
    "unproxy_sink_messages_missed_total": "tests/sinks/test_delivery.py::test_retention_that_passes_the_sink",
    "unproxy_sink_retries_total": "tests/sinks/test_consumer.py::test_missing_tables_are_waited_for",
    "unproxy_sink_rows_refused_total": "tests/sinks/test_consumer.py::test_bad_rows_go_to_rejects",
    "unproxy_sink_rows_left_total": "tests/sinks/test_consumer.py::test_rows_left_to_another_are_counted",
    "unproxy_sink_lag_messages": "tests/common/test_group_watch.py::test_lag_is_seen_from_outside",
    "unproxy_sink_commit_failures_total": "tests/sinks/test_consumer.py::test_failed_commits_are_counted",
    "unproxy_forward_lag_messages": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_alerts_read_total": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_alerts_sent_total": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_alerts_waiting": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_retries_total": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_misconfigured": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_latency_seconds": "tests/sinks/forward/test_forward_pages.py::test_the_page_moves",
    "unproxy_forward_alerts_skipped_total": "tests/sinks/forward/test_forward.py::test_suppressed_and_unwanted_alerts_stay",
    "unproxy_forward_alerts_refused_total": "tests/sinks/forward/test_forward.py::test_refused_alerts_go_to_rejects",
    "unproxy_forward_alerts_left_total": "tests/sinks/forward/test_forward.py::test_partitions_move_between_forwarders",
    "unproxy_forward_messages_missed_total": (
        "tests/sinks/forward/test_forward_pages.py::test_retention_that_passes_the_forwarder"
    ),
    "unproxy_forward_commit_failures_total": "tests/sinks/forward/test_forward_pages.py::test_failed_commits_are_counted",
    "unproxy_publisher_identity_lines_unusable": "tests/producers/test_run.py::test_names_of_one_device_share_its_key",
    "unproxy_publisher_dialect_failures_total": "tests/producers/sources/test_failures.py::test_http",
    "unproxy_publisher_received_total": "tests/producers/network/test_kafka.py::test_each_line_once",
    "unproxy_endpoint_connections_total": "tests/producers/sensor/test_run.py::test_numbers_move",
    "unproxy_endpoint_connections_open": "tests/producers/sensor/test_run.py::test_numbers_move",
    "unproxy_endpoint_lost_total": "tests/producers/sensor/test_run.py::test_numbers_move",
    "unproxy_endpoint_clock_jumps_total": "tests/producers/sensor/test_run.py::test_numbers_move",
    "unproxy_endpoint_listed_total": "tests/producers/sensor/enforce/test_enforced_live.py::test_what_was_done_is_counted",
    "unproxy_endpoint_heard_total": "tests/producers/sensor/http/test_observer.py::test_events_become_lines",
    "unproxy_endpoint_flows": "tests/producers/sensor/http/test_observer.py::test_events_become_lines",
    "unproxy_endpoint_proxies_learnt": (
        "tests/producers/sensor/http/test_observer.py::test_who_is_asked_as_a_proxy_is_learnt"
    ),
    "unproxy_endpoint_learning_total": (
        "tests/producers/sensor/http/test_observer.py::test_who_is_asked_as_a_proxy_is_learnt"
    ),
    "unproxy_endpoint_held_bytes": "tests/producers/sensor/http/test_observer.py::test_what_waits_is_reported_at_the_end",
    "unproxy_publisher_lines_not_allowed_total": "tests/test_trust.py::test_an_endpoint_with_a_topic_of_its_own",
    "unproxy_publisher_resends_total": (
        "tests/producers/publish/test_publisher.py::test_line_too_large_for_the_topic_is_rejected"
    ),
}
"""Metrics that change only on failures, or too briefly for polled pages: the test that observes each."""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `unproxy …` as a process of its own; ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "parts.log").open("ab") as log:
            started.append(subprocess.Popen([sys.executable, "-m", "unproxy", *arguments], stdout=log, stderr=log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_the_whole_path_moves_them(settings_for: SettingsMaker, tmp_path: Path, start: Start) -> None:
    """A producer, a worker and a sink over the sample and bad lines change all metrics but those named above."""
    ports = {section: free_port() for section in ("publisher", "worker", "sink")}
    settings = settings_for(
        publisher={"metrics_port": ports["publisher"], "line_bytes_max": LINE_BYTES_MAX},
        worker={"metrics_port": ports["worker"]},
        sink={"metrics_port": ports["sink"]},
        identity={"devices": {"dev-a": {"addresses": ["198.51.100.11", "2001:db8:51::11"]}}},
    )
    with_database(settings)
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"x" * (LINE_BYTES_MAX + 1) + b"\n")
    sources = [f"{dialect}:{unpacked(path, tmp_path)}" for dialect, path in SAMPLE_FILES]
    workers = [start("--config", str(file), "worker")]
    start("--config", str(file), "sink")
    squid = f"squid:{unpacked(SQUID, tmp_path)}"
    start("--config", str(file), "produce", "--follow", *sources, squid, f"suricata:{bad}")
    wanted = {metric.name for metric in METRICS} - MOVED_ELSEWHERE.keys()
    moved: set[str] = set()

    def all_moved() -> bool:
        if workers[-1].poll() is not None:  # A guard ended it; whatever runs a worker starts it again.
            workers.append(start("--config", str(file), "worker"))
        with bad.open("ab") as lines:
            lines.write(b"no line of any sensor\n" * 20)
        for port in ports.values():
            moved.update(not_zero(port))
        return wanted <= moved

    try:
        wait_until(all_moved, "every metric leaves zero", 90.0)
    finally:
        assert sorted(wanted - moved) == []


def unpacked(path: Path, folder: Path) -> Path:
    """Unpack a sample file as a sensor writes it."""
    plain = folder / path.stem
    plain.write_bytes(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return plain


def not_zero(port: int) -> set[str]:
    """Return the names of the metrics with a value on a page; a histogram's value is its count."""
    found = {name for name, values in (scrape(port) or {}).items() if any(values.values())}
    return found | {name.removesuffix("_count") for name in found}


def test_the_others_are_moved_by_name() -> None:
    """Each test named above exists, and its code names the metric."""
    unknown = MOVED_ELSEWHERE.keys() - {metric.name for metric in METRICS}
    silent = [name for name, test in MOVED_ELSEWHERE.items() if name.removesuffix("_total") not in code_of(test)]

    assert unknown == set()
    assert silent == []


def code_of(test: str) -> str:
    """Return the source of a test function; empty when there is none."""
    path, _, name = test.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return (ast.get_source_segment(source, found[0]) or "") if found else ""
