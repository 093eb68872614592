"""Asking the tables: who answers, in which language, and how the answer is shown."""
