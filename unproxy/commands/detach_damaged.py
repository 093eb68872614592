"""`unproxy detach-damaged`: detaches the parts of tables that ClickHouse cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from common.throttle import Throttle
from unproxy.options import DataOption, Form, FormOption, state_of
from unproxy.output import NOTIFY_SECS, notify, printable

if TYPE_CHECKING:
    from unproxy.ops.damage import Part, Progress


def detach_damaged(
    context: typer.Context,
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this table; may be given several times.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the damaged parts and change nothing.")] = False,
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Detach the parts of tables that ClickHouse cannot read.

    A damaged part makes queries fail until it is detached. Its files stay in the table's folder `detached`. Afterwards,
    reset the offsets of the sink's consumer group to a time before the rows were written: the sink then writes them again
    from Kafka. Rows that are still stored are not duplicated.
    """
    from schemas.topics import TABLE_OF_TOPIC
    from unproxy.local.connect import services
    from unproxy.ops.damage import damaged, detach, forget_inserts
    from unproxy.query.client import of_settings

    known = list(TABLE_OF_TOPIC.values())
    if strange := [name for name in table or () if name not in known]:
        raise typer.BadParameter(f'"{strange[0]}" is not one of {", ".join(known)}', param_hint="--table")
    settings = services(state_of(context), data).settings
    client = of_settings(settings)
    client.ping()
    parts: list[Part] = []

    def found() -> Iterator[Part]:
        for name in table or known:
            before = len(parts)
            for part in damaged(client, name, _progress(name)):
                if part.detached or dry_run or detach(client, part):
                    parts.append(part)
                    yield part
            if len(parts) > before and not dry_run:
                forget_inserts(client, name)

    for line in form.written(_line(part, dry_run, form) for part in found()):
        typer.echo(line)
    if not parts:
        notify("no part is damaged")
        return
    first = min((part.first_written for part in parts if part.first_written), default="")
    notify(
        f"reset the offsets of consumer group {settings.sink.group} to "
        f"{f'a time before {first}' if first else 'the earliest ones'}: the sink then writes the rows again"
    )


def _line(part: Part, dry_run: bool, form: Form) -> str:
    done = "detached by ClickHouse before" if part.detached else "to detach" if dry_run else "detached"
    if form is not Form.TEXT:
        fields = {"Table": part.table, "Part": part.name, "Done": done, "Rows": part.rows, "Why": part.why}
        return json.dumps({**fields, "FirstWritten": part.first_written, "LastWritten": part.last_written})
    rows = "rows" if part.rows is None else f"{part.rows:,} rows"
    when = f"{part.first_written} to {part.last_written}" if part.first_written else f"until {part.last_written}"
    return printable(f"{part.table}  part {part.name} {done}: {rows} written {when}; {part.why}")


def _progress(table: str) -> Progress:
    """Return a callback that reports, at a limited rate, how many parts were checked."""
    throttle = Throttle(NOTIFY_SECS, at_once=False)

    def report(number: int, of: int) -> None:
        if throttle.due():
            notify(f"{table}: {number:,} of {of:,} parts checked")

    return report
