"""Files of the identity table: names and leases as JSON lines or CSV, reloaded when they change.

    {"device": "ws-042", "address": "10.0.3.17", "from": "2026-11-24T08:00:00Z", "until": "2026-11-24T16:00:00Z"}

    device,name,address,from,until
    ws-042,3f9a1c6e2b8d4f70a5e1c9b3d7f2a6e4c8b0d1f5,,,

An invalid line is logged and skipped. A last line without newline is still being written and is read the next time.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from producers.identity.table import ALWAYS, Entry, IdentityTable
from producers.sources.source import SourceError, file_stamp
from schemas.address import canonical_ip
from schemas.clock import LATEST, MICROS, parse_micros
from schemas.events import DEVICE_CHARS_MAX, Micros
from schemas.sections.inputs import IdentitySettings

log = logging.getLogger(__name__)

COLUMNS = ("device", "name", "address", "from", "until")
ENTRIES_MAX = 2_000_000
"""Largest number of entries per file, at some 500 bytes each."""
LOOK_SECS = 0.5
"""Interval of checks for changed files. A line that is read before its lease has its address as the device."""
LOOK_SHARE_MAX = 0.05
"""Largest share of the time spent reloading, whatever the size of the files."""
REPORTED_MAX = 20
"""Largest number of invalid lines of a file that are logged."""


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    device: str
    name: str = ""
    address: str = ""
    since: str | int | float | None = msgspec.field(default=None, name="from")
    until: str | int | float | None = None


_LINE = msgspec.json.Decoder(_Line)


class IdentityFiles:
    """The builder of the identity table, from the settings and from the identity files that they name.

    The constructor raises SourceError if a file cannot be read.
    """

    def __init__(self, settings: IdentitySettings, clock: Callable[[], float]) -> None:
        self._settings, self._clock = settings, clock
        self._stamps: dict[str, tuple[int, int, int, int] | None] = {}
        self._complained = ""
        self._look_at = 0.0
        self.unusable = 0
        """Number of invalid lines in all files at the last read."""
        self.table = self._read()

    def look(self, now: float) -> bool:
        """Reload the files if one of them changed; return whether there is a new table.

        If a file cannot be read, the previous table stays in use.
        """
        if now < self._look_at or not self._settings.files:
            return False
        self._look_at = now + LOOK_SECS
        if self._stamps == {path: file_stamp(path) for path in self._settings.files}:
            return False
        try:
            self.table = self._read()
        except SourceError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                what = "identity file cannot be read, the table stays as it was"
                log.error(what, extra={"error": str(error)})  # noqa: TRY400  # an error in the file needs no traceback
            return False
        self._complained = ""
        self._look_at = self._clock() + max(LOOK_SECS, (self._clock() - now) / LOOK_SHARE_MAX)
        log.info("identity table was read again", extra={"unusable": self.unusable})
        return True

    def _read(self) -> IdentityTable:
        # Stamps are taken before reading, so that a change in between causes another read.
        stamps = {path: file_stamp(path) for path in self._settings.files}
        entries, unusable = list(_of_settings(self._settings)), 0
        for path in self._settings.files:
            found, left_out = read_file(path)
            entries += found
            unusable += left_out
        table = IdentityTable(entries, self._settings.domains)
        self._stamps, self.unusable = stamps, unusable
        return table


def read_file(path: str) -> tuple[list[Entry], int]:
    """Return the entries of a file and the number of its invalid lines, which are logged.

    Raises SourceError if the file cannot be read, is not UTF-8 or CSV, or has more than `ENTRIES_MAX` entries.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; see identity.files") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from None
    text = text[: text.rfind("\n") + 1].removeprefix("\ufeff")
    entries: list[Entry] = []
    unusable = 0
    for number, line in _json_lines(text) if text.lstrip().startswith("{") else _csv_lines(path, text):
        try:
            entries.append(_entry(line()))
        except (ValueError, msgspec.MsgspecError) as error:
            unusable += 1
            if unusable <= REPORTED_MAX:
                facts = {"at": f"{path}:{number}", "error": str(error)}
                log.error("unusable line of an identity file is ignored", extra=facts)  # noqa: TRY400  # an error in the file needs no traceback
        if len(entries) > ENTRIES_MAX:
            raise SourceError(f"{path}: has more than {ENTRIES_MAX:,} entries; remove entries that ended long ago")
    return entries, unusable


def _json_lines(text: str) -> Iterator[tuple[int, Callable[[], _Line]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, lambda line=line: _LINE.decode(line)  # type: ignore[misc]  # mypy cannot type a lambda with a default


def _csv_lines(path: str, text: str) -> Iterator[tuple[int, Callable[[], _Line]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    columns = reader.fieldnames
    if columns is None:
        return
    if "device" not in columns or (unknown := [name for name in columns if name not in COLUMNS]):
        what = f"column {unknown[0]!r} is not known" if "device" in columns else "there is no column device"
        raise SourceError(f"{path}: {what}; known are {', '.join(COLUMNS)}")
    try:
        for row in reader:
            yield reader.line_num, lambda row=row: _of_csv(row)  # type: ignore[misc]  # likewise
    except csv.Error as error:
        raise SourceError(f"{path}:{reader.line_num}: is not CSV: {error}") from None


def _of_csv(row: Mapping[str | None, Any]) -> _Line:
    if None in row:
        raise ValueError("more values than columns")
    values = {name: value for name, value in row.items() if value}
    return msgspec.convert(values, _Line)


def _entry(line: _Line) -> Entry:
    if bool(line.name) == bool(line.address):
        raise ValueError("exactly one of name and address is required")
    known_as = canonical_ip(line.address.strip()) if line.address else line.name.strip()
    for text in (line.device, known_as):
        if not text.strip(" .") or len(text) > DEVICE_CHARS_MAX:
            raise ValueError(f"a name of 1 to {DEVICE_CHARS_MAX} characters was expected, not {text[:80]!r}")
    since, until = _time(line.since, 0), _time(line.until, ALWAYS)
    if until < since:
        raise ValueError("until is before from")
    return Entry(line.device, known_as, since, until)


def _time(written: str | float | None, missing: Micros) -> Micros:
    """Parse ISO 8601 (UTC if without zone) or seconds since 1970. Raises ValueError."""
    if written is None or written == "":
        return missing
    if isinstance(written, str):
        if not written.replace(".", "", 1).isdecimal():
            return parse_micros(written)
        written = float(written)
    if not 0 <= written <= LATEST / MICROS:
        raise ValueError(f"time {written} is outside 1970 to 2200")
    return round(written * MICROS)


def _of_settings(settings: IdentitySettings) -> Iterator[Entry]:
    for device, known in settings.devices.items():
        yield from (Entry(device, name) for name in (*known.names, *known.addresses))
