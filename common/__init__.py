"""What several packages need and no outsider relies on: Kafka clients, TLS, exporters, health, consumer groups."""
