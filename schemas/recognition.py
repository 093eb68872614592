"""Which dialect a line is written in, where nobody says: `auto:PATH` instead of `suricata:PATH`.

Dialects claim lines by their shape, and of any line at most one does (the contract suite holds them to that). So it is asked
first who claimed the line before, and files of one sensor cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.dialects import dialects
from schemas.events import Dialect, Reason, Reject

AUTO = "auto"
"""In place of a dialect's name before a path; in the header `dialect` of a line that nobody claims."""
UNCLAIMED = "no dialect claims this line"

NOBODYS = Dialect(
    AUTO,
    lambda raw: Reject(Reason.UNKNOWN_DIALECT, UNCLAIMED, raw),
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
        self._failed = failed

    def __call__(self, line: bytes) -> Dialect:
        try:
            if self._last.claims(line):
                return self._last
        except Exception as error:  # noqa: BLE001  # a bug in one dialect must not hide the others
            self._failed(self._last, error)
        for dialect in self._known:
            try:
                if dialect is not self._last and dialect.claims(line):
                    self._last = dialect
                    return dialect
            except Exception as error:  # noqa: BLE001  # likewise
                self._failed(dialect, error)
        return NOBODYS
