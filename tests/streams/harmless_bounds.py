"""Limits that cannot change a row, each with the reason; all others are in the table of docs/design/bounds.md.

Names are modules and constants as `package.module NAME ...`, or settings as `section.field`.
"""

from __future__ import annotations

HARMLESS = {
    "a unit, a marker, a point in time that no row reaches, or the size of a field of a protocol": """
        schemas.clock MICROS
        streams.model.device NEVER
        streams.model.process_table _NEVER
        streams.correlate.departed _PERIOD
        streams.alerts.egress_baseline MINUTE
        streams.model.protection DAY
        schemas.indicators ID_BYTES
        schemas.suppressions ID_BYTES
        producers.sensor.kernel.socket_lines _NS
        producers.sensor.kernel.processes _TICK_NS
        producers.sensor.http.capture _INSTRUCTION_BYTES
        producers.sensor.kernel.sock_diag _HEAD_BYTES
        producers.sensor.http.packet_filter _WORD_BYTES _V6_BYTES
        producers.sensor.http.client_hello _RECORD_BYTES_MAX
        producers.sensor.http.hosts _ADDRESS_NUMBERS_MAX
        producers.sensor.enforce.inline _COPY_BYTES
        producers.sensor.http.packets _V4_BYTES_MIN _V6_BYTES _TCP_BYTES_MIN
        producers.sensor.kernel.trace_ring _V4_BYTES _V6_BYTES
        producers.sensor.http.socks _TEXT_BYTES_MAX _V4_HEAD_BYTES _V5_HEAD_BYTES _PORT_BYTES
    """,
    "the range of the value itself by its standard, or far beyond any real one: outside it is no such value": """
        streams.rows.presence_rows VERSION_MAX
        streams.messages NUMBER_DIGITS_MAX CLAIMS_CHARS_MAX
        schemas.parsers.common.values PORT_MAX PID_MAX COUNT_MAX STATUS_MAX
        schemas.parsers.proxies.envoy COUNT_MAX
        schemas.parsers.windows.mde REPORT_ID_MAX
        schemas.parsers.linux.osquery SECONDS_MAX
        schemas.indicator_input PORT_MAX
        schemas.parsers.windows.event_xml _CODE_POINT_MAX
        schemas.parsers.windows.shippers EVENT_ID_MAX ZONE_QUARTERS_MAX
        schemas.parsers.network.zeek_line MILLIS_MIN
        producers.sensor.http.heads LENGTH_MAX
    """,
    "a cache or a faster path: beyond it the same result is computed again or the general way": """
        streams.model.device PIDS_MIN
        streams.correlate.program_index LISTED_MIN
        streams.indicators.url_prefixes FEW_MAX
        schemas.parsers.common.envelopes LONG_BYTES
        schemas.clock SECONDS_CHARS_MAX MILLIS_CHARS_MAX
        schemas.parsers.elastic.ecs REMEMBERED_BYTES_MAX
        schemas.parsers.windows.mde REMEMBERED_BYTES_MAX
        schemas.parsers.windows.winlog REMEMBERED_CHARS_MAX
        schemas.logins _BEFORE_MAX _MARK_CHARS_MAX _BLOCK_CHARS
        schemas.parsers.elastic.line REMEMBERED_NAME_CHARS_MAX SHAPES_MAX SHAPE_NAMES_MAX SHAPE_BYTES_MAX
        schemas.parsers.common.memoize LINES_MAX LINE_BYTES_MAX
        schemas.parsers.windows.event_xml KIND_CHARS_MAX
    """,
    "how state, rows and batches are cut or timed: all of them are written whole and in order": """
        streams.correlate.decision REST_SECS
        streams.model.snapshot PART_BYTES_MAX SNAPSHOT_BYTES_MIN
        streams.worker.delivery ROWS_BYTES_MAX TOGETHER_MAX
        streams.worker.gc_tuning YOUNG_MAX
        streams.worker.batch PORTION_BYTES REJECTS_TOGETHER_MAX
        streams.worker.faust_settings REQUEST_BYTES_MAX BATCH_BYTES_MAX
        streams.worker.rocksdb PIECE_BYTES
        streams.worker.indicator_feed MESSAGES_MAX
        producers.sensor.http.capture FRAME_BYTES
        producers.sensor.kernel.sock_diag TAKE_MAX
        producers.sensor.enforce.inline BATCH_MAX
        producers.sensor.kernel.netlink RECEIVE_BYTES
        producers.sensor.run PAGE_BYTES ROUND_PAGES_MAX
        sinks.clickhouse _CHUNK_BYTES
        sinks.group_member MESSAGES_MAX
        sinks.consumer BATCHES_WAITING_MAX
        sinks.plan ENDS_MAX _DIGITS_MAX
        sinks.presence KEYS_MAX _QUERY_BYTES_MAX
        publisher.batch_bytes_max publisher.batch_age_secs_max publisher.queue_bytes_max
        worker.batch_messages_max worker.batch_wait_secs worker.standby_replicas
        sink.batch_rows_max sink.batch_bytes_max sink.batch_age_secs_max sink.inserts_max
    """,
    "a wait, a retry or an end of the process: the input is read again, nothing is acknowledged before its rows are written": """
        streams.worker.app BOOKS_SECS_MAX FEED_SECS_MAX
        streams.worker.guards.deaths ASK_SECS_MAX PAUSE_SECS
        streams.worker.delivery PAUSE_SECS_FIRST PAUSE_SECS_MAX
        streams.worker.indicator_feed SKEW_MS FRESH_SECS LOOK_SECS ASK_SECS_MAX POLL_SECS
        streams.worker.intake STILL_TURNS_MAX
        streams.worker.guards.lease WAIT_SECS_MAX POLL_SECS
        streams.worker.ticker TICK_SECS
        streams.worker.guards.watchdog ROUND_SECS ASK_SECS STOP_GRACE_SECS STOP_IDLE_SECS_MAX STUCK_SECS_MAX
        streams.worker.health STANDING_SHARE_MAX
        streams.worker.startup ROUND_SECS ASK_SECS_MAX
        common.health AWAY_SECS_MAX LOOK_SECS_MAX
        common.kafka LISTENS_SECS_MAX
        producers.sensor.http.observer LOOK_SECS
        producers.sensor.kernel.netlink ANSWER_SECS
        producers.sensor.run LOOK_SECS TAKE_SECS HELD_SECS
        sinks.clickhouse CONNECT_SECS_MAX NAMES_MAX
        sinks.group_member POLL_SECS COMMITTED_SECS_FIRST COMMITTED_SECS_MAX
        sinks.consumer PAUSE_AFTER_SECS ACKNOWLEDGED_POLL_SECS PLANNED_SECS_MAX
        sinks.consumer STOP_SECS_MAX
        sinks.health STANDING_SECS_MAX FAILING_SECS_MAX
        common.group_lag ANSWER_SECS_MAX
        sinks.offsets PAUSE_SECS ANSWER_SECS_MAX
        sinks.rejects DELIVERY_SECS_MAX
        common.group_watch ASK_SECS ANSWER_SECS_MAX STOP_SECS_MAX
        sinks.writer PAUSE_SECS_FIRST REFUSED_IN_A_ROW_MAX
        clickhouse.timeout_secs worker.session_timeout_secs worker.stop_secs_max worker.reject_rate_max
        worker.reject_window_secs worker.reject_lines_min sink.retry_secs_max sink.session_timeout_secs
        inputs.kafka_session_timeout_secs
    """,
    "a client over HTTP is answered with an error and keeps its lines": """
        inputs.http_header_secs_max inputs.http_body_secs_max inputs.http_connections_max
        inputs.http_connections_per_address_max inputs.http_requests_waiting_max inputs.http_waiting_bytes_max
        inputs.http_answer_secs_max
    """,
    "what is logged, shown or exported, not rows": """
        streams.worker.indicator_feed LOG_SECS
        streams.worker.guards.reject_guard EXAMPLE_CHARS_MAX
        streams.worker.logs PAUSE_SECS
        streams.worker.startup LOG_SECS
        producers.sensor.http.observer REPORT_SECS
        producers.sensor.enforce.deny_list REPORTED_MAX _WORDS_MAX
        sinks.clickhouse _DETAIL_CHARS_MAX
        sinks.sending WARN_SECS
        worker.metrics_port sink.metrics_port publisher.metrics_port
    """,
    "a secret that could be guessed is an error at the start": "schemas.sections.inputs TOKEN_CHARS_MIN",
    "a settings file that is longer is an error at the start": "schemas.settings_file FILE_CHARS_MAX",
    "forwards alerts that are in BlockAlerts anyway": """
        sinks.forward.cef NAME_BYTES_MAX _CUT_BYTES
        sinks.forward.pending BYTES_MAX REFUSED_IN_A_ROW_MAX
        sinks.forward.metrics STANDING_SECS_MAX
        sinks.forward.loop COMMIT_SECS COMMIT_ANSWER_SECS_MAX SENDING_SECS_MAX
        sinks.forward.loop LEAVING_SECS_MAX
        sinks.forward.sender PAUSE_SECS_FIRST
        sinks.forward.syslog AGAIN_MAX HOST_CHARS_MAX KIND_CHARS_MAX POLL_SECS
        sinks.forward.webhook PAUSE_SECS_MAX BODY_BYTES_MAX
        forward.parallel_max forward.waiting_max forward.timeout_secs forward.retry_secs_max forward.session_timeout_secs
        forward.syslog_facility forward.syslog_bytes_max forward.syslog_datagram_bytes_max forward.metrics_port
    """,
}
