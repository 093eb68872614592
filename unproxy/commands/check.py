"""`unproxy check`: checks settings, Kafka, ClickHouse, topics and tables, and states the remedy of each problem."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.options import DataOption, state_of
from unproxy.output import printable


def check(
    context: typer.Context,
    dump: Annotated[bool, typer.Option("--dump", help="Only show the effective settings, as TOML.")] = False,
    data: DataOption = None,
) -> None:
    """Check settings, Kafka, ClickHouse, topics, tables.

    Prints one line per check; if the check found a problem, with the remedy. The first line names what is checked: the
    servers of a running `unproxy up`, or those of the settings. The exit code is 1 if there is a problem.
    """
    from unproxy.local.connect import services

    found = services(state_of(context), data)
    settings = found.settings
    if dump:
        from schemas import settings_file

        typer.echo(settings_file.dump(settings))
        return
    from unproxy.ops.check import everything

    typer.echo(f"ok     {printable(found.in_words())}")
    wrong = 0
    for finding in everything(settings):
        typer.echo(f"{'ok   ' if finding.fine else 'WRONG'}  {printable(finding.what)}")
        wrong += not finding.fine
    if wrong:
        typer.echo(f"{wrong} of these must be fixed", err=True)
        raise typer.Exit(1)
