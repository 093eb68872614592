"""Rows from Kafka into tables, effectively once. One module per destination."""
