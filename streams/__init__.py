"""The workshop: events in, resolved records out. The pure part decides, the worker carries."""
