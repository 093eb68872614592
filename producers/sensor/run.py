"""The running sensor: one thread reads the kernel's buffer and /proc; the caller writes or publishes the lines.

The thread never waits for the caller, because /proc entries are short-lived and the kernel's buffer is small. Lines wait in
a bounded queue; when it is full, new lines are dropped. An error in one record skips that record. Every loss is counted.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import schemas.metrics as declared
from common.exporter import Family, by_label, one
from producers.publish.report import Report
from producers.run import publish as publish_lines
from producers.sensor.enforce.mode import Enforcement
from producers.sensor.errors import Errors
from producers.sensor.http.capture import capturing
from producers.sensor.http.learning import Learner
from producers.sensor.http.observer import CaptureReader, Plan, level_of, level_of_all
from producers.sensor.kernel import tracefs
from producers.sensor.kernel.byte_counts import WAIT_NS, Counts
from producers.sensor.kernel.clock import Clock, measured
from producers.sensor.kernel.connections import Connections
from producers.sensor.kernel.order import Ordered
from producers.sensor.kernel.processes import EXEC_NS, Processes, Who
from producers.sensor.kernel.sock_diag import Ended, Ends
from producers.sensor.kernel.socket_lines import line_of
from producers.sensor.kernel.trace_ring import SYN_SENT, Change, Leaving, Program, Record, Task
from producers.sensor.kernel.tracefs import SensorError
from producers.sensor.privileges import Capability, keep_only, prioritised
from producers.sensor.queue import QUEUE_BYTES_MAX, Queue
from producers.sources.failures import DialectFailures
from producers.sources.source import SENSOR, Line, SourceFile
from schemas.events import device_name_problem
from schemas.parsers import dialects
from schemas.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECS = 1.0
"""Interval between two checks of the kernel's counters and the clocks."""
TAKE_SECS = 0.05
"""Interval at which `write` takes the queued lines."""
HELD_SECS = 0.001
"""Poll timeout while records are held back because older ones may still arrive."""
STABLE_NS = 100_000
"""Age at which a record is certainly readable. The kernel stamps a record before it is readable, mostly by less than 1 µs."""
LAST_SECS = 2.0
"""How long a stop reads the remaining lines. Then the publisher waits for Kafka, as for any source that cannot be read again."""
PAGE_BYTES = 65_536
ROUND_PAGES_MAX = 16
"""Pages per CPU and round. The limit bounds a round's duration and memory at any record rate."""
LAST_PAGES_MAX = tracefs.BUFFER_KB_MAX * 1_024 // mmap.PAGESIZE
"""Pages per CPU in the last round: the capacity of the CPU's buffer."""
NO_HTTP = Plan()
SOCKETS, HTTP = "sockets", "sensor"
"""The dialects of the lines: endpoint records of connections, and HTTP events and verdicts on them."""


