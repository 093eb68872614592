"""`unproxy forward`: alerts on to a webhook or a syslog receiver."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from unproxy.errors import Failed
from unproxy.options import example, service_of, state_of


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("--config .unproxy/settings.toml forward --test"))(forward)


def forward(
    context: typer.Context,
    test: Annotated[
        bool, typer.Option("--test", help="Send one sample alert now, show the answer of the receiver, and end.")
    ] = False,
) -> None:
    """Send alerts on to a webhook or a syslog receiver until SIGTERM or Ctrl-C.

    Reads block-alerts and nothing else; the section [forward] of the settings has the receiver. Each target is a process
    with a consumer group of its own.
    """
    from unproxy import wiring

    if not test:
        raise typer.Exit(wiring.run_forwarder(service_of(context).settings))
    result = wiring.try_receiver(state_of(context).settings)
    typer.echo(json.dumps(result))
    if result["answer"] != "delivered":
        raise Failed(f"{result['target']}: {result['reply']}")
