"""Hunts over a table with many rows, and the generator of these rows."""