class Sensor:
    """The sensor of a device. From `start` until `stop`, its threads read the kernel's records and put lines into `queue`.

    Any thread may read its counters at any time.
    """

    def __init__(
        self,
        instance: tracefs.Instance,
        device: str,
        *,
        command_lines: bool = True,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self._instance, self.device = instance, device
        self.clock = Clock(measured())
        exec_ns = 0 if instance.layout.leaving_name is not None else EXEC_NS
        self.processes = Processes(command_lines=command_lines, exec_ns=exec_ns)
        self.connections = Connections(self._process_of)
        self._ordered: Ordered[Change | Program] = Ordered()
        self._begun: Ordered[Task | Program | Leaving] = Ordered()
        self.counts, self._ends = Counts(), Ends()
        self.queue = Queue(queue_bytes_max)
        self.errors = Errors("a record of the kernel's")
        self.lines = 0
        self.lost = 0
        """Records that the kernel dropped because its buffer was full."""
        self.process_gone = 0
        """Lines without a process name, or whose process had ended before /proc was read."""
        self.capture_reader: CaptureReader | None = None
        """The HTTP level; None when it is not configured."""
        self.enforcement: Enforcement | None = None
        self._failure: BaseException | None = None
        self._reported = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="sensor", daemon=True)

    @property
    def failure(self) -> BaseException | None:
        """Return the exception that ended one of the sensor's threads, or None."""
        return self._failure or (self.capture_reader.failure if self.capture_reader is not None else None)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        if self.capture_reader is not None:
            self.capture_reader.start()

    def stop(self) -> None:
        """Read the available records and end the threads."""
        if self.capture_reader is not None:
            self.capture_reader.stop()
        with suppress(BlockingIOError):  # the pipe is full, so a stop was requested already
            os.write(self._wake_write, b".")
        self._thread.join()

    def close(self) -> None:
        """Stop and release all resources."""
        self.stop()
        if self.capture_reader is not None:
            self.capture_reader.close()
        self._ends.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def families(self) -> Iterator[Family]:
        """Yield the Prometheus metrics."""
        connections = self.connections
        yield by_label(
            declared.SENSOR_CONNECTIONS,
            {"attempted": connections.attempts, "established": connections.established, "failed": connections.failed,
             "closed": connections.closed},
        )  # fmt: skip
        yield one(declared.SENSOR_OPEN, len(connections))
        yield by_label(
            declared.SENSOR_LOST,
            {"kernel_buffer": self.lost, "queue": self.queue.dropped, "too_many_open": connections.forgotten,
             "unpaired": connections.unpaired, "unended": connections.unended, "process_gone": self.process_gone,
             "ends": self._ends.lost, "bytes": self.counts.unmet + self._ends.without_bytes, "error": self._skipped,
             **(self.capture_reader.lost() if self.capture_reader is not None else {})},
        )  # fmt: skip
        yield one(declared.SENSOR_CLOCK_JUMPS, self.clock.jumps)
        if self.capture_reader is not None:
            yield from self.capture_reader.families()
        if self.enforcement is not None:
            yield from self.enforcement.families()

    def summary(self) -> dict[str, int]:
        """Return the totals for the final log message."""
        connections = self.connections
        return {
            "attempts": connections.attempts,
            "established": connections.established,
            "failed": connections.failed,
            "closed": connections.closed,
            "lines": self.lines,
            "lost_in_kernel": self.lost,
            "lost_in_queue": self.queue.dropped,
            "unpaired": connections.unpaired,
            "processes_gone": self.process_gone,
            "skipped_after_errors": self._skipped,
            **(self.capture_reader.summary() if self.capture_reader is not None else {}),
            **(self.enforcement.summary() if self.enforcement is not None else {}),
        }

    @property
    def _skipped(self) -> int:
        """Return the number of records, packets and requests that were skipped after an error."""
        count = self.errors.count
        if self.capture_reader is not None:
            count += self.capture_reader.skipped
        if self.enforcement is not None:
            count += self.enforcement.skipped
        return count

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that takes the lines
            self._failure = error

    def _read(self) -> None:
        with select.epoll() as poll:
            for handle in (*self._instance.pipes, self._ends.fileno(), self._wake_read):
                poll.register(handle, select.EPOLLIN)
            look_at = 0.0
            asked = False
            while not asked:
                ready = poll.poll(HELD_SECS if self._ordered or self._begun else LOOK_SECS)
                asked = any(handle == self._wake_read for handle, _ in ready)
                if asked:
                    # Take twice, so that the processes of all records are looked up before the last round reports them.
                    self._take(last=False)
                    time.sleep(HELD_SECS)
                self._take(last=asked)
                now = time.monotonic()
                if now >= look_at or asked:
                    look_at = now + LOOK_SECS
                    self._look()

    def _take(self, last: bool) -> None:
        known_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - STABLE_NS
        records: list[Record] = []
        for pipe in self._instance.pipes:
            read, is_drained = self._records_of(pipe, LAST_PAGES_MAX if last else ROUND_PAGES_MAX)
            records += read
            if not is_drained and read:
                # The next records of this CPU may be older than those already read from other CPUs.
                known_ns = min(known_ns, read[-1].at_ns)
        ends = list(self._ends.take())
        begun = [record for record in records if not isinstance(record, Change)]
        for begin in self._begun.take(begun, None if last else known_ns):
            with self.errors:
                self._begin(begin)
        # Set this after the loop: by now all starts of processes and programs up to this time are applied.
        self.processes.known_ns = known_ns
        until_ns = None if last else self.processes.stable_ns()
        followed = [record for record in records if isinstance(record, Change | Program)]
        # Catch all errors here, so that the next records are read.
        with self.errors:
            self._report(self._ordered.take(followed, until_ns), ends, last)

    def _records_of(self, pipe: int, pages_max: int) -> tuple[list[Record], bool]:
        """Read up to `pages_max` pages of a CPU; return the records and whether the buffer is drained."""
        records: list[Record] = []
        with suppress(BlockingIOError):
            for _ in range(pages_max):
                page = os.read(pipe, PAGE_BYTES)
                if not page:
                    return records, True
                with self.errors:
                    for record in self._instance.layout.records(page):
                        records.append(record)
                        if isinstance(record, Change) and record.new != SYN_SENT:
                            continue
                        with self.errors:
                            self.processes.see(record)
            return records, False
        return records, True

    def _begin(self, record: Task | Program | Leaving) -> None:
        if isinstance(record, Task):
            self.processes.began(record)
        elif isinstance(record, Leaving):
            self.processes.leaves(record)
        else:
            self.processes.runs(record)

    def _report(self, records: list[Change | Program], ends: list[Ended], last: bool) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        reported = self.counts.take(self.connections.take(records, self.clock.distance.ns), now_ns) if records else []
        reported += self.counts.ended(ends, now_ns)
        reported += self.counts.due(now_ns + WAIT_NS if last else now_ns)
        for connection in reported:
            with self.errors:
                self.queue.put(line_of(connection, self.device), SOCKETS)
                self.lines += 1
                who = connection.who
                self.process_gone += who is None or not who.name or who.ended

    def _process_of(self, thread: int, at_ns: int) -> Who | None:
        with self.errors:
            return self.processes.of(thread, at_ns)
        return None

    def _look(self) -> None:
        jumped = self.clock.look(measured())
        if jumped:
            log.warning("the wall clock was set", extra={"by_secs": round(jumped / 1e9, 6)})
        lost = self._instance.lost()
        if lost > self.lost:
            self.processes.forget()
        self.lost = lost
        gone = self.lost + self.queue.dropped
        if gone > self._reported:
            log.error("connections were lost", extra={"in_kernel": self.lost, "in_queue": self.queue.dropped})
            self._reported = gone


