"""The HTTP level at work: one thread reads packets, puts lines into the queue, and passes requests to the enforcer.

The thread never waits. An error in one packet skips that packet. What the ring had no room for, and what could not be followed,
is counted.
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
from producers.sensor.http.request_lines import Kind, Said, line_of
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.tracefs import SensorError
from producers.sensor.queue import Queue
from schemas.events import ProtectionMode
from schemas.settings import Settings, proxy_address

log = logging.getLogger(__name__)

LOOK_SECS = 0.2
"""Between two looks at what waits no longer."""
TELL_SECS = 1.0
"""Between two looks at the kernel's counters."""


class Enforcer(Protocol):
    """Who acts on what is asked for."""

    @property
    def mode(self) -> ProtectionMode:
        """In force; while it is off, nothing is told of what is said."""

    def keeps(self, request: Said, line: bytes) -> bool:
        """Whether a request's own line is not to be written, as what was done about it carries the request, or is undecided."""

    def reset(self, packet: Packet) -> None:
        """A client's reset was seen."""

    def finish(self) -> None:
        """Nothing more is seen."""

    def heard(self, said: Sequence[Said]) -> None:
        """Something was said, requests at once. Called before there is a line, in the thread that reads: must not wait."""

    def go_to(self, proxies: Iterable[ProxyAddress]) -> None:
        """These are the proxies from now on. Must not wait either."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to listen to, and what to do about what is heard."""

    mode: ProtectionMode | None = None
    """None: nobody asked for the HTTP level, so nothing is said about it either."""
    proxies: tuple[tuple[str, int], ...] = ()
    urls: Urls = Urls.PATH
    list_path: Path | None = None
    mode_file: Path | None = None
    learns: bool = False
    """Who is asked as a proxy is listened to as well."""
    denied: tuple[tuple[str, int], ...] = ()
    """These never."""
    hold_unknown: bool = False
    """In block mode packets to every address are held, so that nothing passes to a proxy before it is learnt."""
    block_unreadable: bool = True
    """In `block` what cannot be read is stopped as well."""

    @property
    def listens(self) -> bool:
        """Packets are read."""
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
    """What the command line says, else the settings. Raises SensorError.

    Without a word about it the mode is audit where proxies are known or are to be learnt; and they are to be learnt where a mode
    was asked for and none is known.
    """
    own = settings.sensor
    chosen = mode or own.mode
    given = tuple(proxies) or own.proxies or settings.correlation.proxies
    try:
        addresses = tuple(dict.fromkeys(proxy_address(entry)[:2] for entry in given))
    except ValueError as error:
        raise SensorError(f"--proxy: {error}") from None
    told = mode_file or (Path(own.mode_file) if own.mode_file and not mode else None)
    is_asked_for = told is not None or chosen in ("audit", "block")
    by_itself = is_asked_for and not addresses
    learns = learn if learn is not None else own.learn_proxies == "yes" or (by_itself and own.learn_proxies == "")
    if by_itself and not learns:
        raise SensorError(
            f"mode {told or chosen}: no proxies are known; name them with --proxy IP:PORT, or in sensor.proxies, or let it "
            "--learn them"
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
        told,
        learns,
        denied if learns else (),
        own.hold_unknown,
        own.block_unreadable,
    )


def level_of(plan: Plan, learner: Learner | None) -> HttpLevel:
    """An HTTP level for these proxies, and for those that are learnt, from then on."""
    addresses = frozenset(plan.proxies) if learner is None else learner.proxies
    return HttpLevel({port for _, port in plan.proxies}, addresses, urls=plan.urls)


def level_of_all(plan: Plan) -> HttpLevel:
    """An HTTP level for packets to every address."""
    return HttpLevel(range(1, 65_536), urls=plan.urls)


