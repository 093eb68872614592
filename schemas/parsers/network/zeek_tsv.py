r"""Zeek's tab-separated logs (docs.zeek.org, "Zeek Log Formats"): a row means nothing without the header above it.

So each row becomes the line of JSON that Zeek itself would write with `LogAscii::use_json`, with the log's name as `_path`:
an unset value is left out, an empty set is `[]`, bytes that are no UTF-8 stay written as `\xe4`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from schemas.dialect import Framing

Convert = Callable[[bytes], bytes]
"""A function that converts a value of a row to JSON. Raises ValueError if the value is not of its column's type."""
_Column = tuple[bytes, bool, Convert]
"""A column: its key in JSON with the colon, whether its values are text, and the conversion."""

_HEADER = frozenset((b"set_separator", b"empty_field", b"unset_field", b"path", b"fields", b"types"))
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""Characters that need no escape in a JSON string; a subset of those that the standard allows."""
_ODD_IN_ROW, _ODD = (bytes(byte for byte in range(256) if byte not in plain) for plain in (_PLAIN + b"\t", _PLAIN))
_ESCAPED = re.compile(rb"\\(x[0-9a-fA-F]{2}|\\)")
_ESCAPES = {b"x%02x" % byte: bytes((byte,)) for byte in range(256)} | {b"\\": b"\\"}
FIELDS_MAX = 1_024
"""Maximum number of fields of a header; one with more is ignored, as no log of Zeek has a hundred."""
ELEMENTS_MAX = 4_096
"""Maximum number of elements of a set or vector; a row with a longer one is passed on unchanged."""
ZERO = ord("0")
_BOOLS = {b"T": b"true", b"F": b"false"}
_json = msgspec.json.Encoder().encode


class ZeekRows(Framing):
    """The converter of one file. JSON lines, and rows that do not fit their header, are passed on unchanged."""

    context = b"#"

    def __init__(self) -> None:
        self._begin()

    def take(self, line: bytes, start: int) -> list[bytes]:
        r"""A row as JSON; nothing for the header and remarks, as no row begins like them: Zeek would have written `\x23`."""
        del start
        if line.startswith(self.context):
            self._read_header(line.removesuffix(b"\r"))
            return []
        if line.startswith(b"{"):
            return [line]
        return [self._row(line.removesuffix(b"\r")) or line]

    def _begin(self, separator: bytes = b"\t") -> None:
        self._separator = separator
        self._header = {b"set_separator": b",", b"empty_field": b"(empty)", b"unset_field": b"-"}
        self._columns: list[_Column] | None = None

    def _read_header(self, line: bytes) -> None:
        """Read a header line, which may also occur in the middle of a file."""
        if line.startswith(b"#separator "):
            self._begin(unescaped(line[11:]) or b"\t")
        name, _, value = line[1:].partition(self._separator)
        if name in _HEADER:
            self._header[name] = value
            self._columns = None

    def _row(self, line: bytes) -> bytes | None:
        columns = self._columns
        if columns is None:
            columns = self._columns = self._made()
        values = line.split(self._separator, len(columns))
        if len(values) != len(columns):
            return None
        unset, empty, parts = self._unset, self._empty, self._first.copy()
        plain = len(line.translate(None, _ODD_IN_ROW)) == len(line) and self._separator == b"\t"
        try:
            for (key, text, convert), value in zip(columns, values, strict=True):
                if value == unset:
                    continue
                if text and plain and value != empty:  # the most common case
                    parts.append(b'%b"%b"' % (key, value))
                else:
                    parts.append(key + convert(value))
        except ValueError:
            return None
        return b"{" + b",".join(parts) + b"}"

    def _made(self) -> list[_Column]:
        """Return the columns of the header; an empty list while the header is incomplete, so that no row fits."""
        header = self._header
        self._unset, self._empty = unescaped(header[b"unset_field"]), unescaped(header[b"empty_field"])
        self._set_separator = unescaped(header[b"set_separator"]) or b","
        path = header.get(b"path", self._unset)
        self._first = [b'"_path":' + _string(path)] if path not in (b"", self._unset) else []
        fields, types = (header.get(name, b"").split(self._separator) for name in (b"fields", b"types"))
        if len(fields) != len(types) or len(fields) > FIELDS_MAX or b"fields" not in header:
            return []
        made = zip(fields, map(self._converter, types), strict=True)
        return [(_string(name) + b":", convert == self._text, convert) for name, convert in made]

    def _converter(self, kind: bytes) -> Convert:
        if kind in (b"count", b"int", b"port"):
            return _integer
        if kind in (b"time", b"interval", b"double"):
            return _number
        if kind == b"bool":
            return _bool
        outer, bracket, inner = kind.removesuffix(b"]").partition(b"[")
        if not (bracket and outer in (b"set", b"vector", b"table")):
            return self._text
        convert, separator, unset, none = self._converter(inner), self._set_separator, self._unset, self._empty

        def elements(value: bytes) -> bytes:
            if value == none:
                return b"[]"
            parts = value.split(separator, ELEMENTS_MAX)
            if len(parts) > ELEMENTS_MAX:
                raise ValueError(f"more than {ELEMENTS_MAX} elements")
            return b"[" + b",".join(b"null" if e == unset else convert(e) for e in parts) + b"]"

        return elements

    def _text(self, value: bytes) -> bytes:
        return b'""' if value == self._empty else _string(value)


def unescaped(value: bytes) -> bytes:
    r"""A value with `\x2d` and `\\` as the bytes that they stand for."""
    if b"\\" not in value:
        return value
    parts = _ESCAPED.split(value)
    parts[1::2] = [_ESCAPES[escape.lower()] for escape in parts[1::2]]
    return b"".join(parts)


def _string(value: bytes) -> bytes:
    if len(value.translate(None, _ODD)) == len(value):
        return b'"%b"' % value
    return _json(unescaped(value).decode("utf-8", "backslashreplace"))


def _integer(value: bytes) -> bytes:
    if not (value.isdigit() and value[0] != ZERO) and _INTEGER.fullmatch(value) is None:
        raise ValueError("no whole number")
    return value


def _number(value: bytes) -> bytes:
    if _NUMBER.fullmatch(value) is None:
        raise ValueError("no number")
    return value


def _bool(value: bytes) -> bytes:
    try:
        return _BOOLS[value]
    except KeyError:
        raise ValueError("neither T nor F") from None
