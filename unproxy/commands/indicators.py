"""`unproxy indicators`: manages the indicators, which define the destinations to block, warn of, audit or allow."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.indicators import Indicator, IndicatorAction, IndicatorType
from unproxy.errors import Failed, Fixable
from unproxy.indicators.format import Format
from unproxy.options import DataOption, RawCsvOption, example, state_of, stop_asked
from unproxy.output import json_array, notify, printable

if TYPE_CHECKING:
    from unproxy.indicators.topic import Board


class ListFormat(StrEnum):
    """Format of the output of `list`."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


family = typer.Typer(
    help="Define which destinations are blocked, warned of, noted or allowed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@family.command(epilog=example("indicators add evil.example --title 'Campaign 7' --expires 30d"))
def add(
    context: typer.Context,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Domain, IP address, network or URL prefix.")],
    action: Annotated[IndicatorAction, typer.Option(help="Action on matching requests.")] = IndicatorAction.BLOCK,
    exact: Annotated[
        bool, typer.Option("--exact", help="Of a domain: match only this name, not the names below it.")
    ] = False,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="Only this port; 0 for all.")] = 0,
    process: Annotated[
        str, typer.Option(metavar="NAME", help="Only requests of this process: file name, or whole path.")
    ] = "",
    title: Annotated[str, typer.Option(metavar="TEXT", help="Title of its alerts.")] = "",
    severity: Annotated[str, typer.Option(metavar="S", help="informational, low, medium or high.")] = "medium",
    category: Annotated[str, typer.Option(metavar="TEXT", help="Such as CommandAndControl.")] = "",
    recommended: Annotated[str, typer.Option(metavar="TEXT", help="What a responder should do.")] = "",
    expires: Annotated[
        str, typer.Option(metavar="T", help="Expiry: a time (UTC), or a duration from now such as 30d or 12h.")
    ] = "",
    group: Annotated[
        list[str] | None, typer.Option(metavar="G", help="Only devices of this group; may be given several times.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Add an indicator, or change the one for the same value, port, process and groups.

    The workers apply it after about five seconds, to requests that are logged from then on.
    """
    from schemas.indicator_input import Given, Refused, indicator_of, now_micros
    from unproxy.indicators.plain import whole

    meant = whole(value.strip())
    if meant != value.strip():
        notify(f'"{value}" is taken as {meant}')
    given = Given(
        meant, None, action, exact, port, process, title, severity, category, recommended, expires, tuple(group or ())
    )
    made = indicator_of(given, now_micros())
    if isinstance(made, Refused):
        raise Fixable(made.in_words())
    with board_of(context, data) as board:
        report_unknown_groups(board, made.groups)
        board.put(made)
        board.flush()
    typer.echo(_line(made))


@family.command("list", epilog=example("indicators list --format csv"))
def list_(
    context: typer.Context,
    form: Annotated[
        ListFormat,
        typer.Option("--format", help="A table for people, one JSON array, JSON lines, or CSV as Defender has it."),
    ] = ListFormat.TEXT,
    raw_csv: RawCsvOption = False,
    data: DataOption = None,
) -> None:
    """List all indicators, including expired ones.

    The formats jsonl and csv can be imported again.
    """
    from unproxy.indicators.defender import lines_of

    with board_of(context, data) as board:
        found = board.indicators()
    if form is ListFormat.CSV:
        for line in lines_of(found, raw=raw_csv):
            sys.stdout.buffer.write(f"{line}\n".encode())
        sys.stdout.buffer.flush()
    else:
        for line in _lines(found, form):
            typer.echo(line)
    typer.echo(f"{len(found):,} indicator{'' if len(found) == 1 else 's'}", err=True)


@family.command(epilog=example("indicators remove evil.example"))
def remove(
    context: typer.Context,
    which: Annotated[
        list[str],
        typer.Argument(metavar="VALUE|ID", help="Values, each with all its ports, processes and groups; or IDs."),
    ],
    data: DataOption = None,
) -> None:
    """Remove indicators by value or ID."""
    with board_of(context, data) as board:
        known = board.indicators()
        found = {name: of_name(known, name) for name in which}
        going = {one.id: one for some in found.values() for one in some}
        for one in going.values():
            board.remove(one)
        board.flush()
    for one in going.values():
        typer.echo(_line(one))
    missing = [name for name, some in found.items() if not some]
    if missing:
        raise Failed(f"no indicator {', '.join(missing)}; `unproxy indicators list` shows them")


@family.command("import", epilog=example("indicators import --dry-run feed.csv"))
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file, gzipped or not.")],
    form: Annotated[Format, typer.Option("--format", help="Format of the file; auto detects it.")] = Format.AUTO,
    action: Annotated[IndicatorAction, typer.Option(help="Action of entries without one.")] = IndicatorAction.BLOCK,
    exact: Annotated[
        bool, typer.Option("--exact", help="Of domains: match only these names, not the names below them.")
    ] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Report refused entries and exit with 0.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be published; needs no Kafka, so all counts as new.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Import indicators from a file.

    New and changed entries are published. Each refused entry is reported on stderr with its place and the reason. The exit
    code is 1 if entries were refused, unless --lenient is given.
    """
    from schemas.indicator_input import now_micros
    from unproxy.indicators.importing import carry, counted
    from unproxy.indicators.reading import read_file

    entries = read_file(file, form, now=now_micros(), action=action, exact=exact)
    if dry_run:
        account = carry(entries, None, notify)
    else:
        with board_of(context, data) as board:
            account = carry(entries, board, notify)
            report_unknown_groups(board, account.groups)
    for line in account.in_words(dry_run):
        typer.echo(line, err=True)
    if account.refused and not lenient:
        some = account.refused.total()
        were = "was" if some == 1 else "were"
        raise Failed(f"{file}: {counted(some)} {were} refused; --lenient if that is as expected")


@contextmanager
def board_of(context: typer.Context, data: Path | None) -> Iterator[Board]:
    """Yield the topic `indicators` of the selected Kafka; Ctrl-C within the context ends the command."""
    from unproxy.indicators.topic import Board
    from unproxy.local.connect import services
    from unproxy.timeouts import Stopped

    board = Board(services(state_of(context), data).settings)
    with stop_asked() as board.wait.stop:
        try:
            yield board
        except Stopped:
            typer.echo(f"stopped; {board.published:,} messages were published", err=True)
            raise typer.Abort from None


def report_unknown_groups(board: Board, groups: Iterable[str]) -> None:
    """Report the groups that these settings do not define; the workers' settings may define them."""
    known = {entry.partition("=")[0].strip() for entry in board.settings.protection.groups}
    for group in sorted(set(groups) - known):
        there = f"there {'is' if len(known) == 1 else 'are'} {', '.join(sorted(known))}" if known else "there is none"
        notify(
            f"no group {group} in protection.groups ({there}); it fits no device until the workers' settings have it"
        )


def of_name(known: Sequence[Indicator], name: str) -> list[Indicator]:
    """Return the indicators with this ID, or with this value, whatever its spelling."""
    from schemas.indicator_values import Unfit, normal
    from unproxy.indicators.plain import whole

    meant = whole(name)
    try:
        value = normal(meant, exact=not meant.startswith(("*", "."))).value
    except Unfit:
        value = ""
    return [one for one in known if one.id == name or (value and one.value == value)]


def _line(one: Indicator) -> str:
    return printable("  ".join(filter(None, (one.id, one.action, one.type, *map(str, _cells(one)[1:2]), one.title))))


_NAMES = (
    "Id",
    "Value",
    "Type",
    "IndicatorAction",
    "Severity",
    "Title",
    "Port",
    "Process",
    "Groups",
    "Expires",
    "Category",
)


def _cells(one: Indicator) -> tuple[object, ...]:
    from schemas.clock import iso_micros

    below = "*." if one.type is IndicatorType.DOMAIN and one.subdomains else ""
    expires = iso_micros(one.expires) if one.expires else ""
    return (
        one.id, below + one.value, one.type, one.action, one.severity, one.title, one.port or "", one.process,
        list(one.groups) or "", expires, one.category,
    )  # fmt: skip


def _lines(found: Sequence[Indicator], form: ListFormat) -> Iterator[str]:
    import msgspec

    from unproxy.query.formats import screen_width, table

    if form is not ListFormat.TEXT:
        objects = (msgspec.json.encode(one).decode() for one in found)
        yield from json_array(objects) if form is ListFormat.JSON else objects
    elif found:
        lines, left_out = table(_NAMES, (_cells(one) for one in found), screen_width())
        yield from lines
        if left_out:
            typer.echo(f"not shown for lack of width: {', '.join(left_out)}", err=True)
