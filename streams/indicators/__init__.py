"""Indicators and suppressions: matching against destinations and alerts, and validity in time. Pure."""