@contextmanager
def sensing(
    device: str = "",
    *,
    place: Path | None = None,
    command_lines: bool = True,
    buffer_kb: int = tracefs.BUFFER_KB,
    plan: Plan = NO_HTTP,
) -> Iterator[Sensor]:
    """Run a sensor inside the block and remove everything from the kernel afterwards. Raises SensorError.

    `device` is the host name by default, `place` the directory of tracefs. The process gives up most of its capabilities
    permanently.
    """
    name = device or socket.gethostname()
    if problem := device_name_problem(name):
        raise SensorError(f"{problem}; give another name with --device")
    with ExitStack() as undo:
        ports = {port for _, port in plan.proxies}
        capture = undo.enter_context(capturing(ports, learns=plan.learns)) if plan.listens else None
        learner = Learner(plan.proxies, plan.denied) if plan.learns else None
        instance = undo.enter_context(tracefs.opened(tracefs.place(place), buffer_kb))
        sensor = Sensor(instance, name, command_lines=command_lines)
        with prioritised():
            # At this point all sockets are open and no thread has started.
            keep_only([Capability.SYS_PTRACE] if plan.mode is None else [Capability.SYS_PTRACE, Capability.NET_ADMIN])
            if plan.mode is not None:
                holds_all = learner is not None and plan.hold_unknown
                sensor.enforcement = undo.enter_context(
                    Enforcement(
                        sensor.device, lambda line: sensor.queue.put(line, HTTP), mode=plan.mode, mode_file=plan.mode_file,
                        list_path=plan.list_path, proxies=plan.proxies,
                        events=lambda: (level_of_all(plan) if holds_all else level_of(plan, learner)).packet,
                        is_proxied=learner.is_asked if learner is not None and holds_all else None,
                        block_unreadable=plan.block_unreadable,
                    )
                )  # fmt: skip
            if capture is not None:
                sensor.capture_reader = CaptureReader(
                    capture, plan, sensor.queue, sensor.device, sensor.enforcement, learner
                )
            sensor.start()
        try:
            yield sensor
        finally:
            sensor.close()


def write(sensor: Sensor, out: BinaryIO, stop: threading.Event) -> None:
    """Write the sensor's lines to `out` until `stop` is set."""
    asked = False
    while not asked:
        asked = stop.wait(TAKE_SECS)
        if asked:
            sensor.stop()
        lines = _taken(sensor)
        if lines:
            out.write(b"\n".join(line for _, line in lines) + b"\n")
            out.flush()


def publish(sensor: Sensor, settings: Settings, asked: threading.Event) -> Report:
    """Publish the sensor's lines until `asked` is set, then the remaining ones for up to `LAST_SECS` seconds.

    Raises SensorError, and what `producers.run.publish` raises.
    """
    stop = threading.Event()

    def give_up() -> None:
        asked.wait()
        stop.wait(LAST_SECS)
        stop.set()

    watch = threading.Thread(target=give_up, name="sensor-stop", daemon=True)
    watch.start()
    try:
        failures = DialectFailures()
        lines = _lines_of(sensor, asked, failures)
        return publish_lines(settings, lines, stop=stop, families=sensor.families, failures=failures)
    except PermissionError as error:
        raise SensorError(
            f"{error.filename or 'publisher'}: {error.strerror}; the sensor has given up the right to pass by permissions:"
            " let publisher.state_dir belong to root"
        ) from None
    finally:
        asked.set()
        stop.set()
        watch.join()


def _lines_of(sensor: Sensor, asked: threading.Event, failures: DialectFailures) -> Iterator[Line | None]:
    """Yield the sensor's lines for the publisher, and None after each batch; after `asked`, yield the remaining lines."""
    known = {name: dialects()[name] for name in (SOCKETS, HTTP)}
    sensor_name = f"{socket.gethostname()}:{SENSOR}"
    files = {name: SourceFile(name, SENSOR, sensor_name, once=True) for name in known}
    last = False
    while not last:
        last = asked.is_set()
        if last:
            sensor.stop()
        for name, line in _taken(sensor):
            yield Line(name, sensor_name, line, files[name], 0, 0, failures.written_at(known[name], line))
        yield None


def _taken(sensor: Sensor) -> list[tuple[str, bytes]]:
    """Take the queued lines; raise the exception that ended a thread, if there is one."""
    if sensor.failure is not None:
        raise sensor.failure
    return sensor.queue.take()
