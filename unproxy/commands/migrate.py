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
    yes: Annotated[bool, typer.Option("--yes", help="Remove rows that a shorter retention does not keep.")] = False,
) -> None:
    """Create the tables in ClickHouse or update them.

    A view that is missing or lacks a column is created again. A table that was lost is created again, without its rows,
    only with --lost. To restore the rows that Kafka still has, then reset the offsets of the sink's consumer group.

    Each table gets the retention of the settings. If rows would be removed at once, they are named, and nothing is
    changed without --yes.
    """
    from sinks.migrate import broken_views, lost_tables, pending, recreate_tables
    from sinks.retention import apply, described, losses, retentions
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
    kept = on_tables(settings, lambda client, database: retentions(client, database, settings.retention))
    removed = list(losses(kept))
    if removed and not yes and not dry_run:
        raise Fixable(f"the retention removes {'; '.join(removed)}; run `unproxy migrate --yes`, or change [retention]")
    for loss in removed:
        typer.echo(f"the retention removes {loss}", err=True)
    if dry_run:
        names = [*on_tables(settings, pending), *(f"view {name}" for name in on_tables(settings, broken_views))]
        names += [described(one) for one in kept if one.differs or (one.stale_parts and not one.changing)]
    else:
        on_tables(settings, recreate_tables)
        names = wiring.migrate(settings)
        names += on_tables(settings, lambda client, database: apply(client, database, settings.retention))
    names = [*(f"table {name}" for name in missing), *names]
    for name in names:
        typer.echo(name)
    where = f"{settings.clickhouse.url}, database {settings.clickhouse.database}"
    done = "to apply" if dry_run else "applied"
    typer.echo(f"{len(names)} {done} at {where}" if names else f"{where}: up to date", err=True)
