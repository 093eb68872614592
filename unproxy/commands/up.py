"""`unproxy up`: runs the whole pipeline on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unproxy.options import DATA_FOLDER, state_of


def up(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIALECT:PATH",
            help="Recorded files; auto as dialect detects it for each line. By default the included sample.",
        ),
    ] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all data; kept between runs.")] = DATA_FOLDER,
    once: Annotated[bool, typer.Option("--once", help="End when all rows are in the table.")] = False,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=4, help="Workers.")] = 1,
) -> None:
    """Run the whole pipeline on this machine.

    Starts Kafka, a ClickHouse engine, worker and sink, each as a process, and publishes the files. Then it shows two
    hunting queries with their results, and a balance of all lines, connections and rows. It runs until Ctrl-C. Files that
    were published before add no rows.
    """
    from unproxy.local.folder import Folder
    from unproxy.local.session import Up, files_to_play

    settings = state_of(context).settings
    folder = Folder(data)
    raise typer.Exit(Up(settings, folder, files_to_play(folder, files or []), once, workers).run())
