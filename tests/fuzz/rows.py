"""Whether what left the pipeline can be stored: each row as its class requires, each number within its column's type."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from schemas.columns import columns
from schemas.tables import Alert, DeviceEvent, NetworkEvent
from streams.pipeline import Output

_BITS = re.compile(r"(U?)Int(\d+)")


class RowCheck:
    """Reads rows of one class as a stranger would."""

    def __init__(self, row: type[msgspec.Struct]) -> None:
        self._decode = msgspec.json.Decoder(row).decode
        self._limits: dict[str, tuple[int, int]] = {}
        for column in columns(row):
            if found := _BITS.search(column.clickhouse):
                bits = int(found[2])
                self._limits[column.name] = (0, 2**bits - 1) if found[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        self._class = row

    def problem(self, encoded: bytes) -> str:
        """What is wrong with a row; "" when nothing is."""
        try:
            row: Any = self._decode(encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return f"a row is no {self._class.__name__}: {error}: {encoded[:300]!r}"
        for name, (low, high) in self._limits.items():
            value = getattr(row, name)
            if value is not None and not low <= value <= high:
                return f"{self._class.__name__}.{name} is {value}, outside {low} to {high}"
        return ""


NETWORK, DEVICE, ALERT = RowCheck(NetworkEvent), RowCheck(DeviceEvent), RowCheck(Alert)


def first_problem(output: Output, every: int) -> str:
    """The first thing that is wrong with a sample of rows, verdicts and alerts; "" when nothing is."""
    for encoded in output.network_events[::every]:
        if problem := NETWORK.problem(encoded):
            return problem
    for encoded in output.device_events[::every]:
        if problem := DEVICE.problem(encoded):
            return problem
    for _, encoded in output.alerts[::every]:
        if problem := ALERT.problem(encoded):
            return problem
    return ""
