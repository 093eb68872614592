"""Assessment of a connection's evidence: outcome, mode, names, version. Pure."""
