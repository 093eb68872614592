"""A sink in memory: it keeps the promises of `sinks.base.Sink` and shows its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class MemorySink:
    """Keeps rows by table."""

    rows: dict[str, list[bytes]] = field(default_factory=dict)
    tokens: set[tuple[str, str]] = field(default_factory=set)

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Keep the rows, once a token."""
        del again  # a token is kept after its rows
        if (table, token) in self.tokens:
            return
        self.rows.setdefault(table, []).extend(line for piece in rows for line in piece.split(b"\n"))
        self.tokens.add((table, token))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
