"""Kafka from the command line: topics, access control lists, and what is wrong with a cluster."""
