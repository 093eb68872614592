"""`unproxy hunt` and `unproxy query`: hunts in KQL, queries in SQL or KQL."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.errors import Fixable
from unproxy.options import DataOption, RawCsvOption, state_of
from unproxy.query.formats import Format, HuntFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hunting.kql.translation import Result
    from unproxy.query.client import Client
    from unproxy.query.hunt import Limits

QUERY_BYTES_MAX = 1_048_576
"""Longest query or rule that is read from a file or standard input; the translator itself takes less."""


def hunt(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="[KQL|-]", help="The query; - reads it from standard input.")] = "",
    data: DataOption = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the query from a file.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Run a hunt of the library; --list shows them.")
    ] = "",
    sigma: Annotated[
        Path | None, typer.Option("--sigma", metavar="RULE.yml", help="Run a Sigma rule (network_connection, proxy).")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the hunts of the library and end.")] = False,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace the value of a `let` or declared parameter."),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS=FILE", help="The file that stands in for an address of externaldata."),
    ] = None,
    output: Annotated[HuntFormat, typer.Option("--format", help="Format of the rows.")] = HuntFormat.TABLE,
    raw_csv: RawCsvOption = False,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL and do not run it.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Report time, rows and bytes read on stderr.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECS", min=1, help="End the hunt after this time.")
    ] = 60,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=0, help="At most so many rows; 0 for all.")] = 100_000,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MB", min=1, help="Memory that the hunt may take.")
    ] = 4_000,
) -> None:
    """Run a hunt in KQL; changes nothing.

    Microsoft's hunts on DeviceNetworkEvents run as they are (docs/hunting.md). A mistake is reported with its place.
    """
    from unproxy.local.connect import tables
    from unproxy.query.hunt import Hunt, Limits, prepared

    if listed:
        list_library()
        return
    if explain and output in (HuntFormat.ARROW, HuntFormat.PARQUET):
        raise Fixable(f"--explain has no place in {output}; take a text format for it")
    state = state_of(context)
    limits = Limits(timeout, rows, memory)
    asked = Hunt(read(text, file, name, sigma), assignments(values, "--set"), _files(external), limits)
    with tables(state, data) as client:
        result = prepared(client, asked)
        if show_sql:
            typer.echo(result.sql, nl=False)
            return
        write(client, result, limits, output, raw_csv=raw_csv, explain=explain)


def query(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The query; - reads it from standard input.")],
    data: DataOption = None,
    output: Annotated[Format, typer.Option("--format", help="Format of the result.")] = Format.TABLE,
    raw_csv: RawCsvOption = False,
    is_kql: Annotated[bool, typer.Option("--kql", help="TEXT is KQL, as for `hunt`, not SQL.")] = False,
) -> None:
    """Run a read-only query in SQL or KQL on the tables.

    It runs on the ClickHouse server of the settings, if they name one and --data is not given. Otherwise it runs on a
    running `unproxy up`; if none runs, on its data folder.
    """
    from unproxy.local.connect import tables
    from unproxy.query import answer, formats
    from unproxy.query.hunt import Hunt, Limits, prepared

    state = state_of(context)
    question = typer.get_text_stream("stdin").read() if text == "-" else text
    if not question.strip():
        raise Fixable("the query is empty; write it in SQL, or in KQL with --kql")
    with tables(state, data) as client:
        if is_kql:
            limits = Limits()
            write(client, prepared(client, Hunt(question)), limits, formats.HuntFormat(output), raw_csv=raw_csv)
        else:
            answer.show(client, question, {}, output, formats.screen_width(), raw_csv=raw_csv)


def list_library() -> None:
    """Write name, title and explanation of each hunt of the library to stdout."""
    from hunting.library import hunts

    for one in hunts():
        typer.echo(f"{one.name}: {one.title}")
        for line in one.description.splitlines():
            typer.echo(f"    {line}".rstrip())
        typer.echo()


def read(text: str, file: Path | None = None, name: str = "", sigma: Path | None = None) -> str:
    """Return the query from an argument, a file, standard input, the library or a Sigma rule. Raises Fixable."""
    if sum(map(bool, (text, file, name, sigma))) > 1:
        raise Fixable("there are two queries; give one of KQL, --file, --name and --sigma")
    if sigma is not None:
        return _of_rule(sigma)
    if name:
        text = _of_library(name)
    elif file is not None:
        text = _of_file(file)
    elif text == "-":
        text = _decoded(sys.stdin.buffer.read(QUERY_BYTES_MAX + 1), "standard input")
    if not text.strip():
        raise Fixable("there is no query; write it in quotes, name a file with --file, or - for standard input")
    return text


def _of_file(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return _decoded(opened.read(QUERY_BYTES_MAX + 1), str(file))
    except OSError as error:
        raise Fixable(f"{file}: {error.strerror}; name a file that can be read") from None


def _decoded(content: bytes, source: str) -> str:
    """Return a query or rule as text. Raises Fixable where it is too long or not UTF-8."""
    if len(content) > QUERY_BYTES_MAX:
        raise Fixable(f"{source}: longer than {QUERY_BYTES_MAX:,} bytes; name a query or a rule")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fixable(f"{source}: not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def _of_rule(file: Path) -> str:
    try:
        from hunting.sigma import SigmaRefused, to_kql
    except ModuleNotFoundError:
        raise Fixable("--sigma needs pySigma; install it with: pip install 'unproxy[sigma]'") from None
    try:
        return to_kql(_of_file(file))
    except SigmaRefused as error:
        raise Fixable(f"{file}: {error}") from None


def _of_library(name: str) -> str:
    from difflib import get_close_matches

    from hunting.library import hunts

    texts = {one.name: one.text for one in hunts()}
    if name not in texts:
        near = get_close_matches(name, texts, n=1)
        hint = f"did you mean {near[0]}?" if near else "`hunt --list` shows them"
        raise Fixable(f"{name} is no hunt of the library; {hint}")
    return texts[name]


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
    from unproxy.query.hunt import answered, has_more, records

    notes = []
    if output in (HuntFormat.ARROW, HuntFormat.PARQUET):
        _write_binary(client, result, limits, output)
        more = has_more(client, result, limits)
    elif output is HuntFormat.JSONL and not explain:
        more = _write_lines(records(client, result, limits), limits.rows)
    else:
        answer = answered(client, result, limits)
        formats.written(answer, output, raw_csv=raw_csv)
        more = answer.more
        notes += [] if answer.rows else ["no rows"]
        if explain:
            notes.append(f"{answer.secs:.3f} s, {answer.rows_read:,} rows and {answer.bytes_read:,} bytes read")
    if more:
        notes.append(f"the first {limits.rows:,} rows; --rows 0 gives all")
    if result.chart:
        notes.append(f"render {result.chart}: drawn by the console; here are the rows")
    for note in notes:
        sys.stderr.write(f"{note}\n")


def _write_lines(records: Iterator[dict[str, object]], rows_max: int) -> bool:
    """Write rows as lines of JSON; return whether there are more than `rows_max` (0 for no limit)."""
    for number, record in enumerate(records):
        if rows_max and number == rows_max:
            return True
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    return False


def _write_binary(client: Client, result: Result, limits: Limits, output: HuntFormat) -> None:
    from unproxy.query.hunt import chunks

    if sys.stdout.isatty():
        raise Fixable(f"{output} is no text; send it to a file with > FILE")
    name = {HuntFormat.ARROW: "Arrow", HuntFormat.PARQUET: "Parquet"}[output]
    # Nothing is sent before the answer is whole: a hunt that fails leaves no part of a file.
    settings = {"wait_end_of_query": "1", **({"limit": str(limits.rows)} if limits.rows else {})}
    for chunk in chunks(client, result.sql, limits, name, settings):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
