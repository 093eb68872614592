"""The Faust worker: Kafka, RocksDB, the clock and metrics around the pipelines."""
