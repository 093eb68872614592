"""Errors that end a command with a message instead of a stack trace.

Fixable     the user can fix this: arguments, settings, a folder in use (exit 2); so are SettingsError and EmbeddedError
Failed      the work failed, or a service that it needs is unreachable (exit 1)
├── KafkaAway   no Kafka answers; `unproxy alerts --follow` waits instead of ending
└── Damaged     part of a recorded file could not be read; everything else was read
"""

from __future__ import annotations


class Fixable(Exception):
    """The user called the command wrongly; the message states where, what was expected and what to do."""


class Failed(Exception):
    """The work failed; the message states what went wrong and what to do."""


class KafkaAway(Failed):
    """No Kafka answers; the message states the address, and what to do."""


class Damaged(Failed):
    """Part of a recorded file could not be read; the message names it."""
