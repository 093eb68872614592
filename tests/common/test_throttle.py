"""One report per interval."""

from __future__ import annotations

import time

import pytest

from common.throttle import Throttle


def test_one_report_per_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is due at once, or after the first interval, and then once per interval."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    at_once, later = Throttle(10.0), Throttle(10.0, at_once=False)

    assert [at_once.due(), at_once.due(), later.due()] == [True, False, False]
    assert at_once.reported_at == 100.0
    now = 110.0
    assert [at_once.due(), later.due(), later.due()] == [True, True, False]
