"""`unproxy produce`: publishes sensor lines from files or the network to Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unproxy.options import state_of

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="DIALECT:PATH",
        help="Recorded files, gzipped or not, with their dialect; auto detects it line by line. In place of a path: "
        "kafka://HOST:PORT/TOPIC, https://HOST:PORT/ or http://HOST:PORT/.",
    ),
]


def produce(
    context: typer.Context,
    files: Sources,
    follow: Annotated[bool, typer.Option("--follow", help="Go on reading as the files grow, until Ctrl-C.")] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="Device of lines that do not name one.")] = "",
    speed: Annotated[
        float, typer.Option(metavar="X", min=0, help="Speed relative to the recorded pace; 0 is the maximum.")
    ] = 0.0,
    report: Annotated[Path | None, typer.Option(metavar="FILE", hidden=True)] = None,
) -> None:
    """Publish sensor lines from files or from the network to Kafka.

    The position in each file is stored in publisher.state_dir: a second run continues where the first one stopped.

    \b
    From the network (docs/inputs.md):
      produce auto:kafka://broker-1:9092/sensors
      produce auto:https://0.0.0.0:8443/
    """  # noqa: D301  # click wants the backspace itself
    from unproxy import wiring
    from unproxy.local.connect import services

    settings = services(state_of(context, service=True)).settings
    raise typer.Exit(
        wiring.run_producer(settings, files, follow=follow, device=device, speed=speed, report_file=report)
    )
