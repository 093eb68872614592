"""Recognition of the dialect of a line, for sources without a declared one: `auto:PATH` instead of `suricata:PATH`.

Each dialect claims lines by their format, and at most one dialect claims a line (a contract test checks it). The dialect of the
previous line is asked first, so files of one sensor cost little. Rows under a header (`#fields`) may have any format: if no
dialect claims such a row, it has the dialect of the header.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.dialect import Dialect
from schemas.events import Reason, Reject
from schemas.parsers import dialects
from schemas.parsers.unsupported import unsupported

AUTO = "auto"
"""Placeholder for a dialect's name before a path, and in the header `dialect` of a line that no dialect claims."""
UNCLAIMED = "no dialect claims this line"
HEADER = b"#"
"""Beginning of lines that may name the columns of the following rows (`Framing.context`)."""


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
"""Dialect of lines that no dialect claims; it rejects them."""


def dialect_of_each(dialect: Dialect, failed: Callable[[Dialect, Exception], None]) -> Callable[[bytes], Dialect]:
    """Return a function that finds the dialect of each line of a file that is read as `dialect`.

    It differs from `dialect` only if that is NOBODYS. A dialect whose `claims` raises does not claim the line; `failed` gets the
    exception.
    """
    return _Recogniser(failed) if dialect is NOBODYS else lambda _: dialect


def candidates(dialect: Dialect) -> list[Dialect]:
    """Return the dialects whose lines a file that is read as `dialect` may contain."""
    return list(dialects().values()) if dialect is NOBODYS else [dialect]


class _Recogniser:
    def __init__(self, failed: Callable[[Dialect, Exception], None]) -> None:
        self._known = list(dialects().values())
        self._last = NOBODYS
        self._is_headed = False
        """Whether a header is above the last claimed line, written in the same dialect."""
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
            except Exception as error:  # noqa: BLE001  # a bug in one dialect must not hide the others
                self._failed(dialect, error)
        return self._last if self._is_headed else NOBODYS
