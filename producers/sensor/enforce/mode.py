"""The protection mode in effect: reloads of deny list and mode file, and setup and removal of rules and gate."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import schemas.metrics as declared
from common.exporter import Family, by_label
from producers.sensor.enforce.deny_list import Listed, list_file
from producers.sensor.enforce.enforcer import Emit, Enforcer, passes
from producers.sensor.enforce.inline import Gate, Queue
from producers.sensor.enforce.watched_file import Unreadable, Watched
from producers.sensor.errors import Errors
from producers.sensor.http.packets import Packet
from producers.sensor.http.request_lines import HttpEvent
from producers.sensor.kernel.nft_rules import ANY, NoRules, ProxyAddress, Rules
from producers.sensor.kernel.sock_diag import Destroyer, FiveTuple, why_not_destroy
from producers.sensor.kernel.tracefs import SensorError
from schemas.events import Micros, ProtectionMode

log = logging.getLogger(__name__)

LOOK_SECS = 1.0
"""Interval between two checks of the deny list and the mode file."""
AGAIN_SECS = 30.0
"""Delay before a retry of inline after it failed, was bypassed, or was unavailable."""
MODE_FILE_BYTES_MAX = 64


class Enforcement:
    """The manager of the mode in effect, the deny list and mode file, and the rules and gate of inline blocking.

    As a context manager, it enforces the mode inside its block, and removes everything from the kernel at the end. A thread
    checks the files, the proxies and the gate every second.
    """

    def __init__(
        self,
        device: str,
        emit: Emit,
        *,
        mode: ProtectionMode,
        mode_file: Path | None = None,
        list_path: Path | None = None,
        proxies: Iterable[ProxyAddress] = (),
        events: Callable[[], Callable[[Micros, Packet], Iterable[HttpEvent]]],
        rules: Callable[[], Rules] = Rules,
        is_proxied: Callable[[HttpEvent], bool] | None = None,
        block_unreadable: bool = False,
    ) -> None:
        """Read the deny list and the mode file. Raises SensorError if one of them cannot be read.

        `mode` applies without a mode file. `events` creates a separate HTTP level for held packets, and returns its `packet`.
        With `is_proxied`, which returns whether a request is to a proxy, packets to all addresses are held. Several threads
        call `emit` with lines of verdicts and modes.
        """
        try:
            listed = list_file(list_path) if list_path else None
            self._mode_file = Watched(mode_file, _mode_of, MODE_FILE_BYTES_MAX) if mode_file else None
        except Unreadable as error:
            raise SensorError(str(error)) from None
        nothing = Listed("")
        self._destroyer: Destroyer | None = None
        self._proxies, self._is_proxied = frozenset(proxies), is_proxied
        self.enforcer = Enforcer(
            device, lambda: nothing if listed is None else listed.content, self._destroy, emit,
            block_unreadable=block_unreadable, named=self._proxies,
        )  # fmt: skip
        self._watched, self._mode = listed, mode
        self._events, self._rules_of = events, rules
        self._wanted: ProtectionMode | None = None
        self._gate: Gate | None = None
        self._rules: Rules | None = None
        self._ruled: frozenset[ProxyAddress] = frozenset()
        self._again_at = 0.0
        self._passed_by = False
        self._reported: tuple[str, str] | None = None
        self._unseen_before = self._failed_before = 0
        self._errors_seen = Errors("a request that was seen on its way")
        self._errors = Errors("a look at mode and list; the mode stays as it was")
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensor-modes", daemon=True)

    @property
    def mode(self) -> ProtectionMode:
        """Return the mode in effect. While it is off, callers must not process HTTP-level events."""
        return self.enforcer.mode or ProtectionMode.OFF

    @property
    def inline(self) -> bool:
        """Return whether packets are held until the decision on them."""
        return self._gate is not None and self._gate.running

    def observed(self, requests: Iterable[HttpEvent]) -> None:
        """Handle requests that the capture has seen."""
        for request in requests:
            with self._errors_seen:
                if self.enforcer.saw(request.at, request) and self._gate is not None:
                    self._passed_by = True

    def keeps(self, request: HttpEvent, line: bytes) -> bool:
        """Return whether to suppress a request's own line; see `Enforcer.keeps`."""
        return self.enforcer.keeps(request, line)

    def reset(self, packet: Packet) -> None:
        """Handle a client's reset that the capture has seen."""
        self.enforcer.reset(packet)

    def finish(self) -> None:
        """Handle the end of input."""
        self.enforcer.finish()

    def go_to(self, proxies: Iterable[ProxyAddress]) -> None:
        """Replace the set of proxies whose packets are held."""
        self._proxies = frozenset(proxies)
        self._wake.set()

    def __enter__(self) -> Self:
        """Remove rules of killed sensors, apply the mode and start the thread."""
        try:
            self._start()
        except BaseException:  # remove everything on any exception
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _start(self) -> None:
        with suppress(NoRules), closing(self._rules_of()) as rules:
            if left := rules.remove_left():
                log.warning("rules of a killed sensor were removed", extra={"names": left})
        self.look()
        self._thread.start()

    def look(self) -> None:
        """Reload the deny list and the mode file if they changed, and apply the mode to the current set of proxies."""
        self.enforcer.advance(_now())
        if self._watched is not None:
            self._watched.look()
        if self._mode_file is not None and self._mode_file.look():
            log.info("mode was read", extra={"mode": self._mode_file.content})
        wanted = self._mode if self._mode_file is None else self._mode_file.content
        if wanted is not ProtectionMode.BLOCK:
            self._release()
            self.enforcer.enters(wanted, _now())
        elif self._wanted is not wanted or self._is_due():
            self.enforcer.enters(self._hold(), _now())
        self._wanted = wanted

    def _close(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._release()
        destroyer, self._destroyer = self._destroyer, None
        if destroyer is not None:
            destroyer.close()

    @property
    def skipped(self) -> int:
        """Return the number of errors in the handling of requests and in checks of mode and deny list."""
        return self._errors.count + self._errors_seen.count

    def families(self) -> Iterator[Family]:
        """Yield the Prometheus metrics."""
        yield by_label(declared.SENSOR_LISTED, self.summary())

    def summary(self) -> dict[str, int]:
        """Return the totals for the sensor's final log message."""
        enforcer, gate = self.enforcer, self._gate
        unseen, failed = (gate.queue.passed_unseen, gate.failed) if gate else (0, 0)
        return {
            "audited": enforcer.audited,
            "blocked_inline": enforcer.blocked_inline,
            "socket_destroyed": enforcer.destroyed,
            "went_through": enforcer.passed,
            "passed_unseen": self._unseen_before + unseen,
            "undecided": self._failed_before + failed,
        }

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(LOOK_SECS)
            self._wake.clear()
            with self._errors:
                if not self._stopping:
                    self.look()

    @property
    def _held(self) -> frozenset[ProxyAddress]:
        """Return the destinations whose packets are held."""
        return self._proxies if self._is_proxied is None else frozenset({ANY})

    def _is_due(self) -> bool:
        if self._held != self._ruled:
            return True
        broken = self._passed_by or not self.inline
        return broken and time.monotonic() >= self._again_at

    def _hold(self) -> ProtectionMode:
        """Set up blocking as far as this machine allows; return the resulting mode, `audit` if nothing can be blocked."""
        self._again_at, self._passed_by, self._ruled = time.monotonic() + AGAIN_SECS, False, self._held
        no_destroy = self._open_destroyer()
        no_inline = self._hold_inline()
        outcome = (no_inline, no_destroy)
        if outcome != self._reported:
            self._reported = outcome
            if no_inline and self._is_proxied is not None:
                log.error("packets to unknown proxies are not held", extra={"reason": no_inline})
            if not no_inline:
                log.info("listed requests are stopped inline", extra={"proxies": len(self._proxies)})
            elif not no_destroy:
                log.warning(
                    "inline blocking is not available: sockets of listed requests are destroyed",
                    extra={"reason": no_inline},
                )
            else:
                log.error(
                    "listed requests cannot be blocked, they are only reported",
                    extra={"not_inline": no_inline, "not_destroyed": no_destroy},
                )
        return ProtectionMode.AUDIT if no_inline and no_destroy else ProtectionMode.BLOCK

    def _hold_inline(self) -> str:
        """Hold requests inline; return the reason of a failure, "" on success."""
        if self._gate is not None and not self._gate.running:
            self._release()
        if not self._held:
            self._remove_rules()
            return "no proxy is known"
        if self._gate is None:
            try:
                queue = Queue()
            except OSError as error:
                return f"no queue: {error.strerror or error}"
            is_proxied = self._is_proxied or (lambda _: True)
            self._gate = Gate(queue, passes(self.enforcer, self._events(), _now, is_proxied))
            self._gate.start()
        try:
            if self._rules is None:
                self._rules = self._rules_of()
            self._rules.put(self._held, self._gate.queue.number)
        except NoRules as error:
            self._release()
            return str(error)
        return ""

    def _release(self) -> None:
        """Stop holding packets: remove the rules first, then close the gate."""
        self._remove_rules()
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.close()
            self._unseen_before += gate.queue.passed_unseen
            self._failed_before += gate.failed

    def _remove_rules(self) -> None:
        rules, self._rules = self._rules, None
        if rules is not None:
            rules.close()

    def _open_destroyer(self) -> str:
        """Open the destroyer; return the reason why sockets cannot be destroyed, "" if they can."""
        reason = why_not_destroy()
        if not reason and self._destroyer is None:
            self._destroyer = Destroyer()
        return reason

    def _destroy(self, flow: FiveTuple) -> bool:
        return self._destroyer is not None and self._destroyer.destroy(flow)


def _mode_of(path: Path, raw: bytes) -> ProtectionMode:
    word = raw.decode(errors="replace").strip().lower()
    try:
        return ProtectionMode(word)
    except ValueError:
        raise Unreadable(f"{path}: {word!r} is not one of {', '.join(ProtectionMode)}") from None


def _now() -> Micros:
    return time.time_ns() // 1_000
