"""`unproxy event`: shows all rows, verdicts and alerts about one row, connection or alert."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.options import DataOption, Form, FormOption, state_of
from unproxy.output import printable


def event(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="RecordId, ConnectionId or AlertId, or 8 characters of its beginning.")
    ],
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Show everything about one row, connection or alert.

    Takes the ID of a row, a connection or an alert. Shows the rows, verdicts and alerts that belong to it, the evidence,
    and how the destination was decided. Of an alert it shows the rows and connections that the alert counts.
    """
    from unproxy.local.connect import tables
    from unproxy.query import screen
    from unproxy.query.event import find, report

    with tables(state_of(context), data) as client:
        known = find(client, identity)
    if form is Form.TEXT:
        for line in report(known, screen.width_of_output()):
            typer.echo(printable(line))
        return
    rows = (*known.connection, *known.destinations, *known.verdicts, *known.alerts)
    for line in screen.records(rows, array=form is Form.JSON):
        typer.echo(line)
