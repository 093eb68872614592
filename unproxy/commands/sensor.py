"""`unproxy sensor`: reports this machine's outgoing connections, each with its process, from the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unproxy.options import state_of, stop_asked


def sensor(
    context: typer.Context,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Add the lines to a file, - is stdout; without it they go to Kafka."),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Name of this device; without it the machine's own.")
    ] = "",
    command_lines: Annotated[
        bool,
        typer.Option(
            "--command-lines/--no-command-lines", help="Report processes' command lines, which may hold secrets."
        ),
    ] = True,
    mode: Annotated[
        Literal["off", "audit", "block"] | None,
        typer.Option(
            help="off: read no packets; audit: report requests to proxies; block: also block requests for listed "
            "destinations. Default: sensor.mode, else audit if proxies are known or learnt."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IP:PORT",
            help="A proxy to listen to, repeatable; without it sensor.proxies or correlation.proxies.",
        ),
    ] = None,
    learn: Annotated[
        bool | None,
        typer.Option(
            "--learn/--no-learn",
            help="Also listen to addresses that are used as a proxy; without it sensor.learn_proxies, else where a mode is set "
            "and no proxy is named.",
        ),
    ] = None,
    urls: Annotated[
        Literal["full", "path", "host"] | None,
        typer.Option(
            help="How much of a URL is reported: all, without its query, or only scheme and host; else sensor.urls."
        ),
    ] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="File with destinations to report or block, one per line; read again when it changes.",
        ),
    ] = None,
    mode_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the mode; applied when it changes, takes precedence over --mode."),
    ] = None,
    tracefs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where tracefs is mounted, if not at /sys/kernel/tracing.")
    ] = None,
) -> None:
    """Watch this machine's outgoing TCP connections, each with its process, until Ctrl-C.

    Runs on Linux only, as root, with tracefs. The connections come from the kernel's tracepoint sock:inet_sock_set_state,
    their processes from /proc, and the requested destinations from the packets to the proxies. The lines have the dialects
    sockets and sensor. Events that the kernel dropped because its buffers were full are counted and reported.
    """
    from producers.sensor.http.observer import plan_of
    from unproxy import wiring
    from unproxy.local.connect import services

    state = state_of(context, service=True)
    settings = services(state).settings if out is None else state.settings
    plan = plan_of(settings, mode or "", proxy or (), urls or "", listed, mode_file, learn)
    with stop_asked() as stop:
        raise typer.Exit(
            wiring.run_sensor(
                settings, plan, out=out, device=device, place=tracefs, command_lines=command_lines, stop=stop
            )
        )
