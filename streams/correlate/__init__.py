"""Correlation: events of one device in, merged evidence of its connections out. Pure."""
