"""Access of commands to Kafka: topics, access control lists, and the diagnosis of a cluster."""
