"""`unproxy timeline`: shows the connections of a device, one per line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unproxy.options import DataOption, Shape, ShapeOption, as_iso, span_of, state_of
from unproxy.output import printable


def timeline(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name or ID of the device.")],
    since: Annotated[str, typer.Option("--from", metavar="T", help="Not before this time (UTC).")] = "",
    until: Annotated[str, typer.Option("--to", metavar="T", help="Before this time (UTC).")] = "",
    process: Annotated[str, typer.Option(metavar="TEXT", help="File name, command line or PID of the process.")] = "",
    text: Annotated[str, typer.Option(metavar="TEXT", help="Anywhere in target, address, outcome or process.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Connections at most.")] = 1_000,
    shape: ShapeOption = Shape.TEXT,
    data: DataOption = None,
) -> None:
    """Show a device's connections in time order.

    Each line is a connection: time, process, remote address (that of the proxy, if one is used), real targets, outcome,
    and marks such as [NetworkProtection: blocked]. A time is 2026-11-24T10:05, only the day, or only 10:05 for the latest
    10:05.
    """
    from unproxy.local.connect import tables
    from unproxy.query.devices import known
    from unproxy.query.timeline import Wanted, as_object, entries, line, question

    begin, end = span_of("--from", since, "--to", until)
    wanted = Wanted(device, as_iso(begin), as_iso(end), process, text, limit)
    with tables(state_of(context), data) as client:
        found = entries(client.rows(*question(wanted)))
        names = "" if found else known(client, "DeviceNetworkEvents")
    for entry in found[:limit]:
        typer.echo(json.dumps(as_object(entry)) if shape is Shape.JSONL else line(entry))
    if len(found) > limit:
        typer.echo(f"the first {limit} connections; --limit and --from show more", err=True)
    if not found:
        typer.echo(printable(f"no such connections of {device}; {names}"), err=True)
