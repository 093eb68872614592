"""Which dialect a line is written in, for sources that do not name one: `auto:PATH` instead of `suricata:PATH`.

Dialects claim lines by their shape, and at most one dialect claims a line (the contract suite checks it). The dialect of
the line before is asked first, so files of one sensor cost next to nothing. Rows under a header (`#fields`) may have any
shape: if no dialect claims such a row, it belongs to the dialect of the header.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.dialect import Dialect
from schemas.events import Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.unsupported import unsupported

AUTO = "auto"
"""In place of a dialect's name before a path; in the header `dialect` of a line that no dialect claims."""
UNCLAIMED = "no dialect claims this line"
HEADER = b"#"
"""Lines that begin so may name the columns of the rows below (`Framing.context`)."""


def unclaimed(raw: bytes) -> Reject:
    """Return the reject for a line that no dialect claims."""
    return unsupported(raw) or Reject(Reason.UNKNOWN_DIALECT, UNCLAIMED, raw)


NOBODYS = Dialect(
    AUTO,
    unclaimed,
    written_at=lambda _: 0,
    device_of=lambda _: "",
    title="Whatever a line is written in",
    gives="What its dialect gives.",
    claims=lambda _: False,
)
"""What a line counts as that no dialect claims."""


def dialect_of_each(dialect: Dialect, failed: Callable[[Dialect, Exception], None]) -> Callable[[bytes], Dialect]:
    """Return what finds the dialect of each line of a file that is read as `dialect`: another one only where that is NOBODYS.

    A dialect whose `claims` raises does not claim the line; `failed` gets the exception.
    """
    return _Recogniser(failed) if dialect is NOBODYS else lambda _: dialect


def candidates(dialect: Dialect) -> list[Dialect]:
    """What a file that is read as `dialect` may hold lines of."""
    return list(dialects().values()) if dialect is NOBODYS else [dialect]


class _Recogniser:
    def __init__(self, failed: Callable[[Dialect, Exception], None]) -> None:
        self._known = list(dialects().values())
        self._last = NOBODYS
        self._is_headed = False
        """The dialect of the last line that was claimed wrote a header above it."""
        self._failed = failed

    def __call__(self, line: bytes) -> Dialect:
        try:
            if self._last.claims(line):
                self._is_headed |= line.startswith(HEADER)
                return self._last
        except Exception as error:  # noqa: BLE001  # a bug in one dialect must not hide the others
            self._failed(self._last, error)
        for dialect in self._known:
            try:
                if dialect is not self._last and dialect.claims(line):
                    self._last, self._is_headed = dialect, line.startswith(HEADER)
                    return dialect
            except Exception as error:  # noqa: BLE001  # likewise
                self._failed(dialect, error)
        return self._last if self._is_headed else NOBODYS
