"""Alerts from Kafka to a webhook or a syslog receiver, at least once; one target per process."""
