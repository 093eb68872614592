"""Replay of recorded files through the same pipeline as in a worker, with files instead of topics."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import IO, TYPE_CHECKING

from common.throttle import Throttle
from schemas.events import Reject
from schemas.settings import Settings
from unproxy.errors import Damaged, Fixable
from unproxy.output import below, printable_json

if TYPE_CHECKING:
    from streams.pipeline import Output
    from unproxy.offline.backtest import Judge

PROGRESS_SECS = 0.5
MESSAGE_LINES_MAX = 200

FLAT = ("read", "parsed", "connections", "waiting", "rows")
BY_KIND = ("ignored", "rejected", "resolved", "unresolved")


@dataclass(slots=True)
class Outputs:
    """The file of each kind of output; None if that kind is discarded."""

    rows: IO[bytes] | None = None
    alerts: IO[bytes] | None = None
    events: IO[bytes] | None = None
    rejects: IO[bytes] | None = None
    first_reject: Reject | None = field(default=None, init=False)

    @classmethod
    @contextmanager
    def opened(cls, rows: str, *others: Path | None) -> Iterator[Outputs]:
        """Open the files within the context. `rows` may be "-" for stdout, or "" to discard them.

        `others` are the files for alerts, events and rejects. Raises Fixable if a file cannot be written.
        """
        with ExitStack() as stack:
            files = [stack.enter_context(_create(path)) if path else None for path in others]
            if rows == "-":
                yield cls(sys.stdout.buffer, *files)
                sys.stdout.buffer.flush()
            else:
                yield cls(stack.enter_context(_create(Path(rows))) if rows else None, *files)

    def write(self, made: Output) -> None:
        """Write the output of a pipeline as JSON lines."""
        if self.rows:
            self.rows.writelines(printable_json(row) + b"\n" for row in made.network_events)
        if self.events:
            self.events.writelines(printable_json(row) + b"\n" for row in made.device_events)
        if self.alerts:
            self.alerts.writelines(printable_json(alert) + b"\n" for _, alert in made.alerts)
        for reject in made.rejects:
            self.reject(reject)

    def reject(self, reject: Reject) -> None:
        """Write a rejected line with its bytes."""
        self.first_reject = self.first_reject or reject
        if self.rejects:
            self.rejects.write(json.dumps(as_object(reject)).encode() + b"\n")


def apart(sources: Sequence[str], outputs: Sequence[Path | None]) -> None:
    """Raise Fixable if an output is also an input or another output, because content would be overwritten."""
    written = [path.resolve() for path in outputs if path is not None and not path.is_char_device()]
    for path in written:
        if written.count(path) > 1:
            raise Fixable(f"{path}: is named for two outputs; name a file for each")
        if any(path == Path(match).resolve() for text in sources for match in glob(text.partition(":")[2])):
            raise Fixable(f"{path}: is read, and would be overwritten; name another file for the output")


def as_object(reject: Reject) -> dict[str, str]:
    """Return a reject as an object for JSON."""
    return {
        "reason": str(reject.reason),
        "detail": reject.detail,
        "dialect": reject.dialect,
        "device": reject.device,
        "raw_base64": base64.b64encode(reject.raw).decode("ascii"),
    }


@dataclass(slots=True)
class Summary:
    """The counts of a replay."""

    book: Mapping[str, int]
    """The pipeline's counts, with names such as `ignored:dns`."""
    rows: int
    seconds: float
    too_long: int = 0
    damage: str = ""
    """Description of the parts of files that could not be read."""
    first_reject: Reject | None = None
    dialects: Mapping[str, int] = field(default_factory=dict)
    """Number of lines by dialect; `auto` counts lines that no dialect claims."""
    identified: Mapping[str, int] = field(default_factory=dict)
    """Number of lines by how their device was found."""
    learnt: Mapping[str, int] = field(default_factory=dict)
    """Number of addresses that devices report as their own; empty without learning.

    `learnt` are addresses that one device reports, `ambiguous` those that several devices report.
    """
    flat: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Divide the counts of the book into `flat` and `by_kind`: `ignored:dns` is the kind `dns` of `ignored`."""
        self.flat = {name: self.book.get(name, 0) for name in FLAT}
        for family in BY_KIND:
            kinds = {key.partition(":")[2]: n for key, n in self.book.items() if key.startswith(f"{family}:") and n}
            self.by_kind[family] = dict(sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0])))
        if self.too_long:
            rejected = self.by_kind["rejected"]
            rejected["too_long"] = rejected.get("too_long", 0) + self.too_long
            self.flat["read"] += self.too_long

    def nothing_read(self) -> str:
        """Return a message if all lines were rejected, probably because of a wrong dialect; "" if a line could be read."""
        if self.first_reject is None or self.flat["parsed"] or self.by_kind["ignored"]:
            return ""
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in self.by_kind["rejected"].items())
        first = self.first_reject
        return f"none of the lines could be read ({kinds}); the first one, as {first.dialect}: {first.detail}"

    def as_object(self) -> dict[str, object]:
        """Return the object that `--summary` writes."""
        return {
            "read": self.flat["read"],
            "dialects": self.dialects,
            "identified": self.identified,
            "addresses": self.learnt,
            "parsed": self.flat["parsed"],
            "ignored": self.by_kind["ignored"],
            "rejected": self.by_kind["rejected"],
            "connections": self.flat["connections"],
            "resolved": self.by_kind["resolved"],
            "unresolved": self.by_kind["unresolved"],
            "waiting": self.flat["waiting"],
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
        }

    def write(self, path: Path) -> None:
        """Write the summary to a file as JSON."""
        with _create(path) as file:
            file.write(json.dumps(self.as_object(), indent=2).encode() + b"\n")

    def in_words(self) -> list[str]:
        """Return the summary as lines of text."""
        by = self.by_kind
        read, seconds = self.flat["read"], max(self.seconds, 1e-6)
        return [
            f"read         {read:>10,} lines in {self.seconds:.2f} s ({read / seconds:,.0f} lines/s)",
            f"dialects     {len(self.dialects):>10,}{_kinds(self.dialects)}",
            f"devices      {self.book.get('devices', 0):>10,}{_kinds(self.identified, 'lines ')}",
            *([f"addresses    {_sum(self.learnt):>10,}{_kinds(self.learnt)}"] if self.learnt else []),
            f"parsed       {self.flat['parsed']:>10,}",
            f"ignored      {_sum(by['ignored']):>10,}{_kinds(by['ignored'])}",
            f"rejected     {_sum(by['rejected']):>10,}{_kinds(by['rejected'])}",
            f"connections  {self.flat['connections']:>10,}",
            f"resolved     {_sum(by['resolved']):>10,}{_kinds(by['resolved'])}",
            f"unresolved   {_sum(by['unresolved']):>10,}{_kinds(by['unresolved'])}",
            *([f"waiting      {self.flat['waiting']:>10,}"] if self.flat["waiting"] else []),
            f"rows         {self.rows:>10,} ({self.rows / seconds:,.0f} rows/s)",
        ]


def _sum(kinds: Mapping[str, int]) -> int:
    return sum(kinds.values())


def _kinds(kinds: Mapping[str, int], of: str = "") -> str:
    return f"  {of}" + ", ".join(f"{name} {count:,}" for name, count in kinds.items()) if kinds else ""


def run(settings: Settings, files: Sequence[str], outputs: Outputs, judges: Sequence[Judge] = ()) -> Summary:
    """Pass the lines of the files, merged by arrival time, through a pipeline; return the summary.

    With judges (pipelines with other indicators), the lines pass through the pipeline of each judge instead. Only the
    output of the first pipeline is written to `outputs` and counted in the summary.

    Raises SourceError if an input is invalid or missing. Damage within an input is reported in the summary.
    """
    from producers.publish.report import Report
    from unproxy import wiring

    pipelines = [judge.pipeline for judge in judges] or [wiring.pipeline(settings)]

    def pour() -> int:
        made = [pipeline.drain() for pipeline in pipelines]
        for judge, its in zip(judges, made, strict=False):
            judge.keep(its)
        outputs.write(made[0])
        return len(made[0].network_events)

    progress = Progress.for_terminal()
    begun = time.monotonic()
    lines = rows = too_long = 0
    by_dialect: Counter[str] = Counter()
    found = Report()
    damage = ""
    try:
        for message in wiring.recorded_messages(settings, files, MESSAGE_LINES_MAX, found, progress.learning):
            if isinstance(message, Reject):
                too_long += 1
                by_dialect[message.dialect] += 1
                outputs.reject(message)
                continue
            for pipeline in pipelines:
                pipeline.take(message)
            count = message.value.count(b"\n") + 1
            lines += count
            by_dialect[message.dialect] += count
            rows += pour()
            progress(lines, rows)
    except Damaged as error:
        damage = str(error)
    for pipeline in pipelines:
        pipeline.finish()
    rows += pour()
    progress.end()
    return Summary(
        pipelines[0].book(),
        rows,
        time.monotonic() - begun,
        too_long,
        damage,
        outputs.first_reject,
        dict(by_dialect.most_common()),
        {str(how): count for how, count in found.identified.most_common()},
        dict(found.learnt),
    )


def _create(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise Fixable(f"{path}: cannot be written: {error.strerror}; name another file") from None


class Progress:
    """A line of progress on a terminal, rewritten at a limited rate."""

    def __init__(self, write: Callable[[str], object] | None) -> None:
        self._write = write
        self._begun = time.monotonic()
        self._throttle = Throttle(PROGRESS_SECS, at_once=False)
        self._shown = False

    @classmethod
    def for_terminal(cls) -> Progress:
        """Return a progress line that writes nothing unless stderr is a terminal."""
        return cls(below(sys.stderr).write if sys.stderr.isatty() else None)

    def __call__(self, lines: int, rows: int) -> None:
        """Show the number of lines read and rows made so far."""
        if self._due():
            rate = lines / (time.monotonic() - self._begun)
            self._show(f"{lines:,} lines, {rows:,} rows, {rate:,.0f} lines/s")

    def learning(self, done: int, of: int) -> None:
        """Show the progress of learning the devices' addresses: `done` of `of` bytes are read."""
        if self._due():
            self._show(f"learning addresses, {min(done / max(of, 1), 1):.0%} of {of:,} bytes read")

    def _due(self) -> bool:
        return self._write is not None and self._throttle.due()

    def _show(self, text: str) -> None:
        assert self._write is not None, "called only when due"
        self._shown = True
        self._write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._write is not None and self._shown:
            self._write("\r\x1b[K")
