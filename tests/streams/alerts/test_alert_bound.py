"""A device at the bound of alerts: the cost of a further one, which are evicted, and when each is published."""

from __future__ import annotations

import sys
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from schemas.tables import AlertKind, Confidence, Outcome
from streams.alerts.findings import Finding
from streams.alerts.folding import add, due, forget_old
from streams.assess.assessment import Route
from streams.model.device import ALERTS_FORGOTTEN, ALERTS_MAX, Device

SECOND = 1_000_000
NOON = 1_795_000_000 * SECOND
GAP = 60 * SECOND
NOWHERE = Route("d", "", "10.0.0.1", 1, "10.9.9.9", 3128, True, "", False)


def finding(domain: str, at: int) -> Finding:
    """One blocked request."""
    kind, outcome = AlertKind.BLOCKED, Outcome.BLOCKED
    return Finding("r", kind, domain, 80, at, at, 1, 1, "", "", ("id",), outcome, Confidence.EXACT)


def request(device: Device, domain: str, at: int) -> None:
    """Count one blocked request, as the pipeline does for each message."""
    device.facts.now = max(device.facts.now, at)
    add(device, NOWHERE, None, finding(domain, at))
    if device.facts.now >= device.held_due or device.last_words:
        due(device, device.facts.now, GAP)
    forget_old(device, device.facts.now)


def test_a_further_alert_costs_the_same_at_the_bound() -> None:
    """The work per request, in Python calls, does not grow with the number of alerts."""
    device = Device("d")
    for number in range(ALERTS_MAX):
        request(device, f"d{number}.example", NOON + number)
        request(device, f"d{number}.example", NOON + number)  # A second version, which waits.
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for number in range(1_000):
            request(device, f"more{number}.example", NOON + ALERTS_MAX + number)
    finally:
        sys.setprofile(before)

    assert len(device.alerts) <= ALERTS_MAX
    assert len(device.alerts) > ALERTS_MAX - ALERTS_FORGOTTEN
    assert calls < 100 * 1_000


def test_the_oldest_alerts_are_evicted() -> None:
    """The alerts whose latest request is oldest are evicted, whenever they began."""
    device = Device("d")
    for number in range(ALERTS_MAX):
        request(device, f"d{number}.example", NOON + number)
    request(device, "d0.example", NOON + ALERTS_MAX)
    request(device, "more.example", NOON + ALERTS_MAX + 1)
    domains = {state.domain for state in device.alerts.values()}

    assert {"d0.example", "more.example", f"d{ALERTS_FORGOTTEN + 1}.example"} <= domains
    assert not {f"d{number}.example" for number in range(1, ALERTS_FORGOTTEN + 1)} & domains


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 1, 30, 60, 61, 4_000, -4_000]), st.booleans()),
        max_size=40,
    )
)
def test_alerts_are_published_when_they_are_due(steps: list[tuple[str, int, bool]]) -> None:
    """The published alerts equal those of a scan over all changed alerts, also after the clock went back."""
    device = Device("d")
    now, changed = NOON, dict[str, None]()
    for name, seconds, publish in steps:
        now += seconds * SECOND
        add(device, NOWHERE, None, finding(f"{name}.example", now))
        changed.setdefault(f"{name}.example")
        if publish:
            by_domain = {state.domain: state for state in device.alerts.values()}
            expected = []
            for domain in list(changed):
                sent_at = by_domain[domain].sent_at
                if not sent_at or not now - GAP < sent_at <= now + GAP:
                    expected.append(domain)
                    del changed[domain]

            assert [state.domain for state in due(device, now, GAP)] == expected
    rest = [state.domain for state in due(device, now, 0)]

    assert rest == list(changed)
