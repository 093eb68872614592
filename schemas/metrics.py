"""Declarations of all metrics, from which the exporters and the reference page are generated.

Metrics have Prometheus names and base units. Labels come from closed sets (reasons, methods, topics) and from the names of grants
in the settings, never from input.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Type of a metric. A counter only increases, a gauge also decreases, a histogram counts values by their size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """Declaration of a metric."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""


SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)
MESSAGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 1_000.0)
ROWS = (1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0)


_declared: list[Metric] = []


def _declare(name: str, kind: Kind, about: str, labels: tuple[str, ...], buckets: tuple[float, ...] = ()) -> Metric:
    _declared.append(Metric(name, kind, about, labels, buckets))
    return _declared[-1]


def _count(name: str, about: str, *labels: str) -> Metric:
    return _declare(name, Kind.COUNTER, about, labels)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return _declare(name, Kind.GAUGE, about, labels)


def _spread(name: str, buckets: tuple[float, ...], about: str, *labels: str) -> Metric:
    return _declare(name, Kind.HISTOGRAM, about, labels, buckets)


# Metrics of every process.
BUILD_INFO = _gauge("unproxy_build_info", "Always 1; the label has the program's version", "version")
START_TIME = _gauge("unproxy_start_time_seconds", "When the process started, seconds since 1970")
ALIVE = _gauge("unproxy_alive", "1 while /healthz answers 200")
READY = _gauge("unproxy_ready", "1 while /readyz answers 200")

WORKER_MESSAGES = _count("unproxy_worker_messages_total", "Input messages handled and acknowledged, ticks included")
WORKER_BATCHES = _count("unproxy_worker_batches_total", "Batches of input messages handled")
WORKER_STALE = _count(
    "unproxy_worker_messages_stale_total", "Messages not handled because a rebalance happened after they were read"
)
WORKER_DELIVERED = _count("unproxy_worker_messages_delivered_total", "Messages Kafka acknowledged", "topic")
WORKER_RESENDS = _count("unproxy_worker_resends_total", "Messages sent again after a failed delivery")
WORKER_UNDELIVERABLE = _count(
    "unproxy_worker_undeliverable_total", "Messages too large for their topic, sent to rejects instead"
)
WORKER_QUARANTINED = _count(
    "unproxy_worker_messages_quarantined_total",
    "Messages that ended workers twice, some or all of whose lines went to rejects unread",
)
WORKER_CHECKPOINT_ENTRIES = _count("unproxy_worker_checkpoint_entries_total", "State entries written")
WORKER_CHECKPOINT_BYTES = _count("unproxy_worker_checkpoint_bytes_total", "Bytes of state entries written")
WORKER_LEASE_WAITS = _count("unproxy_worker_lease_waits_total", "Writes that waited for a heartbeat")
WORKER_TICKS = _count("unproxy_worker_ticks_total", "Ticks written into own input partitions")
WORKER_LAG = _gauge("unproxy_worker_lag_messages", "Messages of own input partitions that are not committed yet")
WORKER_REBALANCES = _count(
    "unproxy_worker_rebalances_total",
    "Times that the consumer group assigned partitions and revoked them, also an empty set",
    "change",
)
WORKER_BATCH_MESSAGES = _spread(
    "unproxy_worker_batch_messages", MESSAGES, "Messages in a batch, without stale ones and with ticks"
)
WORKER_LATENCY = _spread(
    "unproxy_worker_latency_seconds",
    SECONDS,
    "From the broker's time of an input message to Kafka's acknowledgement of all output of its batch, by the worker's "
    "clock; without ticks",
)

REJECT_RATE = _gauge("unproxy_reject_rate", "Share of rejected lines within worker.reject_window_secs, 0 to 1")
REJECT_RATE_OVER = _gauge(
    "unproxy_reject_rate_over_limit", "1 while more lines are rejected than worker.reject_rate_max allows, else 0"
)

INDICATORS = _gauge("unproxy_indicators", "Indicators that the worker knows, expired ones included")
SUPPRESSIONS = _gauge("unproxy_suppressions", "Suppressions of alerts that the worker knows, expired ones included")
INDICATORS_UNREADABLE = _count("unproxy_indicators_unreadable_total", "Unusable messages on the topic indicators")
INDICATORS_AGE = _gauge(
    "unproxy_indicators_age_seconds",
    "Time since the worker last had read the topic indicators to its end",
)

