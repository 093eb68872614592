"""The running HTTP level: one thread reads packets, queues lines and passes requests to the enforcer.

The thread never waits for a consumer. An error in one packet skips that packet. Packets that the ring dropped, and data that
could not be followed, are counted.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import schemas.metrics as declared
from common.exporter import Family, by_label, one
from producers.sensor.http.capture import Capture
from producers.sensor.http.heads import Urls
from producers.sensor.http.learning import Asked, Learner
from producers.sensor.http.level import HttpLevel
from producers.sensor.http.packets import RST, Packet
from producers.sensor.http.request_lines import HttpEvent, Kind, line_of
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.tracefs import SensorError
from producers.sensor.queue import Queue
from schemas.events import ProtectionMode
from schemas.sections.base import proxy_address
from schemas.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECS = 0.2
"""Interval between two checks for expired waits."""
REPORT_SECS = 1.0
"""Interval between two checks of the kernel's counters."""


class Enforcer(Protocol):
    """The component that acts on requests."""

    @property
    def mode(self) -> ProtectionMode:
        """Return the mode in effect. While it is off, no events are reported."""

    def keeps(self, request: HttpEvent, line: bytes) -> bool:
        """Return whether to suppress a request's own line, because its verdict includes the request or is undecided."""

    def reset(self, packet: Packet) -> None:
        """Handle a client's reset."""

    def finish(self) -> None:
        """Handle the end of input."""

    def observed(self, events: Sequence[HttpEvent]) -> None:
        """Handle events, requests as soon as they are seen. Must not block: the reading thread calls it before queueing lines."""

    def go_to(self, proxies: Iterable[ProxyAddress]) -> None:
        """Replace the set of proxies. Must not block."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The configuration of the HTTP level: the proxies to observe and the actions on requests."""

    mode: ProtectionMode | None = None
    """None if the HTTP level is not configured; then no mode is reported."""
    proxies: tuple[tuple[str, int], ...] = ()
    urls: Urls = Urls.PATH
    list_path: Path | None = None
    mode_file: Path | None = None
    learns: bool = False
    """Whether to learn proxies from requests and to observe them, too."""
    denied: tuple[tuple[str, int], ...] = ()
    """Addresses that are never learnt."""
    hold_unknown: bool = False
    """Whether to hold packets to all addresses in block mode, so that no request reaches a proxy before the proxy is learnt."""
    block_unreadable: bool = True
    """Whether to stop unreadable requests, too, in block mode."""

    @property
    def listens(self) -> bool:
        """Return whether packets are captured."""
        return self.mode_file is not None or self.mode in (ProtectionMode.AUDIT, ProtectionMode.BLOCK)


def plan_of(
    settings: Settings,
    mode: str = "",
    proxies: Sequence[str] = (),
    urls: str = "",
    list_path: Path | None = None,
    mode_file: Path | None = None,
    learn: bool | None = None,
) -> Plan:
    """Merge command line and settings; the command line has precedence. Raises SensorError.

    The mode defaults to audit if proxies are known or are to be learnt. Learning defaults to on if a mode is configured and no
    proxy is known.
    """
    own = settings.sensor
    chosen = mode or own.mode
    given = tuple(proxies) or own.proxies or settings.correlation.proxies
    try:
        addresses = tuple(dict.fromkeys(proxy_address(entry)[:2] for entry in given))
    except ValueError as error:
        raise SensorError(f"--proxy: {error}") from None
    followed_file = mode_file or (Path(own.mode_file) if own.mode_file and not mode else None)
    is_asked_for = followed_file is not None or chosen in ("audit", "block")
    by_itself = is_asked_for and not addresses
    learns = learn if learn is not None else own.learn_proxies == "yes" or (by_itself and own.learn_proxies == "")
    if by_itself and not learns:
        raise SensorError(
            f"mode {followed_file or chosen}: no proxies are known; name them with --proxy IP:PORT, or in "
            "sensor.proxies, or let it --learn them"
        )
    decided = ProtectionMode(chosen) if chosen else ProtectionMode.AUDIT if addresses or learns else None
    listed = list_path or (Path(own.listed) if own.listed else None)
    denied = tuple(proxy_address(entry)[:2] for entry in settings.correlation.not_proxies)
    if own.hold_unknown and is_asked_for and not learns:
        raise SensorError(
            "sensor.hold_unknown: proxies are not learnt; set sensor.learn_proxies to yes, or leave it out"
        )
    return Plan(
        decided,
        addresses,
        Urls(urls or own.urls),
        listed,
        followed_file,
        learns,
        denied if learns else (),
        own.hold_unknown,
        own.block_unreadable,
    )


def level_of(plan: Plan, learner: Learner | None) -> HttpLevel:
    """Create an HTTP level for the configured proxies and for those that are learnt later."""
    addresses = frozenset(plan.proxies) if learner is None else learner.proxies
    return HttpLevel({port for _, port in plan.proxies}, addresses, urls=plan.urls)


def level_of_all(plan: Plan) -> HttpLevel:
    """Create an HTTP level for packets to all addresses."""
    return HttpLevel(range(1, 65_536), urls=plan.urls)


