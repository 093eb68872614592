"""`unproxy coverage`: was this device seen then, and is anything missing?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from unproxy.commands.common import example, state_of
from unproxy.commands.query import DataOption
from unproxy.commands.timeline import Shape, ShapeOption


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("coverage dev-a 10:05 10:30"))(coverage)


def coverage(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name or ID of the device.")],
    since: Annotated[str, typer.Argument(metavar="FROM", help="From this time (UTC) on; without it all.")] = "",
    until: Annotated[str, typer.Argument(metavar="TO", help="To this time; without it a minute.")] = "",
    shape: ShapeOption = Shape.TEXT,
    data: DataOption = None,
) -> None:
    """Tell whether a device was seen, by which of its sensors, and what is missing.

    A time is 2026-11-24T10:05, or only 10:05 for the latest one (UTC, the device's own clock). Of each sensor it says
    when it was heard, which of its lines never came, and when the device was silent for longer than its habit.
    """
    from unproxy.query import coverage as seen
    from unproxy.query.where import tables

    now = datetime.now(UTC)
    begin = _moment("FROM", since, now)
    end = _moment("TO", until, now, begin) if until else begin + seen.MINUTE if begin else 0
    if begin and end <= begin:
        raise typer.BadParameter(f'"{until}" is not after "{since}"', param_hint="TO")
    with tables(state_of(context), data) as client:
        found = seen.ask(client, device, begin, end)
        known = [] if found else client.rows("SELECT DISTINCT DeviceName FROM DeviceCoverage ORDER BY 1 LIMIT 20")
    if found is None:
        names = ", ".join(row["DeviceName"] for row in known) or "none yet"
        typer.echo(f"{device} was never seen; known devices: {names}", err=True)
    elif shape is Shape.JSONL:
        for one in seen.as_objects(found):
            typer.echo(json.dumps(one))
    else:
        for line in seen.lines(found):
            typer.echo(line)


def _moment(name: str, given: str, now: datetime, after: int = 0) -> int:
    from unproxy.query.coverage import moment

    if not given:
        return 0
    try:
        return moment(given, now, after)
    except ValueError:
        raise typer.BadParameter(
            f'"{given}" is not a time; write 2026-11-24T10:05 (UTC), only the day, or 10:05', param_hint=name
        ) from None
