"""Devices of lines: identity tables, sightings and grants."""
