"""Rejects come back: which of them were replayed already, and their way from the topic of rejects onto telemetry."""
