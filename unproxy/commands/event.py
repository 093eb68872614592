"""`unproxy event`: shows all rows, verdicts and alerts about one row, connection or alert."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unproxy.options import DataOption, Shape, ShapeOption, state_of
from unproxy.output import printable


def event(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="RecordId, ConnectionId or AlertId, or 8 characters of its beginning.")
    ],
    shape: ShapeOption = Shape.TEXT,
    data: DataOption = None,
) -> None:
    """Show everything about one row, connection or alert.

    Takes the ID of a row, a connection or an alert. Shows the rows, verdicts and alerts that belong to it, the evidence,
    and how the destination was decided.
    """
    from unproxy.local.connect import tables
    from unproxy.query.event import find, report

    with tables(state_of(context), data) as client:
        known = find(client, identity)
    if shape is Shape.TEXT:
        for line in report(known):
            typer.echo(printable(line))
        return
    for row in (*known.connection, *known.destinations, *known.verdicts, *known.alerts):
        typer.echo(json.dumps(row))
