"""What the binders of expressions and operators need of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hunting.kql.errors import Span
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.syntax import ColumnType, Expression, Query
from hunting.kql.values import Value


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the database: what to select from, and its columns with their ClickHouse types."""

    source: str
    columns: Mapping[str, str]
    history: str = ""
    """What to select all stored versions of the rows from (`hunting.latest`), "" if the reader has no such view."""


class Tables(Protocol):
    """What the binder of expressions needs to know of tables."""

    now: int
    """The time of the query, microseconds since 1970: `now()` is the same everywhere in it."""

    def relation(self, query: Query, scope: Scope) -> Relation:
        """Return the table of a query."""

    def table(self, name: str, scope: Scope) -> Relation | None:
        """Return a variable or a table of the database, None if there is none."""


class Translation(Tables, Protocol):
    """What the operators need: a query on its way to SQL."""

    database: Mapping[str, Table]
    external: Callable[[str], str] | None

    def properties_of(self, relation: Relation, bag: Column) -> list[ColumnType]:
        """Return the properties that a bag has in the rows, with their types; empty where the rows cannot be asked."""

    def cte(self, body: str, relation: Relation, span: Span | str, *, materialized: bool = False) -> Relation:
        """Add a SELECT and return the relation that reads from it."""


class Binder(Protocol):
    """What functions need that look at more than the values of their arguments."""

    scope: Scope

    @property
    def tables(self) -> Tables:
        """The tables of the query."""

    def bind(self, node: Expression, *, filtering: bool = False) -> Value:
        """Return the value of an expression."""

    def relation_of(self, node: Expression) -> Relation | None:
        """Return the table that an expression names, None for a scalar."""

    def first_value(self, relation: Relation, span: Span) -> Value:
        """Return the first column of the first row."""
