"""`unproxy refill`: rows that ClickHouse lost, from Kafka into the tables once more."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.errors import Failed
from unproxy.options import DataOption, Shape, ShapeOption, example, state_of, stop_asked, utc_time
from unproxy.output import printable, say

if TYPE_CHECKING:
    from schemas.settings import Settings
    from unproxy.ops.damage import Part, Progress
    from unproxy.ops.refill import Account, Refill


SAY_SECS = 2.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("refill --since 2026-11-24T19:00 --detach-damaged --dry-run"))(refill)


def refill(
    context: typer.Context,
    since: Annotated[str, typer.Option(metavar="T", help="Rows that came to Kafka at this time (UTC) or later.")],
    until: Annotated[str, typer.Option(metavar="T", help="Rows that came before this time (UTC).")] = "",
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this table; may be given several times.")
    ] = None,
    detach_damaged: Annotated[
        bool, typer.Option("--detach-damaged", help="First put aside the parts that ClickHouse cannot read any more.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    shape: ShapeOption = Shape.TEXT,
    data: DataOption = None,
) -> None:
    """Write rows into the tables again that Kafka still has.

    For tables that ClickHouse cannot read any more, or that lost rows: a damaged part makes questions fail until it is put
    aside. What is there already shows once all the same, so it is safe to take too much, and to start again. The sinks may
    run meanwhile.
    """
    from schemas.topics import TABLE_OF_TOPIC
    from unproxy.local.connect import kafka_settings
    from unproxy.ops.refill import Refill
    from unproxy.query.client import of_settings

    known = list(TABLE_OF_TOPIC.values())
    if strange := [name for name in table or () if name not in known]:
        raise typer.BadParameter(f'"{strange[0]}" is none of {", ".join(known)}', param_hint="--table")
    since_ms, until_ms = _millis("--since", since), _millis("--until", until)
    if since_ms is None:
        raise typer.BadParameter("is empty; write 2026-11-24T19:07:30 (UTC), or only the day", param_hint="--since")
    if until_ms is not None and until_ms <= since_ms:
        raise typer.BadParameter("is not after --since", param_hint="--until")
    settings = kafka_settings(state_of(context), data)
    tables = [name for name in known if not table or name in table]
    of_settings(settings).ping()
    # Ctrl-C ends the questions asked here at once; later on librdkafka must not meet it.
    run = Refill(settings, tables, since_ms, until_ms, say)
    if detach_damaged:
        _detach_damaged(settings, tables, utc_time("--since", since), dry_run, shape)
    _write_again(run, dry_run, shape)


def _millis(option: str, given: str) -> int | None:
    from schemas.clock import parse_micros

    return parse_micros(utc_time(option, given)) // 1_000 if given else None


def _detach_damaged(settings: Settings, tables: Sequence[str], since: str, dry_run: bool, shape: Shape) -> None:
    from unproxy.ops.damage import damaged, detach
    from unproxy.query.client import of_settings

    client = of_settings(settings)
    parts = []
    for table in tables:
        for part in damaged(client, table, _progress(table)):
            if not part.aside and not dry_run:
                detach(client, part)
            parts.append(part)
            _tell_part(part, dry_run, shape)
    if not parts:
        say("no part is damaged")
    first = min((part.first_written for part in parts if part.first_written), default=since)
    if first < since:
        say(f"rows written since {first} were in these parts; --since {first} or a little earlier brings back more")


def _tell_part(part: Part, dry_run: bool, shape: Shape) -> None:
    done = "put aside by ClickHouse before" if part.aside else "to detach" if dry_run else "detached"
    if shape is Shape.JSONL:
        told = {"Table": part.table, "Part": part.name, "Done": done, "Rows": part.rows, "Why": part.why}
        typer.echo(json.dumps({**told, "FirstWritten": part.first_written, "LastWritten": part.last_written}))
        return
    rows = "rows" if part.rows is None else f"{part.rows:,} rows"
    when = f"{part.first_written} to {part.last_written}" if part.first_written else f"until {part.last_written}"
    typer.echo(printable(f"{part.table}  part {part.name} {done}: {rows} written {when}; {part.why}"))


def _write_again(run: Refill, dry_run: bool, shape: Shape) -> None:
    from unproxy.timeouts import Stopped

    with stop_asked() as stop:
        try:
            accounts = run.until(stop, dry_run=dry_run)
        except Stopped:
            rows = sum(account.rows for account in run.accounts.values())
            say(f"stopped; {rows:,} rows were written again, it is safe to start this again")
            raise KeyboardInterrupt from None
    for table, account in accounts.items():
        _tell(table, account, dry_run, shape)
    if refused := [account for account in accounts.values() if account.refused]:
        raise Failed(
            f"ClickHouse refused {sum(account.refused for account in refused):,} rows, the others are written: "
            f"{refused[0].why_refused}"
        )


def _tell(table: str, account: Account, dry_run: bool, shape: Shape) -> None:
    if shape is Shape.JSONL:
        told = {"Table": table, "Messages": account.of, "Rows": account.rows, "Refused": account.refused}
        typer.echo(json.dumps({**told, "Done": "to read" if dry_run else "written"}))
    elif dry_run:
        typer.echo(f"{table}  {account.of:,} messages to read")
    else:
        typer.echo(f"{table}  {account.rows:,} rows of {account.messages:,} messages written again")
    if account.deleted_before:
        say(f"{table}: Kafka has deleted what came before {account.deleted_before}; older rows cannot be brought back")


def _progress(table: str) -> Progress:
    """Tells now and then which part is looked at."""
    said_at = time.monotonic()

    def tell(number: int, of: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SAY_SECS:
            said_at = time.monotonic()
            say(f"{table}: {number:,} of {of:,} parts looked at")

    return tell
