"""KQL to ClickHouse SQL: `translate` in `translation.py` is the entry point."""
