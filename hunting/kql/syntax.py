"""What a query consists of. The parser makes these nodes, the binder reads them; each knows its place in the text."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunting.kql.errors import Span
from hunting.kql.types import Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A part of a query."""

    span: Span


# -- scalar expressions


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant. `value` is bool, int, float, str, None, or for dynamic a list, dict or one of these.

    Timespans are ticks of 100 ns; datetimes are microseconds since 1970 (UTC).
    """

    type: Type
    value: object


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A column, variable or table."""

    text: str


@dataclass(frozen=True, slots=True)
class Star(Node):
    """All columns."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, with its name where it has one."""

    value: Expression
    name: str = ""


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function with its arguments."""

    function: str
    arguments: tuple[Argument, ...]
    name_span: Span


@dataclass(frozen=True, slots=True)
class Negation(Node):
    """`-x` or `+x`."""

    sign: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """An operator with two operands: arithmetic, comparison or search in a text."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Junction(Node):
    """Terms joined by `and` or `or`."""

    operator: str
    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Membership(Node):
    """`in`, `in~`, `has_any`, `has_all` and their negations: a value against a list."""

    operator: str
    left: Expression
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Between(Node):
    """`between (low .. high)`, both included."""

    value: Expression
    low: Expression
    high: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`base.name` of a dynamic value."""

    base: Expression
    name: str


@dataclass(frozen=True, slots=True)
class Element(Node):
    """`base[index]` of a dynamic value."""

    base: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class TypeOf(Node):
    """`typeof(long)`."""

    type: Type


@dataclass(frozen=True, slots=True)
class SubQuery(Node):
    """A table where a value or a list is expected."""

    query: Query


Expression = (
    Literal
    | Name
    | Star
    | Call
    | Negation
    | Operation
    | Junction
    | Membership
    | Between
    | Member
    | Element
    | TypeOf
    | SubQuery
)


@dataclass(frozen=True, slots=True)
class Named:
    """An expression of a list such as `extend a = x, b = y`; without a name KQL makes one."""

    value: Expression
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A declared column: name and type."""

    name: str
    type: Type


# -- tables


@dataclass(frozen=True, slots=True)
class Table(Node):
    """A table, a variable or a function with arguments as source of rows."""

    name: str
    arguments: tuple[Argument, ...] | None = None


@dataclass(frozen=True, slots=True)
class Datatable(Node):
    """Rows that are written in the query."""

    columns: tuple[ColumnType, ...]
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class ExternalData(Node):
    """Rows of a file at an address."""

    columns: tuple[ColumnType, ...]
    addresses: tuple[str, ...]
    properties: tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Print(Node):
    """One row of expressions."""

    values: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Range(Node):
    """A column with an arithmetic sequence."""

    column: str
    first: Expression
    last: Expression
    step: Expression


@dataclass(frozen=True, slots=True)
class Union(Node):
    """Rows of several tables, one after another."""

    tables: tuple[Query, ...]
    inner: bool = False
    source_column: str = ""


@dataclass(frozen=True, slots=True)
class Search(Node):
    """Rows of tables in which any column matches. Without tables: all of them, or the input."""

    tables: tuple[str, ...]
    predicate: Expression
    case_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Find(Node):
    """Rows of tables that match a predicate, with the columns that it names."""

    tables: tuple[str, ...]
    predicate: Expression
    source_column: str = "source_"
    projected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Materialize(Node):
    """A query that is run once."""

    query: Query


Source = Table | Datatable | ExternalData | Print | Range | Union | Search | Find | Materialize


# -- operators behind a pipe


@dataclass(frozen=True, slots=True)
class Where(Node):
    """Keep rows for which the predicate is true."""

    predicate: Expression


@dataclass(frozen=True, slots=True)
class Extend(Node):
    """Add columns, or replace them in place."""

    values: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Project(Node):
    """Keep exactly these columns."""

    values: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Distinct(Node):
    """Keep distinct combinations of these columns."""

    values: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class ProjectNames(Node):
    """`project-away`, `project-keep` or `project-reorder`: patterns with `*`, each with an order of names or ""."""

    operator: str
    patterns: tuple[tuple[str, str, Span], ...]


@dataclass(frozen=True, slots=True)
class Rename(Node):
    """Change names of columns: pairs of the new and the old one."""

    pairs: tuple[tuple[str, str, Span], ...]


@dataclass(frozen=True, slots=True)
class Summarize(Node):
    """Aggregate by groups."""

    aggregates: tuple[Named, ...]
    by: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class SortKey:
    """One expression to sort by."""

    value: Expression
    descending: bool = True
    nulls_first: bool | None = None


@dataclass(frozen=True, slots=True)
class Sort(Node):
    """Sort rows."""

    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Take(Node):
    """Keep so many rows; `keys` is empty for any rows (`take`), else the first ones by it (`top`)."""

    count: Expression
    keys: tuple[SortKey, ...] = ()


