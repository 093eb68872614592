"""`unproxy worker` and `unproxy sink`: run a service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import typer

from unproxy.options import state_of


def worker(context: typer.Context) -> None:
    """Run one Faust worker until SIGTERM or Ctrl-C.

    It reads sensor lines from Kafka and publishes rows and alerts to Kafka. Any number of workers may run.
    """
    from unproxy.local.connect import services

    settings = services(state_of(context, service=True)).settings
    from streams.worker.app import run

    run(settings)


def sink(context: typer.Context) -> None:
    """Run one sink until SIGTERM or Ctrl-C.

    It writes rows from Kafka to ClickHouse. Any number of sinks may run.
    """
    from unproxy.local.connect import services

    settings = services(state_of(context, service=True)).settings
    from sinks.run import run
    from unproxy.wiring import until_signal

    raise typer.Exit(until_signal(settings, run))
