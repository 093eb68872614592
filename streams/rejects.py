"""Rejects of the pipeline itself, for lines that no dialect may read, could read, or may report."""

from __future__ import annotations

from schemas.dialect import Dialect
from schemas.events import Reason, Reject
from schemas.parsers.recognition import AUTO, unclaimed
from streams.messages import LINE_BYTES_MAX, MESSAGE_LINES_MAX, Message

MISTAKE = "a mistake of ours, please report it with the line: "
"""Prefix of the reject detail where the dialect's parser raised an exception."""


def failed(line: bytes, error: Exception) -> Reject:
    """Return the reject for a line on which its dialect raised an exception."""
    return Reject(Reason.MALFORMED, f"{MISTAKE}{error!r}", line)


def not_allowed(message: Message, line: bytes) -> Reject:
    """Return the reject for a verdict or a mode from a sensor that may not report it."""
    if message.claims:
        detail = "verdicts and modes of this sender do not count; set verdicts = true in its grant if they should"
    else:
        who = f"{message.dialect}@{message.sensor}"
        detail = f"verdicts and modes of {who} do not count; add it to protection.verdict_sensors if they should"
    return Reject(Reason.NOT_ALLOWED, detail, line)


def rejecting(reject: Reject) -> Dialect:
    """Return a dialect that rejects every line with this reject."""
    return Dialect("", lambda _: reject, lambda _: 0, lambda _: "", "", "", lambda _: False)


def unread(message: Message, line: bytes) -> Reject:
    """Return the reject for a line that no dialect may read, or for a whole message of too many lines."""
    if b"\n" in line:
        lines = line.count(b"\n") + 1
        detail = f"{lines} lines in one message, envelopes not taken apart; at most {MESSAGE_LINES_MAX} are read"
        return Reject(Reason.TOO_LONG, detail, line)
    if len(line) > LINE_BYTES_MAX:
        return Reject(Reason.TOO_LONG, f"{len(line)} bytes; at most {LINE_BYTES_MAX} are read", line)
    if message.dialect == AUTO:
        return unclaimed(line)
    return Reject(Reason.UNKNOWN_DIALECT, f"no dialect is called {message.dialect!r}", line)
