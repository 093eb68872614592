"""What ClickHouse lost comes back: damaged parts of its tables are put aside, and rows are read from Kafka once more."""
