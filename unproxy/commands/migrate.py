"""`unproxy migrate`: creates the tables or updates them."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.errors import Fixable
from unproxy.options import state_of


def migrate(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done and change nothing.")] = False,
    lost: Annotated[bool, typer.Option("--lost", help="Create tables that were lost, empty.")] = False,
) -> None:
    """Create the tables in ClickHouse or update them.

    A view that is missing or lacks a column is created again. A table that was lost is created again, without its rows,
    only with --lost. To restore the rows that Kafka still has, then reset the offsets of the sink's consumer group.
    """
    from sinks.migrate import broken_views, lost_tables, pending, recreate_tables
    from unproxy import wiring
    from unproxy.local.connect import services
    from unproxy.wiring import on_tables

    settings = services(state_of(context)).settings
    missing = on_tables(settings, lost_tables)
    if missing and not lost:
        raise Fixable(
            f"tables {', '.join(missing)}: are lost with their rows; restore them, or run `unproxy migrate --lost` to create "
            "them empty, and reset the offsets of the sink's consumer group for the rows that Kafka still has"
        )
    if dry_run:
        names = [*on_tables(settings, pending), *(f"view {name}" for name in on_tables(settings, broken_views))]
    else:
        on_tables(settings, recreate_tables)
        names = wiring.migrate(settings)
    names = [*(f"table {name}" for name in missing), *names]
    for name in names:
        typer.echo(name)
    where = f"{settings.clickhouse.url}, database {settings.clickhouse.database}"
    done = "to apply" if dry_run else "applied"
    typer.echo(f"{len(names)} {done} at {where}" if names else f"{where}: up to date", err=True)
