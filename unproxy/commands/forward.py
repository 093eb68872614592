"""`unproxy forward`: sends alerts to a webhook or a syslog receiver."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from unproxy.errors import Failed
from unproxy.options import state_of


def forward(
    context: typer.Context,
    test: Annotated[
        bool, typer.Option("--test", help="Send one sample alert now, show the answer of the receiver, and end.")
    ] = False,
) -> None:
    """Send alerts to a webhook or a syslog receiver until SIGTERM or Ctrl-C.

    Reads only the topic block-alerts. The section [forward] of the settings names the receiver. Run a process with its own
    consumer group for each receiver.
    """
    from sinks.forward.run import run, try_out
    from unproxy.local.connect import services
    from unproxy.wiring import until_signal

    if not test:
        raise typer.Exit(until_signal(services(state_of(context, service=True)).settings, run))
    target, reply = try_out(state_of(context).settings.forward, time.time())
    result = {"target": target, "answer": reply.answer, "reply": reply.text, "body": reply.body}
    typer.echo(json.dumps(result))
    if result["answer"] != "delivered":
        raise Failed(f"{target}: {reply.text}")
