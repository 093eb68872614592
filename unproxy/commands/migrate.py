"""`unproxy migrate`: make the tables, or bring them up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.commands.common import example, state_of


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("--config .unproxy/settings.toml migrate --dry-run"))(migrate)


def migrate(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Create the tables in ClickHouse or update them."""
    from unproxy import wiring

    settings = state_of(context).settings
    names = wiring.pending_migrations(settings) if dry_run else wiring.migrate(settings)
    for name in names:
        typer.echo(name)
    where = f"{settings.clickhouse.url}, database {settings.clickhouse.database}"
    done = "to apply" if dry_run else "applied"
    typer.echo(f"{len(names)} {done} at {where}" if names else f"{where}: up to date", err=True)
