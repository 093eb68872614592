"""Outputs of a simulated fleet: Kafka, folders, truth and summary."""
