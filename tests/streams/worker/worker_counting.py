"""A tiny pipeline for the worker's tests: counts a device's lines, so that anything lost, doubled or reordered shows.

Lines: `reject…` is rejected, `alert…` raises an alert, `huge N` makes a row of N bytes, `fail` raises, `hang` never
returns, `slow…` takes a while, anything else is a row. A device that was silent for two seconds of the log's time is
closed by a tick, with a row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, MutableSequence

from schemas.events import Reason, Reject
from schemas.settings import CorrelationSettings
from schemas.topics import TICK_DIALECT
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output, Pipeline
from streams.quarantine import NO_LINE, Refused

SILENCE_MS = 2_000
PADDING = "s" * 200


class CountingPipeline(Pipeline):
    """State per device: offset of the last input that changed it, count, time, open."""

    slow_secs = 0.0

    def __init__(self, _settings: CorrelationSettings, _policy: Policy) -> None:
        self._state: dict[bytes, tuple[int, int, int, bool]] = {}
        self._touched: set[bytes] = set()
        self._output = Output()
        self._lines = 0
        self.current_line: MutableSequence[int] = [NO_LINE]

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Entries are JSON."""
        for device, value in entries:
            last, count, at, is_open, _ = json.loads(value)
            self._state[device] = (last, count, at, is_open)

    def take(self, message: Message, refused: Refused | None = None) -> None:
        """Count, or close on a tick."""
        assert refused is None, "its tests kill workers at random, never twice at one place"
        if message.dialect == TICK_DIALECT:
            for device, (last, count, at, is_open) in sorted(self._state.items()):
                if is_open and message.logged_ms - at > SILENCE_MS and message.offset > last:
                    self._row(device, count, f"closed {count}")
                    self._keep(device, (message.offset, count, at, False))
            return
        last, count, _, _ = self._state.get(message.key, (-1, 0, 0, False))
        if message.offset <= last:
            return
        for self.current_line[0], line in enumerate(message.value.split(b"\n")):
            count += 1
            self._lines += 1
            self._output.lines += 1
            self._count_line(message, line.decode(errors="replace"), line, count)
        self.current_line[0] = NO_LINE
        self._keep(message.key, (message.offset, count, message.logged_ms, True))

    def _count_line(self, message: Message, text: str, line: bytes, count: int) -> None:
        if text.startswith("reject"):
            device = message.key.decode()
            self._output.rejects.append(Reject(Reason.MALFORMED, "x" * 900, line, message.dialect, device))
        elif text.startswith("alert"):
            self._output.alerts.append((message.key, json.dumps({"id": text, "n": count}).encode()))
        elif text.startswith("huge "):
            self._row(message.key, count, "y" * int(text.split()[1]))
        elif text == "fail":
            raise RuntimeError("failed on request")
        elif text == "hang":
            print("hanging", flush=True)
            while True:
                time.sleep(1)
        else:
            time.sleep(self.slow_secs if text.startswith("slow") else 0)
            self._row(message.key, count, text)
            self._output.device_events.append(json.dumps({"verdict": text}).encode())

    def drain(self) -> Output:
        """Give and forget."""
        output, self._output = self._output, Output()
        return output

    def checkpoint(self) -> list[tuple[bytes, bytes]]:
        """Every touched device."""
        entries = [self._entry(device) for device in sorted(self._touched)]
        self._touched.clear()
        return entries

    def book(self) -> dict[str, int]:
        """A few entries, one of each kind."""
        return {"read": self._lines, "rejected:malformed": 0, "waiting": len(self._state), "something_else": 1}

    def _keep(self, device: bytes, state: tuple[int, int, int, bool]) -> None:
        self._state[device] = state
        self._touched.add(device)

    def _entry(self, device: bytes) -> tuple[bytes, bytes]:
        return device, json.dumps([*self._state[device], PADDING]).encode()

    def _row(self, device: bytes, count: int, text: str) -> None:
        self._output.network_events.append(json.dumps({"device": device.decode(), "n": count, "id": text}).encode())
