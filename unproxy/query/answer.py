"""Runs a query, and writes its result to stdout in the requested format."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from unproxy.output import printable_chunks, without_formulas
from unproxy.query.client import JSON_SETTINGS, READ_ONLY, Client, QueryRefused
from unproxy.query.formats import Format, table

TABLE_ROWS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Table:
    """The beginning of a result, which is small enough to be shown."""

    names: list[str]
    rows: list[list[object]]
    more: bool
    """Whether the result has more rows."""


def ask(client: Client, text: str, settings: Mapping[str, str]) -> Table:
    """Run a query; return the first `TABLE_ROWS_MAX` rows of the result. Raises QueryRefused, EngineAway."""
    output = "JSONCompactEachRowWithNames"
    lines = client.lines(text, output=output, settings={**READ_ONLY, **JSON_SETTINGS, **settings})
    try:
        names = json.loads(next(lines, b"[]"))
        rows = [json.loads(line) for line in itertools.islice(lines, TABLE_ROWS_MAX)]
    except ValueError:
        raise QueryRefused("the result is not a table; remove FORMAT from the query and use --format") from None
    return Table(names, rows, next(lines, None) is not None)


def show(
    client: Client, text: str, settings: Mapping[str, str], output: Format, width: int, *, raw_csv: bool = False
) -> None:
    """Run a query and write the result to stdout: all rows, but for a table only the first ones.

    `width` is that of the table in characters. `raw_csv` keeps cells that a spreadsheet would take for formulas unchanged.
    """
    if output is Format.TABLE:
        answer = ask(client, text, settings)
        lines, hidden = table(answer.names, answer.rows, width)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        for remark in remarks(answer, hidden):
            sys.stderr.write(f"{remark}\n")
        return
    if output is Format.CSV:
        written = client.chunks(text, output="CSVWithNames", settings={**READ_ONLY, **settings})
        made = written if raw_csv else without_formulas(written)
    else:
        iso = {"date_time_output_format": "iso", **JSON_SETTINGS}
        if output is Format.JSON:
            iso["output_format_json_array_of_rows"] = "1"
        written = client.chunks(text, output="JSONEachRow", settings={**READ_ONLY, **iso, **settings})
        made = printable_chunks(written)
    # If the reader closes the pipe early (`| head`), the query must end.
    with closing(written):
        for chunk in made:
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def remarks(answer: Table, hidden: list[str]) -> list[str]:
    """Return remarks on a table: that it is empty, or which rows and columns are not shown."""
    notes = []
    if not answer.rows:
        notes.append("no rows")
    if hidden:
        notes.append(f"{len(hidden)} more columns do not fit; project the ones you want, or --format jsonl shows all")
    if answer.more:
        notes.append(f"the first {TABLE_ROWS_MAX} rows; --format jsonl gives all")
    return notes
