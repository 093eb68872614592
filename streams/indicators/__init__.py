"""Indicators and suppressions: what matches a destination, and since when it is valid. Pure."""
