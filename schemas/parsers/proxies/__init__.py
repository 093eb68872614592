"""Parsers of the access logs of proxies."""
