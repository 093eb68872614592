"""Alerts from Kafka on to a webhook or a syslog receiver, at least once; one target a process."""
