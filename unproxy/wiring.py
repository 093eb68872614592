"""Connects producers, streams and sinks for the commands.

    producers ──► topic telemetry ──► streams ──► result topics ──► sinks
        └──────────── recorded_messages ──┘  (replay: no topics between them)

The packages are imported inside the functions, so that a command loads only the packages that it needs.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from common.throttle import Throttle
from schemas.events import Reason, Reject
from schemas.logins import masked
from schemas.settings import Settings
from unproxy.errors import Damaged, Failed, Fixable
from unproxy.options import stop_asked

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from producers.publish.report import Report
    from producers.sensor.http.observer import Plan
    from producers.sources.source import Source
    from streams.indicators.index import IndicatorSet
    from streams.pipeline import Message, Pipeline

log = logging.getLogger(__name__)

T = TypeVar("T")

REPORT_SECS = 5.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def sources(files: Sequence[str], *, network: bool = False) -> list[Source]:
    """Return the sources that the command line names. `network` allows network sources.

    Raises SourceError if a source is invalid, or if a file is missing or unreadable.
    """
    from producers.sources.endpoint import EXAMPLES
    from producers.sources.source import STDIN, SourceError, parse_source

    parsed = [parse_source(text) for text in files]
    for source in parsed:
        if source.endpoint is not None:
            if not network:
                raise SourceError(f"{source.path}: is no file; `unproxy produce` takes what comes over the network")
            continue
        if _URL.match(source.path) and not Path(source.path).exists():
            known = ", ".join(EXAMPLES.values())
            raise SourceError(
                f"{source.path}: neither a file nor something that is listened to; write a path, or {known}"
            )
        paths = source.paths()
        if not paths:
            raise SourceError(f"{source.path}: no file matches")
        for path in paths:
            if path != STDIN and not os.access(path, os.R_OK):
                raise SourceError(f"{path}: is not there or cannot be read; name another file")
    return parsed


def run_producer(
    settings: Settings, files: Sequence[str], *, follow: bool, device: str, speed: float, report_file: Path | None
) -> int:
    """Publish the lines of files until the files end, or until SIGTERM or SIGINT; return the exit code.

    Raises SourceError, Failed if Kafka does not accept the lines, and Damaged at the end if part of a file is unreadable.
    """
    from producers.publish.publisher import PublisherFailed
    from producers.run import produce

    try:
        with stop_asked() as stop:
            done = produce(
                settings,
                sources(files, network=True),
                stop=stop,
                follow=follow,
                device=device,
                speed=speed or None,
                progress=report_to(report_file),
            )
    except PublisherFailed as error:
        raise Failed(str(error)) from None
    _write_report(report_file, done, finished=not stop.is_set())
    log.info(
        "published",
        extra={
            "lines": done.lines,
            "dialects": dict(done.by_dialect),
            "identified": {str(how): count for how, count in done.identified.items()},
            "addresses": dict(done.learnt),
            "bytes": done.bytes,
            "messages": done.acknowledged_messages,
            "cut": done.too_long,
            "not_allowed": done.not_allowed.total(),
        },
    )
    if done.bytes_before and not done.lines:
        log.warning(
            "nothing is new: all of it was published before; to publish it again, or to another Kafka, set publisher.state_dir",
            extra={"bytes": done.bytes_before, "state_dir": settings.publisher.state_dir},
        )
    if done.unacknowledged_messages:
        log.warning("not acknowledged, sent again next time", extra={"messages": done.unacknowledged_messages})
    if done.damage:
        raise Damaged(done.damage)
    return 0


def run_sensor(
    settings: Settings,
    plan: Plan,
    *,
    out: str | None,
    device: str,
    place: Path | None,
    command_lines: bool,
    stop: Event,
) -> int:
    """Watch this machine's connections until `stop` is set; return the exit code.

    The lines are written to the file `out` ("-" is stdout); if it is None, they are published to Kafka.
    """
    from producers.publish.publisher import PublisherFailed
    from producers.sensor.run import publish, sensing, write

    with _lines_to(out) as file, sensing(device, place=place, command_lines=command_lines, plan=plan) as sensor:
        log.info(
            "sensor started",
            extra={
                "device": sensor.device,
                "clock_error_ns": sensor.clock.distance.error_ns,
                "mode": sensor.enforcement.mode if sensor.enforcement else "no proxies known",
                "proxies": ",".join(f"{ip}:{port}" for ip, port in plan.proxies) if plan.listens else "",
                "learns": plan.listens and plan.learns,
            },
        )
        try:
            if file is not None:
                write(sensor, file, stop)
            else:
                publish(sensor, settings, stop)
        except PublisherFailed as error:
            raise Failed(str(error)) from None
        finally:
            sensor.stop()
            log.info("sensor stopped", extra=sensor.summary())
    return 0


@contextmanager
def _lines_to(out: str | None) -> Iterator[BinaryIO | None]:
    """Yield the file to which lines are appended; stdout for "-", None for None. Raises Fixable.

    Only the owner may read the file, because command lines may hold secrets.
    """
    if out is None:
        yield None
    elif out == "-":
        yield sys.stdout.buffer
    else:
        try:
            handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Fixable(f"{out}: cannot be written: {error.strerror}; name another file with --out") from None
        with open(handle, "ab") as file:
            yield file


def grant_problems(settings: Settings) -> Iterator[str]:
    """Yield a message about each grant of a sender that can never match, with the correction."""
    from producers.identity.files import IdentityFiles
    from producers.sources.grants import Grants, wrong_names
    from producers.sources.source import SourceError

    for name, first in Grants(settings.inputs).hidden():
        yield f'{name}: "{first}" matches all of its clients first; write {name} before it, or narrow "{first}"'
    try:
        table = IdentityFiles(settings.identity, time.monotonic).table
    except SourceError:
        return  # another check reports the wrong identity file
    for name, device, right in wrong_names(settings.inputs, lambda name: table.find(name, lambda: 0).device):
        yield f'{name}: no line is about "{device}", as its DeviceId is "{right}"; write that'


def report_to(file: Path | None) -> Callable[[Report], None]:
    """Return a callback that logs a report every `REPORT_SECS` seconds, and writes each report to `file` if it is given."""
    throttle = Throttle(REPORT_SECS)

    def progress(report: Report) -> None:
        _write_report(file, report, finished=False)
        if throttle.due():
            log.info(
                "publishing",
                extra={
                    "lines": report.lines,
                    "dialects": dict(report.by_dialect),
                    "messages": report.acknowledged_messages,
                },
            )

    return progress


def _write_report(file: Path | None, report: Report, *, finished: bool) -> None:
    """Replace the report in a file, which `up` reads; do nothing if `file` is None."""
    import msgspec

    if file is None:
        return
    content = {
        "lines": report.lines,
        "dialects": dict(report.by_dialect),
        "bytes": report.bytes,
        "messages": report.messages,
        "acknowledged": report.acknowledged_messages,
        "too_long": report.too_long,
        "damage": report.damage,
        "finished": finished,
    }
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(content))
    fresh.replace(file)


def until_signal(settings: Settings, run: Callable[[Settings, Event], None]) -> int:
    """Run a sink or a forwarder until SIGTERM or SIGINT; return the exit code. Raises Failed and SettingsError."""
    from sinks.base import SinkError

    try:
        with stop_asked() as stop:
            run(settings, stop)
    except SinkError as error:
        raise Failed(str(error)) from None
    return 0


def pipeline(settings: Settings, indicators: IndicatorSet | None = None) -> Pipeline:
    """Return a pipeline such as a worker has for each partition, with these indicators instead of those on the topic."""
    from streams.alerts.policy import Policy
    from streams.pipeline import Pipeline

    return Pipeline(settings.correlation, Policy(settings.protection, indicators))


def recorded_messages(
    settings: Settings,
    files: Sequence[str],
    lines_max: int,
    found: Report,
    learning: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Message | Reject]:
    """Yield the messages that a producer would make of recorded files, and a reject for each line that is too long.

    The lines of a device keep their order; consecutive lines of one device and dialect become one message. `found` counts
    how the device of each line was found, and the addresses of devices that were learnt for this. During a learning run
    through the files, which comes first, `learning` is called with the number of bytes read and of all bytes.

    Raises SourceError, and Damaged after all other lines if part of a file is unreadable.
    """
    from producers.files.replay import replay
    from producers.identity.devices import Devices
    from producers.identity.learning import Learning
    from producers.sources.source import SourceDamaged
    from unproxy.recorded_messages import Grouping

    recorded, line_bytes_max = sources(files), settings.publisher.line_bytes_max
    devices = Devices(
        settings.identity,
        found.identified,
        clock=time.monotonic,
        learning=Learning(recorded, line_bytes_max=line_bytes_max, progress=learning),
        learnt=found.learnt,
    )
    grouping = Grouping(lines_max)
    damage = ""
    try:
        for line in replay(recorded, line_bytes_max=line_bytes_max):
            named = devices.of(line)
            if line.too_long:
                yield Reject(Reason.TOO_LONG, line.too_long, masked(line.value), line.dialect, named.device)
            else:
                yield from grouping.add(line, named.device, named.names_device)
    except SourceDamaged as error:
        damage = str(error)
    yield from grouping.drain()
    if damage:
        raise Damaged(damage)


def migrate(settings: Settings) -> list[str]:
    """Apply the missing migrations; return the titles of the migrations and the names of the recreated views."""
    import sinks.migrate

    return on_tables(settings, sinks.migrate.migrate)


def on_tables(settings: Settings, step: Callable[[Client, str], list[T]]) -> list[T]:
    """Run a function of `sinks.migrate` or `sinks.retention` on these tables, return its result. Raises Failed, Fixable."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from sinks.base import SinkError
    from sinks.clickhouse import connect
    from unproxy.query.client import of_settings, readable

    of_settings(settings).ping()
    try:
        client = connect(settings.clickhouse)
        try:
            return step(client, settings.clickhouse.database)
        finally:
            client.close()
    except SinkError as error:
        raise Fixable(str(error)) from None
    except ClickHouseError as error:
        raise Failed(f"{settings.clickhouse.url}: {readable(str(error))}") from None
