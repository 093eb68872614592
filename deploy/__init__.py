"""Data for running unproxy: topics, compose file, rules. Holds no code."""
