"""What ends a command without a stack trace.

Fixable     you can fix this: arguments, settings, a folder in use (exit 2); so are SettingsError and EmbeddedError
Failed      the work was done and went wrong, or something needed is away (exit 1)
├── KafkaAway   no Kafka answers; a command that follows it waits
└── Damaged     part of a recorded file could not be read; everything else was
"""

from __future__ import annotations


class Fixable(Exception):
    """Called wrongly; the message states where, what was expected and what to do."""


class Failed(Exception):
    """Could not be done; the message states what went wrong and what to do."""


class KafkaAway(Failed):
    """No Kafka answers; the message states where, and what to do."""


class Damaged(Failed):
    """Part of a recorded file could not be read; the message names it."""