class CaptureReader:
    """A reader of a capture, running until stopped. Any thread may read its counters at any time."""

    def __init__(
        self,
        capture: Capture,
        plan: Plan,
        queue: Queue,
        device: str,
        enforcer: Enforcer | None = None,
        learner: Learner | None = None,
    ) -> None:
        self._capture, self._queue, self._device, self._enforcer = capture, queue, device, enforcer
        self._learner = learner
        self.level = level_of(plan, learner)
        self._errors = capture.errors
        self.packets = 0
        self.lines = 0
        self.failure: BaseException | None = None
        self._reported = self._reported_no_room = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="sensor-http", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Read the available packets, report waiting events and end the thread."""
        with suppress(BlockingIOError):  # the pipe is full, so a stop was requested already
            os.write(self._wake_write, b".")
        self._thread.join()

    def close(self) -> None:
        """Stop and close the wake-up pipe."""
        self.stop()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def skipped(self) -> int:
        """Return the number of packets and connections that were skipped after an error."""
        return self._errors.count + self.level.errors.count

    def lost(self) -> dict[str, int]:
        """Return the number of losses by place."""
        level = self.level
        return {
            "packet_ring": self._capture.dropped,
            "http_gap": level.gaps,
            "http_unreadable": level.faults.unreadable,
            "http_too_long": level.faults.too_long,
            "http_no_room": level.no_room,
            "http_too_many_open": level.forgotten,
        }

    def families(self) -> Iterator[Family]:
        """Yield the Prometheus metrics, except losses."""
        level = self.level
        yield by_label(
            declared.SENSOR_RECEIVED,
            {"packets": self.packets, "requests": level.requests, "answers": level.answers, "names": level.names},
        )
        yield one(declared.SENSOR_FLOWS, level.flows)
        yield one(declared.SENSOR_HELD_BYTES, level.kept_bytes)
        if self._learner is not None:
            yield one(declared.SENSOR_LEARNT, len(self._learner.last))
            yield by_label(declared.SENSOR_LEARNING, self._learner.counted())

    def summary(self) -> dict[str, int]:
        """Return the totals for the sensor's final log message."""
        learnt = {} if self._learner is None else {"proxies_learnt": self._learner.learnt}
        events = {"requests": self.level.requests, "names": self.level.names}
        return {**events, "lost_packets": self._capture.dropped, **learnt}

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that takes the lines
            self.failure = error

    def _read(self) -> None:
        with select.epoll() as poll:
            for handle in (self._capture.fileno(), self._wake_read):
                poll.register(handle, select.EPOLLIN)
            look_at = report_at = 0.0
            asked = False
            while not asked:
                asked = any(handle == self._wake_read for handle, _ in poll.poll(LOOK_SECS))
                if asked:
                    # The kernel retires the block that it is filling within this time.
                    time.sleep(self._capture.retire_secs)
                begun = time.time_ns() // 1_000
                self._take()
                now = time.monotonic()
                if now >= look_at and self._capture.is_drained:
                    look_at = now + LOOK_SECS
                    with self._errors:
                        # An unread packet may be a response, so advance only to the time up to which all packets were read.
                        self._report(self.level.advance(begun - round(self._capture.retire_secs * 1_000_000)))
                if now >= report_at or asked:
                    report_at = now + REPORT_SECS
                    self._look()
            with self._errors:
                self._report(self.level.finish(time.time_ns() // 1_000))
                if self._enforcer is not None:
                    self._enforcer.finish()

    def _take(self) -> None:
        learner = self._learner if self._enforcer is None or self._enforcer.mode is not ProtectionMode.OFF else None
        for at, packet in self._capture.read():
            self.packets += 1
            # Catch all errors here, so that the next packets are read.
            with self._errors:
                asked = learner.observes(at, packet) if learner is not None else None
                if learner is not None and asked is Asked.LEARNT:
                    self._follow(learner)
                    self._report(self.level.begin(at, packet))
                    log.info(
                        "a proxy was learnt",
                        extra={"proxy": packet.dst_ip, "port": packet.dst_port, "client_port": packet.src_port},
                    )
                elif asked is not None:
                    self._report(self.level.single(at, packet, is_first=asked is Asked.NO_ROOM))
                events = self.level.packet(at, packet)
                if events:
                    self._report(events)
                if packet.flags & RST and self._enforcer is not None:
                    self._enforcer.reset(packet)

    def _report(self, events: list[HttpEvent]) -> None:
        if self._enforcer is not None and events:
            if self._enforcer.mode is ProtectionMode.OFF:
                return
            with self._errors:
                self._enforcer.observed(events)
        for event in events:
            with self._errors:
                if event.kind is Kind.REQUEST:
                    continue
                line = line_of(event, self._device)
                if self._enforcer is None or not self._enforcer.keeps(event, line):
                    self._queue.put(line, "sensor")
                    self.lines += 1

    def _look_at(self, learner: Learner) -> None:
        if learner.forget(time.time_ns() // 1_000):
            self._follow(learner)
        if learner.no_room > 2 * self._reported_no_room:
            log.warning("a proxy was not learnt, too many are in use", extra={"so_far": learner.no_room})
            self._reported_no_room = learner.no_room

    def _follow(self, learner: Learner) -> None:
        self._capture.follow(learner.last)
        if self._enforcer is not None:
            self._enforcer.go_to(learner.proxies)

    def _look(self) -> None:
        if self._learner is not None:
            self._look_at(self._learner)
        lost = self._capture.look()
        if lost > self._reported:
            log.error("packets were lost", extra={"packets": lost})
            self._reported = lost
