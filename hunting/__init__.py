"""Hunting: queries in KQL on the rows in ClickHouse."""
