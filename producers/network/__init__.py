"""Network sources: HTTP and Kafka."""
