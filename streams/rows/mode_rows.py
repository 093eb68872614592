"""Rows for the history of a device's protection mode (`streams.assess.mode_history`)."""

from __future__ import annotations

from schemas.clock import iso_micros
from schemas.tables import ModeSpan, ModeStatus
from streams.assess.assessment import identity
from streams.model.protection import Span


def mode_row(device: str, span: Span, status: ModeStatus, version: int) -> ModeSpan:
    """Return the row for a time span with one protection mode."""
    return ModeSpan(
        DeviceId=device,
        DeviceName=device,
        Mode=span.mode,
        FromTime=iso_micros(span.since) if span.since else None,
        ToTime=iso_micros(span.until) if span.until else None,
        Evidence=span.evidence,
        EvidenceId=span.event_id,
        Status=status,
        RecordId=identity(device, "mode", str(span.since)),
        Version=version,
    )
