"""The forwarder sends alerts from Kafka to a webhook or a syslog receiver, at least once; a process has one target."""
