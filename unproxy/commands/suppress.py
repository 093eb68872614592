"""`unproxy suppress`: manages the suppressions of alerts, with who suppresses them, until when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.tables import AlertKind
from unproxy.commands.indicators import board_of, of_name, report_unknown_groups
from unproxy.errors import Failed, Fixable
from unproxy.options import DataOption, Form, FormOption, example
from unproxy.output import printable

if TYPE_CHECKING:
    from schemas.suppressions import Suppression
    from unproxy.indicators.topic import Board


family = typer.Typer(
    help="Hide alerts until a given time, with the reason.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@family.command(epilog=example("suppress add --domain evil.example --device 'test-*' --until 7d --why 'red team'"))
def add(
    context: typer.Context,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason; every hidden alert shows it.")],
    until: Annotated[str, typer.Option(metavar="T", help="Until this time (UTC), or 30d, 12h from now.")],
    who: Annotated[str, typer.Option(metavar="NAME", help="Person who decides it; by default your login name.")] = "",
    kind: Annotated[AlertKind | None, typer.Option(help="Only alerts of this kind.")] = None,
    device: Annotated[
        str, typer.Option(metavar="D", help="Only devices that fit this pattern, such as test-*; @GROUP for a group.")
    ] = "",
    domain: Annotated[str, typer.Option(metavar="NAME", help="Only this domain and what lies below it.")] = "",
    indicator: Annotated[str, typer.Option(metavar="VALUE|ID", help="Only alerts of this indicator.")] = "",
    data: DataOption = None,
) -> None:
    """Suppress alerts until a time, or change the suppression of the same alerts.

    Suppressed alerts are still published, marked with who suppresses them and why. The workers apply a suppression after
    about five seconds; an existing alert is marked at its next change.
    """
    from getpass import getuser

    from schemas.indicator_input import moment, now_micros
    from schemas.suppression_input import suppression_of
    from schemas.suppressions import GROUP_MARK
    from unproxy.indicators.plain import whole

    now = now_micros()
    try:
        end = moment(until, now)
    except (ValueError, OverflowError):
        raise Fixable(f'--until "{until}" is not a time; write 2026-11-24T19:07:30 (UTC), or 30d') from None
    if end <= now:
        raise Fixable(f"--until {until} is past; name a time to come")
    try:
        draft = suppression_of(who or getuser(), why, end, kind or "", device, whole(domain), indicator)
    except ValueError as error:
        raise Fixable(f"--{error}") from None
    with board_of(context, data) as board:
        if draft.device.startswith(GROUP_MARK):
            report_unknown_groups(board, [draft.device[len(GROUP_MARK) :]])
        wanted = _indicator_id(board, indicator)
        made = suppression_of(draft.who, draft.why, end, draft.kind, draft.device, draft.domain, wanted)
        board.put(made)
        board.flush()
    typer.echo(_line(made))


@family.command("list", epilog=example("suppress list"))
def list_(context: typer.Context, form: FormOption = Form.TEXT, data: DataOption = None) -> None:
    """List all suppressions, including past ones."""
    with board_of(context, data) as board:
        found = board.suppressions()
    for line in form.written(_line(one) if form is Form.TEXT else _object(one) for one in found):
        typer.echo(line)
    typer.echo(f"{len(found):,} suppression{'' if len(found) == 1 else 's'}", err=True)


@family.command(epilog=example("suppress remove 0123456789abcdef01234567"))
def remove(
    context: typer.Context,
    which: Annotated[list[str], typer.Argument(metavar="ID", help="IDs, as `suppress list` shows them.")],
    data: DataOption = None,
) -> None:
    """Remove suppressions by ID; the alerts are no longer marked as suppressed."""
    with board_of(context, data) as board:
        known = {one.id: one for one in board.suppressions()}
        going = [known[name] for name in dict.fromkeys(which) if name in known]
        for one in going:
            board.remove(one)
        board.flush()
    for one in going:
        typer.echo(_line(one))
    missing = [name for name in which if name not in known]
    if missing:
        raise Failed(f"no suppression {', '.join(missing)}; `unproxy suppress list` shows them")


def _indicator_id(board: Board, name: str) -> str:
    """Return the ID of the indicator with this ID or value; "" for "". Raises Fixable unless exactly one matches."""
    if not name:
        return ""
    found = of_name(board.indicators(), name)
    if not found:
        raise Fixable(f"--indicator {name}: there is none; `unproxy indicators list` shows them")
    if len(found) > 1:
        raise Fixable(
            f"--indicator {name}: there are {len(found)}; name one by ID: {', '.join(one.id for one in found[:5])}"
        )
    return found[0].id


def _object(one: Suppression) -> str:
    """Return a suppression as an object for JSON, with ISO 8601 times."""
    import msgspec

    from schemas.clock import iso_micros

    return msgspec.json.encode(msgspec.to_builtins(one) | {"until": iso_micros(one.until)}).decode()


def _line(one: Suppression) -> str:
    from schemas.clock import iso_micros

    what = (("kind", one.kind), ("device", one.device), ("domain", one.domain), ("indicator", one.indicator))
    fields = "  ".join(f"{name}={value}" for name, value in what if value)
    return printable(f"{one.id}  until {iso_micros(one.until)[:19]}Z  {fields}  {one.who}: {one.why}")
