"""The command line, and `unproxy up`, which runs sensors, worker and sink on one machine."""
