"""Messages to Kafka: delivery, reports, metrics and health."""