@dataclass(frozen=True, slots=True)
class TopLevel:
    """One level of `top-nested`."""

    count: Expression | None
    by: Named
    others: Expression | None
    order: SortKey
    measure: str


@dataclass(frozen=True, slots=True)
class TopNested(Node):
    """The top values of each level within those of the level above."""

    levels: tuple[TopLevel, ...]


@dataclass(frozen=True, slots=True)
class Count(Node):
    """The number of rows."""

    name: str = "Count"


@dataclass(frozen=True, slots=True)
class Join(Node):
    """Match rows with those of another table. `on` are equal columns or conditions on `$left` and `$right`."""

    kind: str
    right: Query
    on: tuple[Expression, ...]
    lookup: bool = False


@dataclass(frozen=True, slots=True)
class UnionWith(Node):
    """Rows of the input and of other tables."""

    union: Union


@dataclass(frozen=True, slots=True)
class Expanded:
    """A column or expression of `mv-expand`, with the type of its elements."""

    named: Named
    type: Type | None = None


@dataclass(frozen=True, slots=True)
class MvExpand(Node):
    """One row for each element of dynamic arrays."""

    values: tuple[Expanded, ...]
    index_column: str = ""
    limit: Expression | None = None
    bag_as_array: bool = False


@dataclass(frozen=True, slots=True)
class MvApply(Node):
    """A query on the elements of each row's arrays."""

    values: tuple[Expanded, ...]
    index_column: str
    limit: Expression | None
    query: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Parse(Node):
    """Columns from a text by a pattern. Parts are texts, columns (with their type) and `*`."""

    source: Expression
    parts: tuple[str | ColumnType | None, ...]
    kind: str = "simple"
    flags: str = ""
    filters: bool = False


@dataclass(frozen=True, slots=True)
class ParseKv(Node):
    """Columns from a text of keys and values."""

    source: Expression
    columns: tuple[ColumnType, ...]
    properties: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluate(Node):
    """A plugin."""

    plugin: Call
    columns: tuple[ColumnType, ...] = ()
    """The declared columns."""
    keeps_others: bool = False
    """Whether the declaration begins with `*`: the columns of the input stay."""


@dataclass(frozen=True, slots=True)
class MakeSeries(Node):
    """Arrays of aggregates over an axis."""

    aggregates: tuple[tuple[Named, Expression | None], ...]
    axis: Named
    first: Expression | None
    last: Expression | None
    step: Expression
    by: tuple[Named, ...] = ()
    nonempty: bool = False
    """Whether no rows give one row of defaults (`kind=nonempty`)."""


@dataclass(frozen=True, slots=True)
class Render(Node):
    """A hint how to draw the result."""

    chart: str
    properties: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Invoke(Node):
    """A function of the input."""

    function: Call


@dataclass(frozen=True, slots=True)
class PipedSearch(Node):
    """Rows of the input in which any column matches."""

    search: Search


@dataclass(frozen=True, slots=True)
class Serialize(Node):
    """Fix the order of rows; with columns as `extend`."""

    values: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample(Node):
    """Any rows, or with a column rows of any of its values (`sample-distinct`)."""

    count: Expression
    distinct: Expression | None = None


@dataclass(frozen=True, slots=True)
class GetSchema(Node):
    """The columns of the input as rows."""


@dataclass(frozen=True, slots=True)
class As(Node):
    """A name for the input."""

    name: str


@dataclass(frozen=True, slots=True)
class Partition(Node):
    """A query on the rows of each value of a column."""

    column: str
    query: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of `scan`."""

    name: str
    condition: Expression
    assignments: tuple[Named, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """A state machine over sorted rows."""

    declared: tuple[tuple[ColumnType, Expression | None], ...]
    steps: tuple[Step, ...]
    match_id: str = ""


Operator = (
    Where | Extend | Project | Distinct | ProjectNames | Rename | Summarize | Sort | Take | TopNested | Count | Join | UnionWith
    | MvExpand | MvApply | Parse | ParseKv | Evaluate | MakeSeries | Render | Invoke | PipedSearch | Serialize | Sample
    | GetSchema | As | Partition | Scan
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query(Node):
    """A source and the operators behind it. `source` is None where the input is implied (mv-apply, partition)."""

    source: Source | Query | None
    operators: tuple[Operator, ...] = ()


# -- statements


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function in the query: of a scalar type, or a table (`type` is None)."""

    name: str
    type: Type | None
    default: Expression | None = None


@dataclass(frozen=True, slots=True)
class Let(Node):
    """A name for an expression, a table or, with parameters, a function."""

    name: str
    value: Expression | Query
    parameters: tuple[Parameter, ...] | None = None
    lets: tuple[Let, ...] = ()


@dataclass(frozen=True, slots=True)
class Script(Node):
    """A whole query: its `let` statements and the query itself."""

    lets: tuple[Let, ...]
    query: Query
    parameters: tuple[Parameter, ...] = field(default=())
