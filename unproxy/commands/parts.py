"""`unproxy worker` and `unproxy sink`: the services that run until SIGTERM or Ctrl-C."""

from __future__ import annotations

import typer

from unproxy.options import example, service_of


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(epilog=example("--config .unproxy/settings.toml worker"))(worker)
    app.command(epilog=example("--config .unproxy/settings.toml sink"))(sink)


def worker(context: typer.Context) -> None:
    """Run one Faust worker until SIGTERM or Ctrl-C.

    Lines from Kafka in, rows and alerts to Kafka out. SIGTERM or Ctrl-C ends it; start any number of them.
    """
    state = service_of(context)
    from unproxy import wiring

    raise typer.Exit(wiring.run_worker(state.settings))


def sink(context: typer.Context) -> None:
    """Run one sink until SIGTERM or Ctrl-C.

    Rows from Kafka into ClickHouse. SIGTERM or Ctrl-C ends it; start any number of them.
    """
    state = service_of(context)
    from unproxy import wiring

    raise typer.Exit(wiring.run_sink(state.settings))
