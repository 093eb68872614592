"""`unproxy alerts`: shows the alerts in the table, or follows them as they are published."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.indicators import Severity
from schemas.tables import AlertKind
from unproxy.errors import Failed, Fixable
from unproxy.options import DataOption, Form, FormOption, State, as_iso, span_of, state_of, stop_asked
from unproxy.output import in_color, notify

if TYPE_CHECKING:
    from unproxy.query.alerts import Wanted

_ID = re.compile(r"[0-9a-f]{24}")
"""Pattern of the IDs of indicators."""


def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Show alerts as they are published, until Ctrl-C.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="With --follow: show all alerts on the topic first.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="D", help="Only this device.")] = "",
    since: Annotated[
        str,
        typer.Option("--from", metavar="T", help="Only alerts whose latest request is at this time (UTC) or later."),
    ] = "",
    until: Annotated[
        str, typer.Option("--to", metavar="T", help="Only alerts whose first request is before this time (UTC).")
    ] = "",
    domain: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only alerts about this domain and the names below it, or about this address."
        ),
    ] = "",
    indicator: Annotated[str, typer.Option(metavar="VALUE|ID", help="Only alerts of this indicator.")] = "",
    kind: Annotated[AlertKind | None, typer.Option(help="Only alerts of this kind.")] = None,
    severity: Annotated[Severity | None, typer.Option(help="Only alerts of this severity or a higher one.")] = None,
    suppressed: Annotated[
        bool | None, typer.Option("--suppressed/--no-suppressed", help="Only suppressed ones, or only the others.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of alerts; the latest are shown.")
    ] = 1_000,
    form: FormOption = Form.TEXT,
    data: DataOption = None,
) -> None:
    """Show alerts, or follow them as they are published.

    The alerts are those in the table; with --follow, each change of an alert from now on, until Ctrl-C. A suppressed
    alert is shown with who suppresses it, until when and why. A time is 2026-11-24T10:05, only the day, or only 10:05
    for the latest 10:05.
    """
    from unproxy.local.connect import tables
    from unproxy.query.alerts import Wanted, line, stored
    from unproxy.query.devices import never_seen
    from unproxy.query.screen import records, write

    if from_start and not follow:
        raise Fixable("--from-start goes with --follow")
    if follow and form is Form.JSON:
        raise Fixable("--follow has no end, and so no JSON array; give --format jsonl")
    state = state_of(context)
    severities = tuple(Severity)[tuple(Severity).index(severity) :] if severity else ()
    begin, end = span_of("--from", since, "--to", until)
    names = _destination(domain), _indicator(indicator)
    wanted = Wanted(device, kind or "", severities, suppressed, as_iso(begin), as_iso(end), *names)
    if follow:
        _follow(state, data, wanted, form, from_start=from_start)
        return
    with tables(state, data) as client:
        rows = stored(client, wanted, limit)
        unknown = never_seen(client, device) if device and not rows else ""
    if unknown:
        raise Failed(unknown)
    if form is Form.TEXT:
        color = in_color(sys.stdout)
        write((line(row, color=color) for row in rows), color=color)
    else:
        for text in records(rows, array=form is Form.JSON):
            typer.echo(text)
    if not rows:
        typer.echo("no alerts", err=True)


def _follow(state: State, data: Path | None, wanted: Wanted, form: Form, *, from_start: bool) -> None:
    """Write each change of an alert until Ctrl-C."""
    from unproxy.local.connect import services
    from unproxy.query.alerts import followed, line
    from unproxy.query.screen import write

    color = in_color(sys.stdout)
    typer.echo("waiting for alerts; Ctrl-C ends", err=True)
    settings = services(state, data).settings
    with stop_asked() as stop:
        for alert in followed(settings, wanted, from_start, notify):
            if alert is not None:
                if form is Form.TEXT:
                    write(iter([line(alert, color=color)]), color=color)
                else:
                    typer.echo(json.dumps(alert))
            if stop.is_set():
                return


def _destination(text: str) -> str:
    """Return a domain or an address in the spelling of alerts; "" for "". Raises Fixable if the text is neither."""
    from schemas.address import canonical_ip
    from schemas.indicator_values import Unfit, host_name
    from unproxy.indicators.plain import whole

    name = whole(text.strip())
    if not name:
        return ""
    try:
        return canonical_ip(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        pass
    try:
        return host_name(name.removeprefix("*."))
    except Unfit:
        raise Fixable(f'--domain "{text}" is neither a domain nor an address') from None


def _indicator(text: str) -> str:
    """Return an indicator's value in its normal form, or its ID unchanged. Raises Fixable if the text is neither."""
    from schemas.indicator_values import Unfit, normal
    from unproxy.indicators.plain import whole

    if not text or _ID.fullmatch(text):
        return text
    try:
        return normal(whole(text), exact=not text.startswith(("*", "."))).value
    except Unfit as error:
        raise Fixable(f'--indicator "{text}" is neither an ID nor a value: {error}') from None
