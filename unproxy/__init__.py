"""The command line; `unproxy.wiring` connects producers, streams and sinks for it."""
