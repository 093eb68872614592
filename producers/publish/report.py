"""Counters of a producer: plain integers, for its caller and its metrics page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """Counters of a producer since its start."""

    lines: int = 0
    bytes: int = 0
    messages: int = 0
    bytes_before: int = 0
    """Bytes of the files that, according to the saved positions, an earlier run published. 0 for followed files."""
    by_dialect: Counter[str] = field(default_factory=Counter)
    """Lines by dialect."""
    identified: Counter[str] = field(default_factory=Counter)
    """Lines by how their device was found."""
    learnt: Counter[str] = field(default_factory=Counter)
    """Addresses that devices report as their own: `learnt` if one device does, `ambiguous` if several do."""
    identity_unusable: int = 0
    """Lines of the identity table's files that were skipped in the last read."""
    cut_by_dialect: Counter[str] = field(default_factory=Counter)
    """Lines of which only the beginning was kept, in `rejects`."""
    failures_by_dialect: Counter[str] = field(default_factory=Counter)
    """Exceptions in the dialects' code."""
    not_allowed: Counter[str] = field(default_factory=Counter)
    """Lines that went to `rejects` because their sender may not report on their device, by grant."""
    acknowledged_by_dialect: Counter[str] = field(default_factory=Counter)
    """Messages that Kafka acknowledged."""
    acknowledged_bytes_by_dialect: Counter[str] = field(default_factory=Counter)
    """Bytes of the lines in them."""
    received: Counter[str] = field(default_factory=Counter)
    """Network messages and requests, by outcome."""
    damage: str = ""
    """Description of the damaged parts of files; "" if everything could be read."""

    @property
    def too_long(self) -> int:
        """Number of lines that were cut."""
        return self.cut_by_dialect.total()

    @property
    def acknowledged_messages(self) -> int:
        """Number of messages that Kafka acknowledged."""
        return self.acknowledged_by_dialect.total()

    @property
    def unacknowledged_messages(self) -> int:
        """Number of messages that Kafka did not acknowledge; the next run sends them again if their lines can be read again."""
        return self.messages - self.acknowledged_messages
