"""Guards of the worker: each ends the process before a message can be lost or written twice."""