class Hearing:
    """Reads a capture until it is told to stop. Its numbers may be read at any time, by any thread."""

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
        self._told = self._told_no_room = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="sensor-http", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Read what is there, tell what still waits, and end."""
        with suppress(BlockingIOError):  # asked often enough
            os.write(self._wake_write, b".")
        self._thread.join()

    def close(self) -> None:
        """End, and let go of what it holds."""
        self.stop()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def skipped(self) -> int:
        """Packets and connections that were left out because of an error."""
        return self._errors.count + self.level.errors.count

    def lost(self) -> dict[str, int]:
        """What could not be told, by where."""
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
        """Its numbers for Prometheus, without what was lost."""
        level = self.level
        yield by_label(
            declared.SENSOR_HEARD,
            {"packets": self.packets, "requests": level.requests, "answers": level.answers, "names": level.names},
        )
        yield one(declared.SENSOR_FLOWS, level.flows)
        yield one(declared.SENSOR_HELD_BYTES, level.kept_bytes)
        if self._learner is not None:
            yield one(declared.SENSOR_LEARNT, len(self._learner.last))
            yield by_label(declared.SENSOR_LEARNING, self._learner.counted())

    def summary(self) -> dict[str, int]:
        """What it did, for the sensor's last word."""
        learnt = {} if self._learner is None else {"proxies_learnt": self._learner.learnt}
        said = {"requests": self.level.requests, "names": self.level.names}
        return {**said, "lost_packets": self._capture.dropped, **learnt}

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001  # raised again by whoever takes the lines
            self.failure = error

    def _read(self) -> None:
        with select.epoll() as poll:
            for handle in (self._capture.fileno(), self._wake_read):
                poll.register(handle, select.EPOLLIN)
            look_at = tell_at = 0.0
            asked = False
            while not asked:
                asked = any(handle == self._wake_read for handle, _ in poll.poll(LOOK_SECS))
                if asked:
                    # The block that the kernel still fills is given within its time.
                    time.sleep(self._capture.retire_secs)
                begun = time.time_ns() // 1_000
                self._take()
                now = time.monotonic()
                if now >= look_at and self._capture.is_drained:
                    look_at = now + LOOK_SECS
                    with self._errors:
                        # What waits to be read may be an answer: no later than what was read for certain.
                        self._tell(self.level.advance(begun - round(self._capture.retire_secs * 1_000_000)))
                if now >= tell_at or asked:
                    tell_at = now + TELL_SECS
                    self._look()
            with self._errors:
                self._tell(self.level.finish(time.time_ns() // 1_000))
                if self._enforcer is not None:
                    self._enforcer.finish()

    def _take(self) -> None:
        learner = self._learner if self._enforcer is None or self._enforcer.mode is not ProtectionMode.OFF else None
        for at, packet in self._capture.read():
            self.packets += 1
            # The edge: whatever a packet holds, the next ones are read.
            with self._errors:
                asked = learner.hears(at, packet) if learner is not None else None
                if learner is not None and asked is Asked.LEARNT:
                    self._follow(learner)
                    self._tell(self.level.begin(at, packet))
                    log.info(
                        "a proxy was learnt",
                        extra={"proxy": packet.dst_ip, "port": packet.dst_port, "client_port": packet.src_port},
                    )
                elif asked is not None:
                    self._tell(self.level.single(at, packet, is_first=asked is Asked.NO_ROOM))
                said = self.level.packet(at, packet)
                if said:
                    self._tell(said)
                if packet.flags & RST and self._enforcer is not None:
                    self._enforcer.reset(packet)

    def _tell(self, said: list[Said]) -> None:
        if self._enforcer is not None and said:
            if self._enforcer.mode is ProtectionMode.OFF:
                return
            with self._errors:
                self._enforcer.heard(said)
        for one_said in said:
            with self._errors:
                if one_said.kind is Kind.REQUEST:
                    continue
                line = line_of(one_said, self._device)
                if self._enforcer is None or not self._enforcer.keeps(one_said, line):
                    self._queue.put(line, "sensor")
                    self.lines += 1

    def _look_at(self, learner: Learner) -> None:
        if learner.forget(time.time_ns() // 1_000):
            self._follow(learner)
        if learner.no_room > 2 * self._told_no_room:
            log.warning("a proxy was not learnt, too many are in use", extra={"so_far": learner.no_room})
            self._told_no_room = learner.no_room

    def _follow(self, learner: Learner) -> None:
        self._capture.follow(learner.last)
        if self._enforcer is not None:
            self._enforcer.go_to(learner.proxies)

    def _look(self) -> None:
        if self._learner is not None:
            self._look_at(self._learner)
        lost = self._capture.look()
        if lost > self._told:
            log.error("packets were lost", extra={"packets": lost})
            self._told = lost
