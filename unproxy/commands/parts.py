"""`unproxy worker` and `unproxy sink`: the services that run until SIGTERM or Ctrl-C."""

from __future__ import annotations

import typer

from unproxy.options import state_of


def worker(context: typer.Context) -> None:
    """Run one Faust worker until SIGTERM or Ctrl-C.

    Lines from Kafka in, rows and alerts to Kafka out. SIGTERM or Ctrl-C ends it; start any number of them.
    """
    settings = state_of(context, service=True).settings
    from streams.worker.app import run

    run(settings)


def sink(context: typer.Context) -> None:
    """Run one sink until SIGTERM or Ctrl-C.

    Rows from Kafka into ClickHouse. SIGTERM or Ctrl-C ends it; start any number of them.
    """
    settings = state_of(context, service=True).settings
    from sinks.run import run
    from unproxy.wiring import until_signal

    raise typer.Exit(until_signal(settings, run))
