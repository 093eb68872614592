"""Every metric, declared once: the exporters and the reference page are made from these lists.

Prometheus names and base units. Labels come from closed sets (reasons, methods, topics) and
from the names of grants in the settings, never from input.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """How a metric moves: a counter only up, a gauge both ways; a histogram counts values by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric as an operator meets it."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram."""


SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)
MESSAGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 1_000.0)
ROWS = (1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0)


def _count(name: str, about: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, about, labels)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, about, labels)


def _spread(name: str, buckets: tuple[float, ...], about: str, *labels: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, about, labels, buckets)


BUILD_INFO = _gauge("unproxy_build_info", "Always 1; the label tells the program's version", "version")
START_TIME = _gauge("unproxy_start_time_seconds", "When the process started, seconds since 1970")
ALIVE = _gauge("unproxy_alive", "1 while /healthz says 200")
READY = _gauge("unproxy_ready", "1 while /readyz says 200")
PROCESS: tuple[Metric, ...] = (BUILD_INFO, START_TIME, ALIVE, READY)
"""Every page has these."""

WORKER_MESSAGES = _count("unproxy_worker_messages_total", "Input messages handled and acknowledged, ticks included")
WORKER_BATCHES = _count("unproxy_worker_batches_total", "Batches of input messages handled")
WORKER_STALE = _count(
    "unproxy_worker_messages_stale_total", "Messages left aside because a rebalance came between reading and handling"
)
WORKER_DELIVERED = _count("unproxy_worker_messages_delivered_total", "Messages Kafka acknowledged", "topic")
WORKER_RESENDS = _count("unproxy_worker_resends_total", "Messages sent again after a failed delivery")
WORKER_UNDELIVERABLE = _count(
    "unproxy_worker_undeliverable_total", "Messages too large for their topic, sent to rejects instead"
)
WORKER_QUARANTINED = _count(
    "unproxy_worker_messages_quarantined_total",
    "Messages that ended workers twice, of which lines, or all, went to rejects unread",
)
WORKER_CHECKPOINT_ENTRIES = _count("unproxy_worker_checkpoint_entries_total", "State entries written")
WORKER_CHECKPOINT_BYTES = _count("unproxy_worker_checkpoint_bytes_total", "Bytes of state entries written")
WORKER_LEASE_WAITS = _count("unproxy_worker_lease_waits_total", "Writes that had to wait for a heartbeat")
WORKER_TICKS = _count("unproxy_worker_ticks_total", "Ticks written into own input partitions")
WORKER_LAG = _gauge("unproxy_worker_lag_messages", "Messages of own input partitions that are not committed yet")
WORKER_REBALANCES = _count(
    "unproxy_worker_rebalances_total", "Times the group gave us partitions and took them back, be it none", "change"
)
WORKER_BATCH_MESSAGES = _spread(
    "unproxy_worker_batch_messages", MESSAGES, "Messages in a batch, stale ones left out and ticks included"
)
WORKER_LATENCY = _spread(
    "unproxy_worker_latency_seconds",
    SECONDS,
    "From the broker's time of an input message to when Kafka had all that its batch made, by the worker's clock; "
    "without ticks",
)

REJECT_RATE = _gauge("unproxy_reject_rate", "Unreadable lines of all within worker.reject_window_secs, 0 to 1")
REJECT_RATE_OVER = _gauge(
    "unproxy_reject_rate_over_limit", "1 while more lines are rejected than worker.reject_rate_max allows, else 0"
)

INDICATORS = _gauge("unproxy_indicators", "Indicators that the worker knows, expired ones included")
SUPPRESSIONS = _gauge("unproxy_suppressions", "Suppressions of alerts that the worker knows, expired ones included")
INDICATORS_UNREADABLE = _count(
    "unproxy_indicators_unreadable_total", "Messages of the topic of indicators that say nothing that can be used"
)
INDICATORS_AGE = _gauge(
    "unproxy_indicators_age_seconds",
    "Since the worker last knew that it had read all there is on the topic of indicators",
)

INDICATOR_FEED: tuple[Metric, ...] = (INDICATORS, SUPPRESSIONS, INDICATORS_UNREADABLE, INDICATORS_AGE)

