"""What names mean: columns, variables, tables and functions of the query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import takewhile

from hunting.kql.errors import KqlError, Span
from hunting.kql.syntax import Let
from hunting.kql.types import Type
from hunting.kql.values import Value, identifier


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: Type
    nullable: bool = True

    def value(self, alias: str = "t") -> Value:
        """Return the column as a value."""
        return Value(f"{alias}.{identifier(self.name)}", self.type, self.nullable, name=self.name)


@dataclass(frozen=True, slots=True)
class Order:
    """A column that rows are sorted by."""

    column: str
    descending: bool
    nulls_first: bool

    @property
    def sql(self) -> str:
        """The key in ORDER BY."""
        direction = "DESC" if self.descending else "ASC"
        return f"t.{identifier(self.column)} {direction} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table: the SQL to select from, its columns, and the order of its rows.

    `hidden` columns are no columns of KQL: keys of the order that a projection removed, and `partition`, the keys by which
    the operators of `mv-apply` and `partition` work. `weight` is the number of tables that are read.
    """

    source: str
    columns: tuple[Column, ...]
    order: tuple[Order, ...] = ()
    hidden: tuple[Column, ...] = ()
    partition: tuple[str, ...] = ()
    weight: int = 1
    serialized: bool = False
    name: str = ""
    """The table of the database whose rows these are, "" where they are of none or of several."""

    def column(self, name: str) -> Column | None:
        """Return the column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    def need(self, name: str, span: Span) -> Column:
        """Return the column of this name. Raises KqlError with near names."""
        found = self.column(name)
        if found is None:
            raise KqlError(f"there is no column `{name}`{near(name, [c.name for c in self.columns])}", span)
        return found

    def order_without(self, lost: set[str]) -> tuple[Order, ...]:
        """Return the order of the rows after these columns are overwritten: its keys before the first of them."""
        return tuple(takewhile(lambda key: key.column not in lost, self.order))


def unused(name: str, taken: set[str]) -> str:
    """Return the name, or with the first free number behind it."""
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found


def near(name: str, names: list[str]) -> str:
    """Return a hint with names that are spelt alike, "" where there are none."""
    lower = {other.lower(): other for other in names}
    found = [lower[match] for match in get_close_matches(name.lower(), lower, n=3, cutoff=0.75)]
    return f"; did you mean {' or '.join(f'`{match}`' for match in found)}?" if found else ""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the query, with what its body can see."""

    let: Let
    scope: Scope


class Columns(Mapping[str, Value]):
    """The columns of a table by name. A value is made when it is first asked for: a query names few of a table's columns."""

    __slots__ = ("_alias", "_columns", "_values")

    def __init__(self, columns: tuple[Column, ...], alias: str = "t") -> None:
        self._columns = {column.name: column for column in columns}
        self._alias = alias
        self._values: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        """Return the column as a value. Raises KeyError."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = self._columns[name].value(self._alias)
        return found

    def __iter__(self) -> Iterator[str]:
        """Return the names in the order of the table."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


@dataclass(frozen=True, slots=True)
class Scope:
    """Names that are visible at one place. Columns come before variables."""

    columns: Mapping[str, Value] = field(default_factory=dict)
    variables: Mapping[str, Value | Relation | Function] = field(default_factory=dict)
    sides: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Columns behind `$left` and `$right`."""
    relation: Relation | None = None
    window: bool = False
    """Whether functions such as prev( ) may be used."""

    def over(self, relation: Relation, alias: str = "t") -> Scope:
        """Return the scope with the columns of a table."""
        return replace(self, columns=Columns(relation.columns, alias), relation=relation)

    def joined(self, left: Relation, right: Relation) -> Scope:
        """Return the scope of a condition of a join."""
        sides = {"$left": Columns(left.columns, "l"), "$right": Columns(right.columns, "r")}
        return replace(self, columns={}, sides=sides, relation=None)

    def with_variable(self, name: str, meaning: Value | Relation | Function) -> Scope:
        """Return the scope with one more variable."""
        return replace(self, variables={**self.variables, name: meaning})

    def without_columns(self) -> Scope:
        """Return the scope with variables only."""
        return replace(self, columns={}, sides={}, relation=None)


Lookup = Callable[[str], Relation | None]
"""Returns a table of the database by its name."""
