"""`unproxy rejects`: shows the lines that could not be read, or replays them after a fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.errors import Fixable
from unproxy.options import DataOption, Form, FormOption, state_of, stop_asked, utc_time
from unproxy.output import notify, printable

if TYPE_CHECKING:
    from schemas.settings import Settings
    from unproxy.ops.reject_positions import Wanted
    from unproxy.ops.rejects import Account


def rejects(
    context: typer.Context,
    reason: Annotated[str, typer.Option(metavar="R", help="Only this reason, such as malformed.")] = "",
    dialect: Annotated[str, typer.Option(metavar="D", help="Only lines of this dialect.")] = "",
    device: Annotated[str, typer.Option(metavar="D", help="Only lines of this device.")] = "",
    since: Annotated[str, typer.Option(metavar="T", help="Rejected at this time (UTC) or later.")] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of kinds; the most frequent are shown.")
    ] = 100,
    replay: Annotated[
        bool, typer.Option("--replay", help="Publish the lines again, each once, to be read after a fix.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --replay: count what would be replayed and change nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --replay: also lines that were replayed before.")
    ] = False,
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Show which lines could not be read, or replay them after a fix.

    Shows the rejects in the table, by reason and dialect, with an example of each. --replay reads them from Kafka instead,
    so it needs no ClickHouse; rejects that were replayed before are left out.
    """
    from schemas.events import Reason
    from unproxy.local.connect import services, tables
    from unproxy.query.rejects import Selection, kinds, lines, stored

    if reason and reason not in set(Reason):
        raise typer.BadParameter(f'"{reason}" is not one of {", ".join(Reason)}', param_hint="--reason")
    if (dry_run or again) and not replay:
        raise Fixable(f"{'--dry-run' if dry_run else '--again'} goes with --replay")
    state = state_of(context)
    begin = utc_time("--since", since)
    if replay:
        _replay(services(state, data).settings, _wanted(reason, dialect, device, begin), again, dry_run, form)
        return
    with tables(state, data) as client:
        rows = stored(client, Selection(reason, dialect, device, begin, limit))
        there = kinds(client) if not rows else ""
    shown = ("\n".join(lines(row)) if form is Form.TEXT else json.dumps(row) for row in rows)
    for line in form.written(shown):
        typer.echo(line)
    if not rows:
        typer.echo(f"no rejects match; {there}" if there else "no rejects at all", err=True)


def _wanted(reason: str, dialect: str, device: str, since: str) -> Wanted:
    from schemas.clock import parse_micros
    from unproxy.ops.reject_positions import ANY, Wanted

    return Wanted(reason or ANY, dialect or ANY, device, parse_micros(since) // 1_000 if since else 0)


def _replay(settings: Settings, wanted: Wanted, again: bool, dry_run: bool, form: Form) -> None:
    from unproxy.ops.rejects import Replay
    from unproxy.timeouts import Stopped

    # Ctrl-C may interrupt the requests of the constructor. During the replay, no exception may come from a signal, because
    # librdkafka would crash.
    run = Replay(settings, wanted, again=again, dry_run=dry_run, notify=notify)
    with stop_asked() as stop:
        try:
            account = run.until(stop)
        except Stopped:
            notify(f"stopped; {run.account.replayed:,} were replayed")
            raise KeyboardInterrupt from None
    for line in form.written(_lines(account, dry_run, form)):
        typer.echo(line)
    if not account.replayed:
        typer.echo("nothing to replay" + (f"; {account.before:,} were before" if account.before else ""), err=True)
    elif not wanted.is_whole and not dry_run:
        typer.echo(
            "with --device or --since the position is not stored: the next --replay publishes these lines again",
            err=True,
        )


def _lines(account: Account, dry_run: bool, form: Form) -> Iterator[str]:
    for (reason, dialect, why), count in sorted(account.done.items(), key=lambda item: (-item[1], item[0])):
        done = "left" if why else "to replay" if dry_run else "replayed"
        if form is Form.TEXT:
            yield printable(f"{count:,} {done}  {reason}  {dialect or 'no dialect'}{f'  {why}' if why else ''}")
        else:
            yield json.dumps({"Reason": reason, "Dialect": dialect, "Count": count, "Done": done, "Why": why})
