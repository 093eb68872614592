"""`unproxy hunt`: run a hunt in KQL."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.errors import Fixable
from unproxy.options import DataOption, RawCsvOption, state_of
from unproxy.query.formats import HuntFormat

if TYPE_CHECKING:
    from hunting.kql.translation import Result
    from unproxy.query.client import Client
    from unproxy.query.hunt import Limits


def hunt(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="[KQL|-]", help="The query; - reads it from standard input.")] = "",
    data: DataOption = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the query from a file.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace the value of a `let` or declared parameter."),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS=FILE", help="The file that stands in for an address of externaldata."),
    ] = None,
    output: Annotated[HuntFormat, typer.Option("--format", help="How to write the rows.")] = HuntFormat.TABLE,
    raw_csv: RawCsvOption = False,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL and do not run it.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Report time, rows and bytes read on stderr.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECS", min=1, help="End the hunt after this time.")
    ] = 120,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=0, help="At most so many rows; 0 for all.")] = 100_000,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MB", min=1, help="Memory that the hunt may take.")
    ] = 4_096,
) -> None:
    """Run a hunt in KQL; changes nothing.

    Microsoft's hunts on DeviceNetworkEvents run as they are (docs/hunting.md). A mistake is reported with its place.
    """
    from unproxy.local.connect import tables
    from unproxy.query.hunt import Hunt, Limits, prepared

    state = state_of(context)
    limits = Limits(timeout, rows, memory)
    asked = Hunt(read(text, file), assignments(values, "--set"), _files(external), limits)
    with tables(state, data) as client:
        result = prepared(client, asked)
        if show_sql:
            typer.echo(result.sql, nl=False)
            return
        write(client, result, limits, output, raw_csv=raw_csv, explain=explain)


def read(text: str, file: Path | None) -> str:
    """Return the query from an argument, a file or standard input. Raises Fixable."""
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Fixable(f"{file}: cannot be read: {error}") from None
    elif text == "-":
        text = typer.get_text_stream("stdin").read()
    if not text.strip():
        raise Fixable("there is no query; write it in quotes, name a file with --file, or - for standard input")
    return text


def assignments(written: list[str] | None, option: str) -> dict[str, str]:
    """Return pairs NAME=VALUE. Raises Fixable."""
    found = {}
    for item in written or []:
        name, sign, value = item.partition("=")
        if not (name and sign):
            raise Fixable(f"{option} {item}: expected NAME=VALUE")
        found[name.strip()] = value
    return found


def _files(written: list[str] | None) -> dict[str, Path]:
    """Return pairs ADDRESS=FILE; an address may have `=` in it, a file's name may not."""
    found = {}
    for item in written or []:
        address, sign, path = item.rpartition("=")
        if not (address and sign and path):
            raise Fixable(f"--external {item}: expected ADDRESS=FILE")
        found[address] = Path(path)
    return found


def write(
    client: Client, result: Result, limits: Limits, output: HuntFormat, *, raw_csv: bool = False, explain: bool = False
) -> None:
    """Write the rows of a translated hunt to stdout, remarks to stderr."""
    from unproxy.query import formats
    from unproxy.query.hunt import answered, records

    if output in (HuntFormat.ARROW, HuntFormat.PARQUET):
        _write_binary(client, result, limits, output)
        return
    if output is HuntFormat.JSONL and not explain:
        for record in records(client, result, limits):
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    answer = answered(client, result, limits)
    formats.written(answer, output, raw_csv=raw_csv)
    notes = [] if answer.rows else ["no rows"]
    if answer.more:
        notes.append(f"the first {limits.rows:,} rows; --rows 0 gives all")
    if result.chart:
        notes.append(f"render {result.chart}: drawn by the console; here are the rows")
    if explain:
        notes.append(f"{answer.secs:.3f} s, {answer.rows_read:,} rows and {answer.bytes_read:,} bytes read")
    for note in notes:
        sys.stderr.write(f"{note}\n")


def _write_binary(client: Client, result: Result, limits: Limits, output: HuntFormat) -> None:
    if sys.stdout.isatty():
        raise Fixable(f"{output} is no text; send it to a file with > FILE")
    name = {HuntFormat.ARROW: "Arrow", HuntFormat.PARQUET: "Parquet"}[output]
    for chunk in client.chunks(result.sql, output=name, settings=limits.settings()):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
