"""Version of rows: more evidence always gives a higher one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.assess.mode_history import ENTRIES_MAX
from streams.assess.version import Evidence, outbid
from streams.model.connection import Connection

HISTORY_MAX = 3 * ENTRIES_MAX + 1
NUMBERS = st.integers(0, 1_000)


@given(NUMBERS, st.integers(0, 10**9), st.integers(0, HISTORY_MAX), NUMBERS)
def test_piece_outweighs_what_the_history_loses(pieces: int, history: int, lost: int, raised: int) -> None:
    """A piece may move the row's time to before all changes of mode; its version is higher nevertheless."""
    before = Evidence(pieces, history + lost, raised).version()
    after = Evidence(pieces + 1, history, raised).version()

    assert after > before or (pieces == 0 and lost == HISTORY_MAX)


def test_row_without_pieces_is_below_the_first_piece() -> None:
    """A client hello without a name makes a row with a version, which any evidence replaces."""
    assert 0 < Evidence(0).version() < Evidence(1).version()


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_exchanged_halves_never_lower_the_version(sent: int, pieces: int, more: int, bump: int) -> None:
    """A row that lost pieces to another connection gets a version above the emitted one, and so do all later rows."""
    row = Connection(sent=1_024 * sent, bump=bump)
    version = outbid(row, Evidence(pieces, raised=row.bump).version())
    later = Evidence(pieces + more, raised=row.bump).version()

    assert version > row.sent or not sent
    assert later >= version
    assert row.bump >= bump
