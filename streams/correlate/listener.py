"""Callbacks of the connection table and of the device's clock."""

from __future__ import annotations

from typing import Protocol

from streams.model.connection import Connection
from streams.model.device import Device


class Listener(Protocol):
    """Callbacks of the connection table and of the device's clock. The correlator implements them."""

    def process_verdicts_due(self, device: Device, second: int) -> None:
        """Decide process verdicts that are due by that second of the device's clock."""

    def proxy_log_due(self, device: Device, second: int) -> None:
        """Join access-log entries that are due by that second of the device's clock."""

    def guess_refuted(self, device: Device, key: str, connection: Connection, host: str) -> None:
        """Retract process verdicts on `host` that were joined to this connection, as it asked for another host."""

    def before_leaving(self, device: Device, key: str, connection: Connection) -> None:
        """Emit the last rows of a connection that is about to leave the state."""
