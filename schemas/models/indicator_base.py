"""Base classes and types of the generated pydantic models of indicators and suppressions (`schemas.models.indicators`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

import msgspec
from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, PlainSerializer, WithJsonSchema, model_validator

from schemas.indicator_input import Given, Refused, indicator_of
from schemas.indicator_topic import INDICATOR_MARK, SUPPRESSION_MARK
from schemas.models.base import Contract, Time
from schemas.suppression_input import suppression_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _from_micros(given: object) -> object:
    """Convert microseconds since 1970 to a datetime, and 0 to None; other values are left to pydantic."""
    if type(given) is int:
        return _EPOCH + given * _MICROSECOND if given else None
    return given


def _to_micros(time: datetime | None) -> int:
    return (time - _EPOCH) // _MICROSECOND if time is not None else 0


_INTEGER = (
    BeforeValidator(_from_micros),
    PlainSerializer(_to_micros, when_used="json"),
    WithJsonSchema({"type": "integer"}),
)
Micros = Annotated[Time, *_INTEGER]
"""A UTC time; microseconds since 1970 in JSON."""
OptionalMicros = Annotated[Time | None, *_INTEGER, Field(json_schema_extra={"default": 0})]
"""A UTC time or None; microseconds since 1970, or 0, in JSON."""


class _Entry(Contract):
    """Base of the models for messages on the topic `indicators`."""

    mark: ClassVar[str]

    def message(self) -> tuple[bytes, bytes]:
        """Return key and value of the message that publishes the entry. The same key with the value None removes it."""
        entry: Any = self
        wrapped = b'{"%s":%s}' % (
            type(self).__name__.lower().encode(),
            self.model_dump_json(exclude_defaults=True).encode(),
        )
        return f"{self.mark}{entry.id}".encode(), wrapped


class IndicatorBase(_Entry):
    """Base of the indicator model. It normalises an indicator that has no id, and computes the id."""

    mark = INDICATOR_MARK

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict) or "id" in given:
            return handler(given)
        typed: Any = handler({"type": "domain", **given, "id": "new"})
        made = indicator_of(
            Given(
                typed.value,
                typed.type if "type" in given else None,
                typed.action,
                not typed.subdomains,
                typed.port,
                typed.process,
                typed.title,
                typed.severity,
                typed.category,
                typed.recommended,
                groups=typed.groups,
            ),
            now=0,
        )
        if isinstance(made, Refused):
            raise ValueError(made.in_words())  # noqa: TRY004  # pydantic reports only a ValueError as invalid input
        return handler({**msgspec.structs.asdict(made), "expires": typed.expires})


class SuppressionBase(_Entry):
    """Base of the suppression model. It checks and normalises a suppression that has no id, and computes the id."""

    mark = SUPPRESSION_MARK

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict) or "id" in given:
            return handler(given)
        typed: Any = handler({**given, "id": "new"})
        made = suppression_of(
            typed.who, typed.why, _to_micros(typed.until), typed.kind, typed.device, typed.domain, typed.indicator
        )
        return handler(msgspec.structs.asdict(made))
