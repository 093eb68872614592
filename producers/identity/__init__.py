"""Devices of lines: identity tables and learnt addresses."""
