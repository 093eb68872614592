"""Conclusions from the known evidence of a connection: outcome, mode, names, version. Pure."""
