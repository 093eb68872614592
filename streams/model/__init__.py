"""State of a device (connections, processes, alerts, protection) and its storage. Pure."""
