"""Section of the settings: how long the tables keep their rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from schemas.joined_tables import JOINED
from schemas.sections.base import Section
from schemas.tables import TABLES


def _no_truth(given: object) -> object:
    # Pydantic takes true as 1, which would delete everything but the latest months.
    if isinstance(given, bool):
        raise ValueError("a number of days is expected")  # noqa: TRY004  # pydantic reports only a ValueError
    return given


Days = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, le=3_650)]
"""A number of days; 0 for no limit."""


class TableRetention(Section):
    """How long one table keeps its rows."""

    total_days: Days


class RetentionSettings(Section):
    """How long the tables keep their rows; `unproxy migrate` applies it."""

    total_days: Days = Field(
        0,
        description="Days that rows are kept after the end of the month in which they were written; 0 keeps them for ever",
    )
    tables: dict[str, TableRetention] = Field(
        {}, description="Another number of days for a table: [retention.tables.Rejects] with total_days"
    )

    @field_validator("tables")
    @classmethod
    def _tables(cls, given: dict[str, TableRetention]) -> dict[str, TableRetention]:
        for name in given:
            if name not in TABLES and name not in JOINED:
                raise ValueError(f'"{name}" is not a table; known are {", ".join([*TABLES, *JOINED])}')
        return given

    def days_of(self, table: str) -> int:
        """Return the days that a table keeps its rows; 0 for no limit."""
        one = self.tables.get(table)
        return self.total_days if one is None else one.total_days
