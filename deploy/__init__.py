"""Files for the operation of unproxy: topics, access rights, units, compose file, alert rules. It contains no code."""
