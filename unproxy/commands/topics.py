"""`unproxy topics`: the topics as they should be, and their creation."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.options import example, state_of


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=example("topics"))(topics)


def topics(
    context: typer.Context,
    create: Annotated[bool, typer.Option("--create", help="Create those that are missing.")] = False,
    replicas: Annotated[
        int, typer.Option(metavar="N", help="Copies of each partition, with --create; -1 for the cluster's default.")
    ] = -1,
) -> None:
    """Show the topics, or create the missing ones.

    Shows name, partitions and settings of each topic as it should be; `unproxy check` compares them with the cluster.
    """
    from schemas.topics import topics as declared

    settings = state_of(context).settings
    if not create:
        for topic in declared(settings):
            typer.echo(f"{topic.name}  {topic.partitions} partitions  {topic.about}")
            for key, value in topic.config.items():
                typer.echo(f"    {key}={value}")
        return
    from unproxy.kafka.cluster import create_topics

    made = create_topics(settings, replicas)
    for name in made:
        typer.echo(name)
    typer.echo(f"{len(made)} created at {settings.kafka.bootstrap}" if made else "nothing to create", err=True)
