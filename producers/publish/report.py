"""What a producer did so far: plain integers, for whoever started it and for its metrics page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What a producer did so far."""

    lines: int = 0
    bytes: int = 0
    messages: int = 0
    bytes_before: int = 0
    """Of the files that are read to their end: what the kept positions say an earlier run has published."""
    by_dialect: Counter[str] = field(default_factory=Counter)
    """Lines of each dialect."""
    identified: Counter[str] = field(default_factory=Counter)
    """Lines by how their device was found."""
    learnt: Counter[str] = field(default_factory=Counter)
    """Addresses that devices say they have: `learnt` where one does, `ambiguous` where several do."""
    identity_unusable: int = 0
    """Lines of the identity table's files that were left out when they were last read."""
    cut_by_dialect: Counter[str] = field(default_factory=Counter)
    """Lines of which only the beginning was kept, in `rejects`."""
    failures_by_dialect: Counter[str] = field(default_factory=Counter)
    """Exceptions in the dialects' code."""
    not_allowed: Counter[str] = field(default_factory=Counter)
    """Lines that went to `rejects` as their sender may not report on their device, by grant."""
    acknowledged_by_dialect: Counter[str] = field(default_factory=Counter)
    """Messages that Kafka has."""
    acknowledged_bytes_by_dialect: Counter[str] = field(default_factory=Counter)
    """Bytes of the lines in them."""
    received: Counter[str] = field(default_factory=Counter)
    """What came over the network, by what became of it."""
    damage: str = ""
    """What could not be read, in words."""

    @property
    def too_long(self) -> int:
        """Lines that were cut."""
        return self.cut_by_dialect.total()

    @property
    def acknowledged_messages(self) -> int:
        """Messages that Kafka has."""
        return self.acknowledged_by_dialect.total()

    @property
    def unacknowledged_messages(self) -> int:
        """Messages that Kafka did not confirm: they are sent again next time."""
        return self.messages - self.acknowledged_messages
