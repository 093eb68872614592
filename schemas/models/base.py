"""Base class and types of the generated pydantic models (`schemas.models.rows`, `schemas.models.indicators`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, PlainSerializer

_WITH_MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%fZ"


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _iso(time: datetime) -> str:
    return time.strftime(_WITH_MICROSECONDS)


Time = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(_iso, when_used="json")]
"""A UTC time with microseconds; ISO 8601 text in JSON."""


class Contract(BaseModel):
    """Base of all models. It ignores unknown fields, as columns may be added at any time.

    `model_dump_json(exclude_unset=True)` returns JSON equal to that from which `model_validate_json` made the model.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
