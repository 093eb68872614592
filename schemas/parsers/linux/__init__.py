"""Parsers of sensors on Linux that report the actions of processes."""
