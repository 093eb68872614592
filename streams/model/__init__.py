"""The state of a device: its connections, processes, alerts and protection, and how it is stored. Pure."""
