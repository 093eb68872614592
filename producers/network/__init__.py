"""Sources on the network: HTTP and Kafka."""
