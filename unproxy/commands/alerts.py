"""`unproxy alerts`: what network protection did or could not do, now and as it happens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from unproxy.commands.common import example, state_of, stop_asked
from unproxy.commands.query import DataOption
from unproxy.commands.suppress import Kind
from unproxy.commands.timeline import Shape, ShapeOption
from unproxy.errors import Fixable


class AtLeast(StrEnum):
    """Severities, the worst last."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("alerts --device dev-b --severity medium"))(alerts)


def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Show alerts as they are published, until Ctrl-C.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="With --follow: everything on the topic first.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="D", help="Only this device.")] = "",
    kind: Annotated[Kind | None, typer.Option(help="Only alerts of this kind.")] = None,
    severity: Annotated[AtLeast | None, typer.Option(help="Only alerts that are so bad, or worse.")] = None,
    suppressed: Annotated[
        bool | None, typer.Option("--suppressed/--no-suppressed", help="Only suppressed ones, or only the others.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Alerts at most, the latest ones.")] = 1_000,
    shape: ShapeOption = Shape.TEXT,
    data: DataOption = None,
) -> None:
    """Show alerts, or follow them as they come.

    Shows what the table holds; with --follow each change of an alert from now on, until Ctrl-C. Suppressed alerts are
    shown, and say who suppresses them, until when and why.
    """
    from unproxy.query import alerts as found
    from unproxy.query.where import kafka_settings, tables

    def write(alert: Mapping[str, Any]) -> None:
        typer.echo(json.dumps(alert) if shape is Shape.JSONL else found.line(alert))

    def say(what: str) -> None:
        typer.echo(f"unproxy: {what}", err=True)

    if from_start and not follow:
        raise Fixable("--from-start goes with --follow")
    state = state_of(context)
    severities = tuple(AtLeast)[tuple(AtLeast).index(severity) :] if severity else ()
    wanted = found.Wanted(device, kind or "", severities, suppressed)
    if not follow:
        with tables(state, data) as client:
            rows = found.stored(client, wanted, limit)
        for row in rows:
            write(row)
        if not rows:
            typer.echo("no alerts", err=True)
        return
    typer.echo("waiting for alerts; Ctrl-C ends", err=True)
    settings = kafka_settings(state, data)
    with stop_asked() as stop:
        for alert in found.followed(settings, wanted, from_start, say):
            if alert is not None:
                write(alert)
            if stop.is_set():
                return
