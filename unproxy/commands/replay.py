"""`unproxy replay`: turns recorded sensor files into rows, or into the alerts of other indicators, without Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unproxy.errors import Damaged, Failed, Fixable
from unproxy.options import Form, FormOption, state_of
from unproxy.output import notify, printable

if TYPE_CHECKING:
    from schemas.settings import Settings
    from unproxy.offline.backtest import Judge

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="DIALECT:PATH", help="Recorded files, gzipped or not, with their dialect; auto detects it line by line."
    ),
]


def replay(
    context: typer.Context,
    files: Files,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Rows of DeviceNetworkEvents; without it stdout, with --indicators nowhere."
        ),
    ] = None,
    alerts: Annotated[Path | None, typer.Option(metavar="FILE", help="Alerts, each change of them.")] = None,
    events: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows of DeviceEvents (verdicts).")] = None,
    rejects: Annotated[Path | None, typer.Option(metavar="FILE", help="Lines that could not be read.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="The summary as JSON.")] = None,
    indicators: Annotated[
        Path | None,
        typer.Option(metavar="NEW", help="Show the alerts that this file of indicators would have raised."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="With --indicators: only differences from the alerts with this file."),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--all", help="With --indicators: also alerts without an indicator, and those that stay the same."
        ),
    ] = False,
    form: FormOption = Form.TEXT,
) -> None:
    """Turn recorded sensor files into rows, or try indicators on them.

    Rows are JSON lines: all versions, in the order in which they are made. Neither Kafka nor ClickHouse is needed. Lines of
    several files are merged by arrival time. A summary is written to stderr. The exit code is 1 if no line could be read,
    or if a file is damaged; the rows of all other lines are written before.

    With --indicators, the alerts that these indicators raise are written to stdout at the end, in the given --format. With
    --against, only the differences are written: + would be new, - would be gone, ~ has another kind, severity, count or
    indicator. The files may have any format that `unproxy indicators import` reads; refused entries are reported on stderr
    and left out. For example:

    \b
      unproxy replay 'suricata:history/*.json.gz' --indicators new.csv --against old.csv
    """  # noqa: D301  # click wants the backspace itself
    from unproxy.offline.replay import Outputs, apart, run

    if indicators is None and (against is not None or whole):
        raise Fixable("--against and --all need --indicators; name a file of indicators there")
    if indicators is not None and out == "-":
        raise Fixable("--out -: alerts go to stdout with --indicators; name a file for the rows")
    settings = state_of(context).settings
    apart(files, [Path(out) if out and out != "-" else None, alerts, events, rejects, summary])
    judges = [_judge(settings, path) for path in (indicators, against) if path is not None]
    with Outputs.opened(out or ("" if judges else "-"), alerts, events, rejects) as outputs:
        done = run(settings, files, outputs, judges)
    typer.echo("\n".join(done.in_words()), err=True)
    if summary:
        done.write(summary)
    if judges:
        new, *old = judges
        lines = _differences(new, old[0], form, whole) if old else _alerts(new, form, whole)
        for line in form.written(lines):
            typer.echo(line)
    if done.damage:
        raise Damaged(done.damage)
    if problem := done.nothing_read():
        keep = "" if rejects else "; --rejects FILE keeps the lines, each with what is wrong"
        raise Failed(
            f"{problem}; name the dialect that the files are written in, or auto to find it for each line{keep}"
        )


def _judge(settings: Settings, file: Path) -> Judge:
    """Return a judge with the indicators of a file; report the refused entries."""
    from unproxy import wiring
    from unproxy.indicators.reading import load_file
    from unproxy.offline.backtest import Judge

    listed, refused = load_file(file)
    for entry in refused:
        notify(entry.refusal())
    typer.echo(printable(f"{file}: indicators taken: {len(listed):,}, entries refused: {len(refused):,}"), err=True)
    return Judge(wiring.pipeline(settings, listed))


def _alerts(judge: Judge, form: Form, whole: bool) -> Iterator[str]:
    import msgspec

    from unproxy.offline.backtest import line

    alerts = judge.alerts
    standing = [alert for alert in alerts if alert.IndicatorId]
    for alert in alerts if whole else standing:
        yield line(alert) if form is Form.TEXT else msgspec.json.encode(alert).decode()
    others = len(alerts) - len(standing)
    typer.echo(f"alerts: {len(standing):,} with an indicator, {others:,} without", err=True)


def _differences(new: Judge, old: Judge, form: Form, whole: bool) -> Iterator[str]:
    from unproxy.offline.backtest import Fate, difference_json, difference_line, differences

    found = differences(new.alerts, old.alerts)
    for one in found:
        if whole or one.fate is not Fate.SAME:
            yield difference_line(one) if form is Form.TEXT else difference_json(one).decode()
    count = Counter(one.fate for one in found)
    counts = ", ".join(f"{count[fate]:,} {fate}" for fate in Fate)
    typer.echo(f"alerts: {counts}", err=True)
