"""Indicators and suppressions of people and files, onto the topic `indicators` and back."""
