"""W3C's extended log format (w3.org/TR/WD-logfile). The `#Fields` directive above the rows names their fields.

Each row is therefore converted to JSON with the names of its fields in lower case. The value `-` means no value and is left out.
"""

from __future__ import annotations

import re
from itertools import islice

import msgspec

from schemas.dialect import Framing
from schemas.parsers.common.quoting import INSIDE

DIRECTIVE = re.compile(rb"#(?:Software|System|Version|Date|Start-Date|End-Date|Fields|Remark)\b")
FIELDS_MAX = 256
"""Maximum number of fields of a directive; a directive with more is ignored, as no format has so many."""

_FIELDS = b"#Fields:"
_NAME = re.compile(r"[A-Za-z][\x21-\x7e]{0,80}")
_TOKEN = re.compile(rf'"({INSIDE})"(?!\S)|(\S++)')
_NOTHING = frozenset({"-", ""})
_encode = msgspec.json.Encoder().encode


class FieldRows(Framing):
    """The converter of one file. A row that does not fit the directive, or has none above it, is passed on unchanged."""

    context = b"#"

    def __init__(self) -> None:
        self._names: list[str] = []
        self._is_tabbed = False

    def take(self, line: bytes, start: int) -> list[bytes]:
        """Return a row as JSON; an empty list for a directive."""
        del start
        if DIRECTIVE.match(line):
            if line.startswith(_FIELDS):
                self._read_directive(line[len(_FIELDS) :])
            return []
        return [(self._row(line) if self._names else None) or line]

    def _read_directive(self, written: bytes) -> None:
        """Read the names of the fields from a directive, which may also occur in the middle of a file."""
        self._is_tabbed = b"\t" in written.strip()
        names = written.decode("latin-1").lower().split()
        usable = len(set(names)) == len(names) <= FIELDS_MAX and all(map(_NAME.fullmatch, names))
        self._names = names if usable else []

    def _row(self, line: bytes) -> bytes | None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        if self._is_tabbed:
            values = text.split("\t", len(self._names))
        else:
            tokens = islice(_TOKEN.finditer(text), len(self._names) + 1)
            values = [found[1] if found[2] is None else found[2] for found in tokens]
        if len(values) != len(self._names):
            return None
        pairs = zip(self._names, values, strict=True)
        return _encode({name: value for name, value in pairs if value not in _NOTHING})