BOOK: dict[str, Metric] = {
    "read": _count("unproxy_lines_read_total", "Lines read from input messages"),
    "parsed": _count("unproxy_lines_parsed_total", "Lines that became an event"),
    "ignored": _count("unproxy_lines_ignored_total", "Valid lines without an event for the correlator", "kind"),
    "rejected": _count("unproxy_lines_rejected_total", "Lines that could not be read, or were refused", "reason"),
    # These may also decrease: a destination may become known late, and two records may turn out to be one connection.
    "connections": _gauge("unproxy_connections", "Connections seen so far"),
    "resolved": _gauge("unproxy_connections_resolved", "Connections with a known destination", "method"),
    "unresolved": _gauge("unproxy_connections_unresolved", "Connections without a known destination", "reason"),
    "waiting": _gauge("unproxy_connections_waiting", "Connections that are not decided yet: evidence may still come"),
    "devices": _gauge("unproxy_devices", "Devices in the state"),
    "kept": _gauge("unproxy_connections_kept", "Connections in the state: waiting, open or kept for late records"),
    "devices_near_bound": _gauge(
        "unproxy_devices_near_bound", "Devices that hold over four fifths of correlation.connections_max"
    ),
    "devices_evicted": _count(
        "unproxy_devices_evicted_total", "Devices evicted from the state at correlation.devices_max"
    ),
    "rows": _count("unproxy_rows_total", "Rows written to the topics, counting every version"),
    "verdict_rows": _count(
        "unproxy_verdict_rows_total", "Rows of verdicts written to the topics, counting every version"
    ),
    "proxy_lines": _count("unproxy_proxy_lines_total", "Access-log entries of proxies, by result", "outcome"),
    "gaps": _count("unproxy_sensor_gaps_total", "Gaps found: lines lost, numbering restarted, silences", "kind"),
    "gaps_filled": _count(
        "unproxy_sensor_gaps_filled_total", "Gaps filled later, including those filled in several parts"
    ),
    "gaps_forgotten": _count(
        "unproxy_sensor_gaps_forgotten_total",
        "Open gaps that stay visible because their filling can no longer be detected",
    ),
    "gap_lines": _gauge("unproxy_sensor_gap_lines", "Lines missing in gaps that were not filled"),
    "silent": _gauge("unproxy_devices_silent", "Devices silent for longer than usual at the moment"),
}
"""Metrics of the pipelines' counters, by counter; `NAME:LABEL` is a counter with a label value. The counts must balance."""
BOOK_OTHER = _gauge("unproxy_book", "Further counts of the pipelines, by entry", "entry")

# They balance: rows read = written + refused + left + waiting. After a stop the waiting rows are read again.
SINK_MESSAGES = _count("unproxy_sink_messages_total", "Messages read from the result topics", "topic")
SINK_MESSAGES_MISSED = _count(
    "unproxy_sink_messages_missed_total", "Messages that retention deleted before the sink read them: lost", "topic"
)
SINK_ROWS_READ = _count("unproxy_sink_rows_read_total", "Rows in the messages read", "topic")
SINK_ROWS_WRITTEN = _count("unproxy_sink_rows_written_total", "Rows written and acknowledged", "table")
SINK_ROWS_WAITING = _gauge("unproxy_sink_rows_waiting", "Rows read and not written yet", "table")
SINK_BATCHES_WRITTEN = _count("unproxy_sink_batches_written_total", "Inserts acknowledged", "table")
SINK_RETRIES = _count("unproxy_sink_retries_total", "Inserts tried again", "table")
SINK_ROWS_REFUSED = _count(
    "unproxy_sink_rows_refused_total", "Rows that cannot be stored, sent to rejects with their message", "table"
)
SINK_ROWS_LEFT = _count(
    "unproxy_sink_rows_left_total", "Rows read but not written because their partition moved to another sink", "table"
)
SINK_LAG = _gauge("unproxy_sink_lag_messages", "Messages of own partitions that are not committed yet", "topic")
SINK_REBALANCES = _count(
    "unproxy_sink_rebalances_total",
    "Times that the consumer group assigned partitions and revoked them, also an empty set",
    "change",
)
SINK_COMMIT_FAILURES = _count(
    "unproxy_sink_commit_failures_total",
    "Commits that Kafka refused; their rows are written, and the commits are retried",
)
SINK_BATCH_ROWS = _spread("unproxy_sink_batch_rows", ROWS, "Rows in an insert that was acknowledged", "table")
SINK_LATENCY = _spread(
    "unproxy_sink_latency_seconds",
    SECONDS,
    "From the sending of a message of rows to its topic, by the worker's clock, to the acknowledgement of its insert, by "
    "the sink's",
    "table",
)

