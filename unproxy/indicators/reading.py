"""Reads files of indicators of all formats, entry by entry; the format is detected by the content.

CSV, lists and JSON lines are read as a stream, so their size is not limited. Other JSON is read into memory as a whole.
"""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.clock import iso_micros
from schemas.events import Micros
from schemas.indicator_input import Given, Refused, indicator_of, now_micros
from schemas.indicator_values import Why
from schemas.indicators import Indicator, IndicatorType
from streams.indicators.index import IndicatorSet
from unproxy.errors import Fixable
from unproxy.indicators import defender, misp, plain, stix
from unproxy.indicators.csv_rows import names_in
from unproxy.indicators.entry import Entry
from unproxy.indicators.format import Format

JSON_BYTES_MAX = 1 << 29
LINE_CHARS_MAX = 1 << 20
"""Longest line in characters; a longer line is cut."""
BEGINNING_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"


class Found(NamedTuple):
    """An entry of a file: the normalised indicator, or the reason for its refusal."""

    where: str
    """The file, and the place in it."""
    what: Indicator | Refused

    def refusal(self) -> str:
        """Return the place, value and reason of a refused entry as text."""
        assert isinstance(self.what, Refused)
        return f"{self.where}: {self.what.in_words()}"


_TEXTS: dict[Format, Callable[[Iterable[str]], Iterator[Entry]]] = {
    Format.DEFENDER: defender.entries,
    Format.MISP_CSV: misp.csv_entries,
    Format.LIST: plain.entries,
}


def load_file(path: Path, form: Format = Format.AUTO) -> tuple[IndicatorSet, list[Found]]:
    """Return the indicators of a file, which are valid at all times until they expire, and the refused entries.

    Indicators that have expired by now are kept, because they may have been valid at the time of the events. A relative
    expiry such as 30d counts from now. Raises Fixable.
    """
    indicators = IndicatorSet()
    refused = []
    for found in read_file(path, form, now=now_micros(), expired=True):
        if isinstance(found.what, Refused):
            refused.append(found)
        else:
            indicators.put(found.what)
    return indicators, refused


def read_file(
    path: Path,
    form: Format = Format.AUTO,
    *,
    now: Micros,
    action: str = "block",
    exact: bool = False,
    expired: bool = False,
) -> Iterator[Found]:
    """Yield each entry of a file, normalised or refused. Raises Fixable if the file cannot be read.

    `action` applies to entries that name none. With `exact`, domains do not match the names below them. Entries that have
    expired at `now` are refused, unless `expired` is set.
    """
    for entry in _entries(path, form):
        content = entry.content
        if isinstance(content, Given):
            given = content._replace(exact=True) if exact and content.kind in (None, IndicatorType.DOMAIN) else content
            yield Found(f"{path}: {entry.where}", indicator_of(given, now, action, expired=expired))
        else:
            yield Found(f"{path}: {entry.where}", content)


def _entries(path: Path, form: Format) -> Iterator[Entry]:
    try:
        with path.open("rb") as file:
            packed = file.peek(len(_GZIP)).startswith(_GZIP)
            with gzip.open(file) if packed else file as content:
                yield from _read(path, content, form)
    except (OSError, EOFError) as error:
        raise Fixable(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; name another file"
        ) from None


def _read(path: Path, content: BufferedReader | gzip.GzipFile, form: Format) -> Iterator[Entry]:
    beginning = content.peek(BEGINNING_BYTES)
    utf_16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # a spreadsheet's "Unicode text"
    encoding = "utf-16" if utf_16 else "utf-8-sig"
    if form is Format.AUTO:
        form = recognise(beginning.decode(encoding, "replace"))
    if form in (Format.STIX, Format.MISP):
        yield from _read_json(path, content, form)
        return
    lines = _lines(content, encoding)
    yield from _jsonl(lines) if form is Format.JSONL else _TEXTS[form](lines)


def recognise(beginning: str) -> Format:
    """Return the format of a file, guessed from its beginning; LIST if no other format fits.

    JSON is JSONL if its first line is an indicator, STIX if `"objects"` or `"bundle"` occurs in the beginning, else MISP.
    """
    text = beginning.lstrip("\ufeff \t\r\n")
    first = text.partition("\n")[0]
    if text.startswith(("{", "[{", "[\n", "[\r", "[ ")):
        try:
            msgspec.json.decode(first, type=Indicator)
            return Format.JSONL
        except msgspec.DecodeError:
            return Format.STIX if '"objects"' in text or '"bundle"' in text else Format.MISP
    names = set(names_in(first))
    if names >= defender.NEEDED:
        return Format.DEFENDER
    return Format.MISP_CSV if names >= misp.NEEDED else Format.LIST


def _read_json(path: Path, content: BufferedReader | gzip.GzipFile, form: Format) -> Iterator[Entry]:
    raw = content.read(JSON_BYTES_MAX + 1)
    if len(raw) > JSON_BYTES_MAX:
        raise Fixable(f"{path}: more than {JSON_BYTES_MAX >> 20} MB of JSON at once; divide it")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        if form is Format.STIX:
            yield from stix.entries(msgspec.json.decode(raw, type=stix.Bundle))
        else:
            yield from misp.entries(msgspec.json.decode(raw, type=list[misp.Wrapped] | misp.Wrapped))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Fixable(f"{path}: is no {form.upper()} in JSON: {error}; name the right --format") from None


def _jsonl(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of the output of `unproxy indicators list --format jsonl`."""
    read = msgspec.json.Decoder(Indicator).decode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content: Given | Refused = _given(read(line))
        except (msgspec.DecodeError, RecursionError) as error:
            content = Refused(line.strip()[:200], Why.UNREADABLE, str(error))
        yield Entry(f"line {number}", content)


def _given(one: Indicator) -> Given:
    return Given(
        value=one.value,
        kind=IndicatorType.IP if one.type is IndicatorType.CIDR else one.type,
        action=one.action,
        exact=not one.subdomains,
        port=one.port,
        process=one.process,
        title=one.title,
        severity=one.severity,
        category=one.category,
        recommended=one.recommended,
        expires=iso_micros(one.expires) if one.expires else "",
        groups=one.groups,
    )


def _lines(content: BufferedReader | gzip.GzipFile, encoding: str) -> Iterator[str]:
    """Yield the lines, cut to at most `LINE_CHARS_MAX` characters."""
    with TextIOWrapper(content, encoding, "replace", newline=None) as text:
        while line := text.readline(LINE_CHARS_MAX):
            rest = line
            while len(rest) == LINE_CHARS_MAX and not rest.endswith("\n"):
                rest = text.readline(LINE_CHARS_MAX)
            yield line
