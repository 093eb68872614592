"""`unproxy coverage`: shows whether a device was seen, which lines are missing, and why connections are unresolved."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.errors import Failed
from unproxy.options import DataOption, Form, FormOption, span_of, state_of
from unproxy.output import printable


def coverage(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name or ID of the device.")],
    since: Annotated[
        str, typer.Argument(metavar="FROM", help="From this time (UTC) on; by default the whole history.")
    ] = "",
    until: Annotated[
        str, typer.Argument(metavar="TO", help="To this time; without it a minute, of a day all of it.")
    ] = "",
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Show by which sensors a device was seen, and what is missing or unresolved.

    A time is 2026-11-24T10:05, or only 10:05 for the latest 10:05 (UTC, by the device's clock). The output states for each
    sensor when it reported and which of its lines never arrived, and for the device when it was silent for longer than
    usual. Unresolved connections are counted by cause; for each cause it names the sensor or setting that would resolve
    them.
    """
    from unproxy.local.connect import tables
    from unproxy.query.coverage import MINUTE, as_objects, ask, lines
    from unproxy.query.devices import known, never_seen
    from unproxy.query.screen import records
    from unproxy.query.times import DAY, is_day

    begin, end = span_of("FROM", since, "TO", until)
    if begin and not end:
        end = begin + (DAY if is_day(since) else MINUTE)
    with tables(state_of(context), data) as client:
        found = ask(client, device, begin, end)
        unknown = "" if found else never_seen(client, device)
        names = "" if found else known(client, "DeviceCoverage")
    if unknown:
        raise Failed(unknown)
    if found is None:
        typer.echo(printable(f"no sensor of {device} reports its coverage; {names}"), err=True)
    if form is not Form.TEXT:
        for line in records(as_objects(found) if found else [], array=form is Form.JSON):
            typer.echo(line)
    elif found:
        for line in lines(found):
            typer.echo(line)