WORKER: tuple[Metric, ...] = (
    WORKER_MESSAGES,
    WORKER_BATCHES,
    WORKER_STALE,
    WORKER_DELIVERED,
    WORKER_RESENDS,
    WORKER_UNDELIVERABLE,
    WORKER_QUARANTINED,
    WORKER_CHECKPOINT_ENTRIES,
    WORKER_CHECKPOINT_BYTES,
    WORKER_LEASE_WAITS,
    WORKER_TICKS,
    WORKER_LAG,
    WORKER_REBALANCES,
    WORKER_BATCH_MESSAGES,
    WORKER_LATENCY,
    REJECT_RATE,
    REJECT_RATE_OVER,
    *INDICATOR_FEED,
)

BOOK: dict[str, Metric] = {
    "read": _count("unproxy_lines_read_total", "Lines read from input messages"),
    "parsed": _count("unproxy_lines_parsed_total", "Lines that became an event"),
    "ignored": _count("unproxy_lines_ignored_total", "Lines understood that hold nothing for us", "kind"),
    "rejected": _count("unproxy_lines_rejected_total", "Lines that could not be read, or were refused", "reason"),
    # These go down, too: a destination becomes known late, two halves turn out to be one connection.
    "connections": _gauge("unproxy_connections", "Connections seen so far"),
    "resolved": _gauge("unproxy_connections_resolved", "Of these, those whose destination is known", "method"),
    "unresolved": _gauge("unproxy_connections_unresolved", "Of these, those without a destination", "reason"),
    "waiting": _gauge("unproxy_connections_waiting", "Of these, those not settled yet"),
    "devices": _gauge("unproxy_devices", "Devices in the state"),
    "kept": _gauge("unproxy_connections_kept", "Connections in the state: waiting, open or kept for late records"),
    "devices_near_bound": _gauge(
        "unproxy_devices_near_bound", "Devices that hold over four fifths of correlation.connections_max"
    ),
    "devices_evicted": _count(
        "unproxy_devices_evicted_total", "Devices evicted from the state at correlation.devices_max"
    ),
    "rows": _count("unproxy_rows_total", "Rows made, every version"),
    "verdict_rows": _count("unproxy_verdict_rows_total", "Rows made of verdicts, every version"),
    "proxy_lines": _count("unproxy_proxy_lines_total", "Lines of proxies' own logs, by what became of them", "outcome"),
    "gaps": _count("unproxy_sensor_gaps_total", "Gaps found: lines lost, numbering begun anew, silences", "kind"),
    "gaps_filled": _count("unproxy_sensor_gaps_filled_total", "Gaps filled later, in whole or in their last part"),
    "gaps_forgotten": _count(
        "unproxy_sensor_gaps_forgotten_total", "Open gaps that are shown and can no longer be seen to be filled"
    ),
    "gap_lines": _gauge("unproxy_sensor_gap_lines", "Lines missing in gaps that were not filled"),
    "silent": _gauge("unproxy_devices_silent", "Devices silent for longer than their habit at the moment"),
}
"""The pipelines' book by entry; an entry `NAME:LABEL` of the book is a labelled value. The book must balance."""
BOOK_OTHER = _gauge("unproxy_book", "Further entries of the pipelines' book", "entry")

SINK_MESSAGES = _count("unproxy_sink_messages_total", "Messages read from the result topics", "topic")
SINK_ROWS_READ = _count("unproxy_sink_rows_read_total", "Rows in the messages read", "topic")
SINK_ROWS_WRITTEN = _count("unproxy_sink_rows_written_total", "Rows written and acknowledged", "table")
SINK_ROWS_WAITING = _gauge("unproxy_sink_rows_waiting", "Rows read and not written yet", "table")
SINK_BATCHES_WRITTEN = _count("unproxy_sink_batches_written_total", "Inserts acknowledged", "table")
SINK_RETRIES = _count("unproxy_sink_retries_total", "Inserts tried again", "table")
SINK_ROWS_REFUSED = _count(
    "unproxy_sink_rows_refused_total", "Rows that cannot be stored, sent to rejects with their message", "table"
)
SINK_ROWS_LEFT = _count(
    "unproxy_sink_rows_left_total", "Rows read and left unwritten as their partition went to another sink", "table"
)
SINK_LAG = _gauge("unproxy_sink_lag_messages", "Messages of own partitions that are not committed yet", "topic")
SINK_REBALANCES = _count(
    "unproxy_sink_rebalances_total", "Times the group gave us partitions and took them back, be it none", "change"
)
SINK_COMMIT_FAILURES = _count(
    "unproxy_sink_commit_failures_total", "Commits that Kafka did not take; their rows are written, and tried again"
)
SINK_BATCH_ROWS = _spread("unproxy_sink_batch_rows", ROWS, "Rows in an insert that was acknowledged", "table")
SINK_LATENCY = _spread(
    "unproxy_sink_latency_seconds",
    SECONDS,
    "From when a message of rows was sent to its topic, by the worker's clock, to when its insert was acknowledged, by "
    "the sink's",
    "table",
)
SINK_MESSAGES_MISSED = _count(
    "unproxy_sink_messages_missed_total", "Messages that retention deleted before the sink had read them: lost", "topic"
)
SINK: tuple[Metric, ...] = (
    SINK_MESSAGES,
    SINK_MESSAGES_MISSED,
    SINK_ROWS_READ,
    SINK_ROWS_WRITTEN,
    SINK_ROWS_WAITING,
    SINK_BATCHES_WRITTEN,
    SINK_RETRIES,
    SINK_ROWS_REFUSED,
    SINK_ROWS_LEFT,
    SINK_LAG,
    SINK_REBALANCES,
    SINK_COMMIT_FAILURES,
    SINK_BATCH_ROWS,
    SINK_LATENCY,
)
"""They balance: rows read = written + refused + left + waiting. A stop leaves what waits to the next start."""

