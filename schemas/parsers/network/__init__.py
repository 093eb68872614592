"""Parsers of network sensors: Suricata and Zeek."""