# They balance: read = sent + skipped + refused + left + waiting.
FORWARD_LAG = _gauge("unproxy_forward_lag_messages", "Messages of own partitions that are not committed yet")
FORWARD_READ = _count("unproxy_forward_alerts_read_total", "Versions of alerts read")
FORWARD_SENT = _count("unproxy_forward_alerts_sent_total", "Versions that the receiver accepted")
FORWARD_SKIPPED = _count(
    "unproxy_forward_alerts_skipped_total",
    "Versions not sent: suppressed, not severe enough, of another kind, or superseded by a newer waiting one",
    "reason",
)
FORWARD_REFUSED = _count(
    "unproxy_forward_alerts_refused_total", "Versions that the receiver refused for good, sent to rejects"
)
FORWARD_WAITING = _gauge("unproxy_forward_alerts_waiting", "Versions read and not finished yet")
FORWARD_LEFT = _count(
    "unproxy_forward_alerts_left_total", "Versions read but not sent because their partition moved to another forwarder"
)
FORWARD_MISSED = _count(
    "unproxy_forward_messages_missed_total", "Messages that retention deleted before they were read: never sent"
)
FORWARD_RETRIES = _count("unproxy_forward_retries_total", "Failed attempts that are repeated", "answer")
FORWARD_MISCONFIGURED = _gauge(
    "unproxy_forward_misconfigured",
    "1 while the receiver refuses because of the configuration: login, address, certificate",
)
FORWARD_COMMIT_FAILURES = _count(
    "unproxy_forward_commit_failures_total", "Commits that Kafka refused; their alerts were sent"
)
FORWARD_LATENCY = _spread(
    "unproxy_forward_latency_seconds",
    SECONDS,
    "From the sending of an alert to its topic, by the worker's clock, to the receiver's answer, by the forwarder's",
)

PUBLISHER_LINES_READ = _count("unproxy_publisher_lines_read_total", "Lines read from sensors", "dialect")
PUBLISHER_LINES_CUT = _count("unproxy_publisher_lines_cut_total", "Lines cut because they were too long", "dialect")
PUBLISHER_FAILURES = _count(
    "unproxy_publisher_dialect_failures_total",
    "Exceptions in a dialect's code, each a bug; the line is published as it is",
    "dialect",
)
PUBLISHER_NOT_ALLOWED = _count(
    "unproxy_publisher_lines_not_allowed_total",
    "Lines that went to rejects because their sender may not report on their device",
    "grant",
)
PUBLISHER_IDENTIFIED = _count(
    "unproxy_publisher_lines_identified_total",
    "Lines by how their device was found: named by the line, by the identity table, learnt from the device's own records, an "
    "address that no device is known to have had, ambiguous, unreported (`untold`)",
    "how",
)
PUBLISHER_IDENTITY_UNUSABLE = _gauge(
    "unproxy_publisher_identity_lines_unusable", "Lines of identity.files that were left out when they were last read"
)
PUBLISHER_MESSAGES = _count("unproxy_publisher_messages_total", "Messages Kafka acknowledged", "dialect")
PUBLISHER_BYTES = _count("unproxy_publisher_bytes_total", "Bytes of lines Kafka acknowledged", "dialect")
PUBLISHER_RECEIVED = _count(
    "unproxy_publisher_received_total",
    "Requests and messages received over the network, by source and outcome; docs/inputs.md lists the outcomes",
    "outcome",
)
PUBLISHER_RESENDS = _count("unproxy_publisher_resends_total", "Messages sent again after a failed delivery")
PUBLISHER_WAITING = _gauge("unproxy_publisher_bytes_waiting", "Bytes read and not acknowledged yet")
SENSOR_CONNECTIONS = _count(
    "unproxy_endpoint_connections_total",
    "Outgoing connections that the sensor observed: attempted, established, failed, closed",
    "what",
)
SENSOR_OPEN = _gauge("unproxy_endpoint_connections_open", "Connections that the sensor follows now")
SENSOR_LOST = _count(
    "unproxy_endpoint_lost_total",
    "What the sensor could not report: records dropped at a full buffer of the kernel, lines dropped at its full queue, "
    "connections forgotten because too many were open, answers without an attempt, sockets reused without an end, "
    "lines without the name of the process or with that of an ended one, ends and byte counts dropped by the kernel, "
    "records and packets skipped after an error; "
    "of the HTTP level packets dropped at a full ring, gaps in requests, malformed or too long headers, "
    "connections evicted because memory was full or too many were open",
    "where",
)
SENSOR_CLOCK_JUMPS = _count(
    "unproxy_endpoint_clock_jumps_total", "Times that the wall clock was set while the sensor ran"
)
SENSOR_RECEIVED = _count(
    "unproxy_endpoint_heard_total",
    "What the sensor observed on connections to proxies: packets, requests, responses, server names",
    "what",
)
SENSOR_FLOWS = _gauge("unproxy_endpoint_flows", "Connections to proxies that the sensor observes now")
SENSOR_HELD_BYTES = _gauge("unproxy_endpoint_held_bytes", "Bytes of incomplete requests")
SENSOR_LEARNT = _gauge("unproxy_endpoint_proxies_learnt", "Proxies that the sensor has learnt")
SENSOR_LEARNING = _count(
    "unproxy_endpoint_learning_total",
    "Proxies that the sensor learnt and forgot; requests to a proxy from which it learnt nothing, because too many are in use "
    "or the start of the connection was not observed",
    "what",
)
SENSOR_LISTED = _count(
    "unproxy_endpoint_listed_total",
    "Requests for listed destinations that were audited, blocked inline, cut off by destroying their socket, or not provably "
    "stopped although they should be; packets that the kernel passed uninspected at a full queue, or without a verdict",
    "what",
)

METRICS = tuple(_declared)
"""All metrics, in the order of their declarations here."""
