"""`unproxy timeline`: what a device's processes connected to, each destination with its own verdict."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.tables import Layer, Outcome
from unproxy.errors import Failed
from unproxy.options import DataOption, Form, FormOption, as_iso, span_of, state_of, utc_time
from unproxy.output import in_color, notify, printable

if TYPE_CHECKING:
    from schemas.events import Micros
    from unproxy.query.client import Client


def timeline(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name or ID of the device.")],
    since: Annotated[str, typer.Option("--from", metavar="T", help="Not before this time (UTC).")] = "",
    until: Annotated[str, typer.Option("--to", metavar="T", help="Before this time (UTC).")] = "",
    process: Annotated[str, typer.Option(metavar="TEXT", help="File name, command line or PID of the process.")] = "",
    text: Annotated[str, typer.Option(metavar="TEXT", help="Anywhere in target, address, outcome or process.")] = "",
    layer: Annotated[Layer | None, typer.Option(help="Only connections, or only destinations behind proxies.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only lines with this outcome.")] = None,
    destination: Annotated[
        str, typer.Option(metavar="NAME", help="Only this destination: a name with those below it, or an address.")
    ] = "",
    proxy: Annotated[
        str, typer.Option(metavar="PROXY", help="Only through this proxy: address, with port, name.")
    ] = "",
    before: Annotated[
        str, typer.Option(metavar="TIME/ID", help="Only lines after the row with this Timestamp and RecordId.")
    ] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of lines; the latest are shown.")
    ] = 1_000,
    reverse: Annotated[bool, typer.Option("--reverse", help="Oldest first.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Also URL, user, bytes and HTTP status.")] = False,
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Show what a device connected to, newest first.

    One line a connection, and one for each destination behind a proxy with its own verdict. The line of a connection to
    a proxy names no target. RemoteIP is the row's; (in brackets) the proxy's, where the destination's own address is
    unknown. Id is for `event`. A time is 2026-11-24T10:05, only the day, 1h for an hour ago, or only 10:05 on the last
    day with data.
    """
    from unproxy.local.connect import tables
    from unproxy.query import screen
    from unproxy.query.devices import never_seen
    from unproxy.query.timeline import Wanted, as_objects, span
    from unproxy.query.timeline import timeline as rows_of

    span_of("--from", since, "--to", until)
    after = _place("--before", before)
    with tables(state_of(context), data) as client:
        begin, end = _interval(client, device, since, until)
        wanted = Wanted(
            device, as_iso(begin), as_iso(end), process, text, layer or "", limit, reverse, outcome or "", destination, proxy,
            after,
        )  # fmt: skip
        page = rows_of(client, wanted)
        unknown = "" if page.rows else never_seen(client, device)
        known = None if page.rows else span(client, device)
    if unknown:
        raise Failed(unknown)
    if form is Form.TEXT:
        color = in_color(sys.stdout)
        if page.rows:
            lines = screen.timeline_lines(page.rows, screen.width_of_output(), wide=wide, color=color)
            screen.write(lines, color=color)
    else:
        for line in screen.records(as_objects(page.rows), array=form is Form.JSON):
            typer.echo(line)
    if page.more:
        typer.echo(f"the latest {limit:,} lines; --limit and --to show more", err=True)
    if known:
        typer.echo(printable(f"no such connections of {device}; {known.in_words()}"), err=True)


def _place(option: str, given: str) -> str:
    """Return the place of a row, its time as ClickHouse parses it. Raises BadParameter."""
    time, sign, identity = given.partition("/")
    if given and not (sign and identity):
        raise typer.BadParameter(f'"{given}" is not Timestamp/RecordId, as --format json shows them', param_hint=option)
    return f"{utc_time(option, time)}/{identity}" if given else ""


def _interval(client: Client, device: str, since: str, until: str) -> tuple[Micros, Micros]:
    """Return the interval that is asked for; times of day are those of the last day with data, which is reported."""
    from unproxy.query.timeline import span
    from unproxy.query.times import end_of_day, is_clock

    day = span(client, device).last[:10] if is_clock(since or until) else ""
    if not day:
        return span_of("--from", since, "--to", until)
    notify(f"{since or until} is taken as of {day}, the last day with data of {device} (UTC)")
    return span_of("--from", since, "--to", until, end_of_day(day))