FORWARD_LAG = _gauge("unproxy_forward_lag_messages", "Messages of own partitions that are not committed yet")
FORWARD_READ = _count("unproxy_forward_alerts_read_total", "Versions of alerts read")
FORWARD_SENT = _count("unproxy_forward_alerts_sent_total", "Versions that the receiver has")
FORWARD_SKIPPED = _count(
    "unproxy_forward_alerts_skipped_total",
    "Versions not sent: suppressed, not severe enough, of another kind, or superseded by a newer one that waits",
    "reason",
)
FORWARD_REFUSED = _count(
    "unproxy_forward_alerts_refused_total", "Versions that the receiver will never take, sent to rejects"
)
FORWARD_WAITING = _gauge("unproxy_forward_alerts_waiting", "Versions read and not done yet")
FORWARD_LEFT = _count(
    "unproxy_forward_alerts_left_total", "Versions read and not sent as their partition went to another forwarder"
)
FORWARD_MISSED = _count(
    "unproxy_forward_messages_missed_total", "Messages that retention deleted before they were read: never sent"
)
FORWARD_RETRIES = _count("unproxy_forward_retries_total", "Tries that failed and were or will be repeated", "answer")
FORWARD_MISCONFIGURED = _gauge(
    "unproxy_forward_misconfigured", "1 while the receiver refuses until somebody acts: login, address, certificate"
)
FORWARD_COMMIT_FAILURES = _count(
    "unproxy_forward_commit_failures_total", "Commits that Kafka did not take; their alerts were sent"
)
FORWARD_LATENCY = _spread(
    "unproxy_forward_latency_seconds",
    SECONDS,
    "From when an alert was sent to its topic, by the worker's clock, to the receiver's answer, by the forwarder's",
)
FORWARD: tuple[Metric, ...] = (
    FORWARD_LAG,
    FORWARD_READ,
    FORWARD_SENT,
    FORWARD_SKIPPED,
    FORWARD_REFUSED,
    FORWARD_WAITING,
    FORWARD_LEFT,
    FORWARD_MISSED,
    FORWARD_RETRIES,
    FORWARD_MISCONFIGURED,
    FORWARD_COMMIT_FAILURES,
    FORWARD_LATENCY,
)
"""They balance: read = sent + skipped + refused + left + waiting."""

