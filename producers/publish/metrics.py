"""The publisher's Prometheus metrics, read from its report."""

from __future__ import annotations

from collections.abc import Iterator

import schemas.metrics as declared
from common.exporter import Family, by_label, one
from producers.identity.table import How
from producers.publish.report import Report


def publisher_families(report: Report, resends: int, bytes_waiting: int) -> Iterator[Family]:
    """Yield all metrics of a publisher as Prometheus metric families."""
    yield by_label(declared.PUBLISHER_LINES_READ, report.by_dialect)
    # Start at zero, because Prometheus sees an increase only between two samples.
    yield by_label(declared.PUBLISHER_LINES_CUT, dict.fromkeys(report.by_dialect, 0) | report.cut_by_dialect)
    yield by_label(declared.PUBLISHER_FAILURES, dict.fromkeys(report.by_dialect, 0) | report.failures_by_dialect)
    yield by_label(declared.PUBLISHER_NOT_ALLOWED, report.not_allowed)
    yield by_label(declared.PUBLISHER_IDENTIFIED, dict.fromkeys(map(str, How), 0) | report.identified)
    yield one(declared.PUBLISHER_IDENTITY_UNUSABLE, report.identity_unusable)
    yield by_label(declared.PUBLISHER_MESSAGES, report.acknowledged_by_dialect)
    yield by_label(declared.PUBLISHER_BYTES, report.acknowledged_bytes_by_dialect)
    yield by_label(declared.PUBLISHER_RECEIVED, report.received)
    yield one(declared.PUBLISHER_RESENDS, resends)
    yield one(declared.PUBLISHER_WAITING, bytes_waiting)
