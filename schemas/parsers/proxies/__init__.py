"""Parsers of proxies' own logs."""
