"""Guards of the worker: what ends the process before a message could be lost or written twice."""
