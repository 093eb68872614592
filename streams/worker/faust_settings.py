"""The settings of the Faust app, derived from those of unproxy."""

from __future__ import annotations

import zlib
from typing import Any

import faust

from common import tls
from schemas.settings import KafkaSettings, Settings, SettingsError

REQUEST_BYTES_MAX = 17 << 20
"""Room for a rejected line, which may be as long as an input message (16 MB), plus headers."""
BATCH_BYTES_MAX = 1_000_000
"""Bytes of a producer batch per partition; below the smallest max.message.bytes of unproxy's topics, 1 MiB."""


def faust_settings(settings: Settings, partitions: int) -> dict[str, Any]:
    """Return keyword arguments of the Faust app; docs/decisions/0003 and its measurements explain the values."""
    worker = settings.worker
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.kafka.bootstrap.split(",")],
        "broker_credentials": _credentials(settings.kafka),
        "store": "rocksdb://",  # here and not on the table, where it is silently ignored
        "datadir": worker.data_dir,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "processing_guarantee": "at_least_once",
        "consumer_auto_offset_reset": "earliest",  # with latest the recovery of a table never ends
        "consumer_group_instance_id": worker.name,
        "table_standby_replicas": worker.standby_replicas,
        "broker_commit_interval": 0.3,
        "broker_commit_every": 100_000,
        "broker_session_timeout": worker.session_timeout_secs,
        "broker_heartbeat_interval": worker.session_timeout_secs / 4,
        "broker_rebalance_timeout": 30,
        "broker_request_timeout": max(60, worker.session_timeout_secs),
        "consumer_metadata_max_age_ms": 5_000,
        "consumer_max_fetch_size": 2 << 20,
        "stream_buffer_maxsize": max(2 * worker.batch_messages_max, 16),  # with less, every batch waits
        "producer_acks": -1,
        "producer_max_batch_size": BATCH_BYTES_MAX,
        "producer_max_request_size": REQUEST_BYTES_MAX,
        "producer_linger": 0,
        "producer_request_timeout": 600,
        "topic_partitions": partitions,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        # Never opened, but Faust's assignor distinguishes workers on one host by it.
        "web_port": 20_000 + zlib.crc32(worker.name.encode()) % 40_000,
        "worker_redirect_stdouts": False,
    }


def _credentials(kafka: KafkaSettings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return Faust's encryption and login; None for a plain connection. Raises SettingsError without a needed mechanism."""
    encrypted = kafka.security_protocol in ("SSL", "SASL_SSL")
    context = tls.context("kafka.ssl_", kafka.ssl_ca_file, kafka.ssl_client_cert_file) if encrypted else None
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_mechanism:
            raise SettingsError(f"kafka.sasl_mechanism: is empty, but {kafka.security_protocol} needs one")
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if encrypted else None
