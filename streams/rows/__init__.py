"""Rows of the tables, made from the state of a device. Pure."""
