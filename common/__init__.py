"""Code shared by several packages, internal to this project: Kafka clients, TLS, exporters, health, consumer groups."""
