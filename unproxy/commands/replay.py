"""`unproxy replay`: recorded sensor files to rows, without broker or database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unproxy.commands.common import SAMPLE, example, state_of
from unproxy.errors import Damaged

Files = Annotated[
    list[str], typer.Argument(metavar="DIALECT:PATH", help="Recorded files, gzipped or not, with their dialect.")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example(f"replay {SAMPLE} --out rows.jsonl"))(replay)


def replay(
    context: typer.Context,
    files: Files,
    out: Annotated[str, typer.Option(metavar="FILE|-", help="Rows of DeviceNetworkEvents; - is stdout.")] = "-",
    alerts: Annotated[Path | None, typer.Option(metavar="FILE", help="Alerts, each change of them.")] = None,
    events: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows of DeviceEvents (verdicts).")] = None,
    rejects: Annotated[Path | None, typer.Option(metavar="FILE", help="Lines that could not be read.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="The summary as JSON.")] = None,
) -> None:
    """Turn recorded sensor files into rows.

    Rows are JSON lines: every version, in the order made. No broker and no database are needed. Lines of several files
    are merged as they would have arrived. A summary goes to stderr.
    """
    from unproxy import replaying

    settings = state_of(context).settings
    with replaying.Outputs.opened(out, alerts, events, rejects) as outputs:
        done = replaying.replay(settings, files, outputs)
    typer.echo("\n".join(done.in_words()), err=True)
    if summary:
        done.write(summary)
    if done.damage:
        raise Damaged(done.damage)
