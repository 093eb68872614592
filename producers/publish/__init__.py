"""Messages to Kafka: batches, delivery, metrics and health."""