PUBLISHER_LINES_READ = _count("unproxy_publisher_lines_read_total", "Lines read from sensors", "dialect")
PUBLISHER_LINES_CUT = _count("unproxy_publisher_lines_cut_total", "Lines cut as they were too long", "dialect")
PUBLISHER_FAILURES = _count(
    "unproxy_publisher_dialect_failures_total",
    "Exceptions in a dialect's code, each a bug; the line is published as it is",
    "dialect",
)
PUBLISHER_NOT_ALLOWED = _count(
    "unproxy_publisher_lines_not_allowed_total",
    "Lines that went to rejects as their sender may not report on their device",
    "grant",
)
PUBLISHER_IDENTIFIED = _count(
    "unproxy_publisher_lines_identified_total",
    "Lines by how their device was found: named by the line, by the identity table, learnt from the device's own records, an "
    "address that no device is known to have had, ambiguous, untold",
    "how",
)
PUBLISHER_IDENTITY_UNUSABLE = _gauge(
    "unproxy_publisher_identity_lines_unusable", "Lines of identity.files that were left out when they were last read"
)
PUBLISHER_MESSAGES = _count("unproxy_publisher_messages_total", "Messages Kafka acknowledged", "dialect")
PUBLISHER_BYTES = _count("unproxy_publisher_bytes_total", "Bytes of lines Kafka acknowledged", "dialect")
PUBLISHER_RECEIVED = _count(
    "unproxy_publisher_received_total",
    "What came over the network, by how it came and what became of it: docs/inputs.md tells the outcomes",
    "outcome",
)
PUBLISHER_RESENDS = _count("unproxy_publisher_resends_total", "Messages sent again after a failed delivery")
PUBLISHER_WAITING = _gauge("unproxy_publisher_bytes_waiting", "Bytes read and not acknowledged yet")
PUBLISHER: tuple[Metric, ...] = (
    PUBLISHER_LINES_READ,
    PUBLISHER_LINES_CUT,
    PUBLISHER_FAILURES,
    PUBLISHER_NOT_ALLOWED,
    PUBLISHER_IDENTIFIED,
    PUBLISHER_IDENTITY_UNUSABLE,
    PUBLISHER_MESSAGES,
    PUBLISHER_BYTES,
    PUBLISHER_RECEIVED,
    PUBLISHER_RESENDS,
    PUBLISHER_WAITING,
)

SENSOR_CONNECTIONS = _count(
    "unproxy_endpoint_connections_total",
    "Outgoing connections that the sensor saw attempted, established, failed, closed",
    "what",
)
SENSOR_OPEN = _gauge("unproxy_endpoint_connections_open", "Connections that the sensor follows now")
SENSOR_LOST = _count(
    "unproxy_endpoint_lost_total",
    "What the sensor could not tell: records that the kernel's buffer had no room for, lines that its queue had none for, "
    "connections forgotten as too many were open, answers without an attempt, sockets used again without an end, "
    "lines without the name of the process or of one that had ended, ends that the kernel had no room to tell, "
    "bytes that it did not tell, "
    "records and packets skipped after an error; "
    "of the HTTP level packets that the ring had no room for, gaps in what "
    "clients sent, heads that are not well-formed or too long, connections let go for want of room or as too many were open",
    "where",
)
SENSOR_CLOCK_JUMPS = _count("unproxy_endpoint_clock_jumps_total", "Times that the wall clock was set under the sensor")
SENSOR_LISTED = _count(
    "unproxy_endpoint_listed_total",
    "Requests for listed destinations that were audited, blocked inline, cut off by destroying their socket, or not provably "
    "stopped although they should be; packets that the kernel let go unseen for want of room, or that could not be judged",
    "what",
)
SENSOR_RECEIVED = _count(
    "unproxy_endpoint_heard_total",
    "What the sensor heard on connections to proxies: packets, requests, answers to them, server names",
    "what",
)
SENSOR_FLOWS = _gauge("unproxy_endpoint_flows", "Connections to proxies that the sensor listens to now")
SENSOR_HELD_BYTES = _gauge("unproxy_endpoint_held_bytes", "Bytes of requests that are not whole yet")
SENSOR_LEARNT = _gauge("unproxy_endpoint_proxies_learnt", "Proxies that the sensor knows now as it learnt them")
SENSOR_LEARNING = _count(
    "unproxy_endpoint_learning_total",
    "Proxies that the sensor learnt and forgot; requests of a proxy from which it learnt nothing: too many are in use, or the "
    "connection's beginning was not seen",
    "what",
)
SENSOR: tuple[Metric, ...] = (
    SENSOR_CONNECTIONS,
    SENSOR_OPEN,
    SENSOR_LOST,
    SENSOR_CLOCK_JUMPS,
    SENSOR_RECEIVED,
    SENSOR_FLOWS,
    SENSOR_HELD_BYTES,
    SENSOR_LEARNT,
    SENSOR_LEARNING,
    SENSOR_LISTED,
)

METRICS: tuple[Metric, ...] = (*PROCESS, *WORKER, *BOOK.values(), BOOK_OTHER, *SINK, *FORWARD, *PUBLISHER, *SENSOR)
