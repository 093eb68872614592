"""`unproxy check`: settings, Kafka, ClickHouse, topics and tables, each with what to do where something is wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.options import example, state_of
from unproxy.output import printable


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("--config .unproxy/settings.toml check"))(check)


def check(
    context: typer.Context,
    dump: Annotated[bool, typer.Option("--dump", help="Only show the settings in force, as TOML.")] = False,
) -> None:
    """Check settings, Kafka, ClickHouse, topics, tables.

    One line a finding, with what to do where something is wrong; then the exit code is 1.
    """
    settings = state_of(context).settings
    if dump:
        from schemas.settings_file import dump as written

        typer.echo(written(settings))
        return
    from unproxy.ops import check as checking

    wrong = 0
    for finding in checking.everything(settings):
        typer.echo(f"{'ok   ' if finding.fine else 'WRONG'}  {printable(finding.what)}")
        wrong += not finding.fine
    if wrong:
        typer.echo(f"{wrong} of these need a hand", err=True)
        raise typer.Exit(1)
