"""`unproxy simulate`: publishes the sensor lines of a simulated fleet to Kafka, or writes them to files, with the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from unproxy.errors import Fixable
from unproxy.options import example, state_of, stop_asked
from unproxy.output import printable


def simulate(
    context: typer.Context,
    devices: Annotated[int, typer.Option(metavar="N", help="Devices in the fleet.")] = 50,
    rate: Annotated[float, typer.Option(metavar="X", help="Lines per second of simulated time.")] = 2_000.0,
    duration: Annotated[float, typer.Option(metavar="SECS", help="Length of the simulated time.")] = 30.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed generates the same lines.")] = 1,
    start: Annotated[
        str,
        typer.Option(metavar="T", help="When it starts (UTC); into files 2026-11-24T09:00:00, to Kafka now."),
    ] = "",
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Sensors restart, lose lines, are switched off for a while.")
    ] = False,
    flow_timeout: Annotated[
        float, typer.Option(metavar="SECS", help="Shortest time from the end of a flow until it is logged.")
    ] = 60.0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for files and truth, instead of Kafka.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(metavar="FILE", help="To Kafka: file for the truth.")] = None,
    speed: Annotated[
        float,
        typer.Option(metavar="X", min=0, help="To Kafka: speed relative to the simulated time; 0 is the maximum."),
    ] = 1.0,
    processes: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="To Kafka: number of publishing processes; 0 chooses it automatically."),
    ] = 0,
) -> None:
    """Generate the sensor lines of a simulated fleet, with the truth about them.

    The same options make the same lines and the same truth, byte for byte, in Kafka and in files. Ctrl-C ends the
    simulation early. A summary of the simulated world is written to stderr.
    """
    from unproxy.local.connect import services
    from unproxy.offline.simulate import to_folder, to_kafka, world_of

    for option, number in (("--rate", rate), ("--duration", duration)):
        if number <= 0:
            raise Fixable(f"{option} {number:g} is not more than 0")
    state = state_of(context, service=True)
    values: dict[str, Any] = {
        "seed": seed,
        "devices": devices,
        "lines_per_sec": rate,
        "duration_secs": duration,
        "gaps": gaps,
        "flow_timeout_secs": flow_timeout,
    }
    began = _time(start) if start else None if out else datetime.now(UTC)
    world = world_of(**values, **({"start": began} if began else {}))
    if out and truth:
        raise Fixable(f"--truth is for Kafka; with --out the truth is in {out}/truth.jsonl")
    with stop_asked() as stop:
        if out:
            lines = to_folder(world, out, stop)
        else:
            lines = to_kafka(services(state).settings, world, stop, speed=speed, processes=processes, truth=truth)
    typer.echo("\n".join(map(printable, lines)), err=True)
    if out:
        replay = f"replay 'suricata:{out}/*.eve.json' 'sockets:{out}/*.sockets.jsonl' --out rows.jsonl"
        typer.echo("\n".join(["", *example(printable(replay)).splitlines()[1:]]), err=True)


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Fixable(f'--start "{text}" is not a time; write it as 2026-11-24T09:00:00') from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
