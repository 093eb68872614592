"""The sink writes rows from Kafka to the tables, effectively once; `sinks.forward` sends alerts to other systems."""
