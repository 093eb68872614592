"""When rejected lines are too many: values in, verdict out."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Reason, Reject
from schemas.settings import WorkerSettings
from streams.pipeline import Output
from streams.worker.counters import WorkerCounters
from streams.worker.guards.reject_guard import RejectGuard
from streams.worker.guards.reject_rate import SLOTS, RejectRate


def test_a_share_above_the_limit_is_too_much() -> None:
    """At the limit is fine, above it is not, and it is over once the share is small again."""
    rate = RejectRate(0.1, 60, 100)

    assert not rate.note(200, 20, now=0)
    assert rate.note(100, 11, now=1)
    assert rate.share == 31 / 300
    assert not rate.note(10, 0, now=2)


def test_a_few_lines_are_no_alarm() -> None:
    """One reject of two lines is no sample; of enough lines it is."""
    rate = RejectRate(0.1, 60, 100)

    assert not rate.note(2, 1, now=0)
    assert not rate.note(97, 97, now=1)
    assert rate.note(1, 0, now=2)


def test_what_was_long_ago_does_not_count() -> None:
    """The window moves on, with or without lines."""
    rate = RejectRate(0.1, 60, 100)
    assert rate.note(100, 100, now=0)
    assert rate.note(0, 0, now=59)

    assert not rate.note(0, 0, now=60)
    assert (rate.lines, rate.rejected, rate.share) == (0, 0, 0)


def test_nothing_may_be_rejected_or_everything() -> None:
    """Limit 0: one is too many. Limit 1: never."""
    assert RejectRate(0, 60, 1).note(1_000, 1, now=0)
    assert not RejectRate(1, 60, 1).note(1_000, 1_000, now=0)


def test_who_stopped_is_doubted() -> None:
    """After a stop a few lines are enough; once many were read the share is measured again."""
    rate = RejectRate(0.1, 60, 100, doubted=True)
    assert rate.note(2, 1, now=0)
    assert not rate.note(18, 1, now=1)
    assert rate.doubted

    assert not rate.note(80, 0, now=2)
    assert not rate.doubted
    assert not rate.note(2, 2, now=100)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.floats(0, 20)), max_size=200))
def test_window_holds_what_it_should(batches: list[tuple[int, float, float]]) -> None:
    """The sums are those of the batches within the window, give or take a step of it, and the memory is bounded."""
    rate, window = RejectRate(0.1, 60, 100), 60.0
    seen: list[tuple[float, int, int]] = []
    now = 0.0
    for lines, share, pause in batches:
        now += pause
        seen.append((now, lines, int(lines * share)))
        rate.note(*seen[-1][1:], now)
        within = [batch for batch in seen if batch[0] > now - window + window / SLOTS]
        at_most = [batch for batch in seen if batch[0] > now - window]

        assert sum(batch[1] for batch in within) <= rate.lines <= sum(batch[1] for batch in at_most)
        assert sum(batch[2] for batch in within) <= rate.rejected <= sum(batch[2] for batch in at_most)
        assert len(rate._slots) <= SLOTS + 1


def test_refused_lines_are_no_alarm(tmp_path: Path) -> None:
    """Forged verdicts, however many, cannot stop a worker that stops on rejects; lines that cannot be read can."""
    counters = WorkerCounters()
    guard = RejectGuard(
        WorkerSettings(data_dir=str(tmp_path / "worker"), reject_lines_min=10, reject_rate_max=0.1), counters
    )
    guard.judge([Output(rejects=[Reject(Reason.NOT_ALLOWED, "", b"x")] * 20, lines=20)])
    assert (counters.reject_rate, counters.reject_rate_over) == (0, False)

    guard.judge([Output(rejects=[Reject(Reason.MALFORMED, "", b"x")] * 20, lines=20)])
    assert (counters.reject_rate, counters.reject_rate_over) == (0.5, True)
