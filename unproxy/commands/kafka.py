"""`unproxy topics` and `unproxy acls`: show the topics and the rights that Kafka must have, or create them."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.errors import Fixable
from unproxy.options import state_of


def topics(
    context: typer.Context,
    create: Annotated[bool, typer.Option("--create", help="Create missing topics.")] = False,
    replicas: Annotated[
        int, typer.Option(metavar="N", help="Copies of each partition, with --create; -1 for the cluster's default.")
    ] = -1,
) -> None:
    """Show the topics, or create the missing ones.

    Shows the required partitions and settings of each topic. `unproxy check` compares them with the cluster.
    """
    import schemas.topics
    from unproxy.local.connect import services

    settings = services(state_of(context)).settings
    if not create:
        for topic in schemas.topics.topics(settings):
            typer.echo(f"{topic.name}  {topic.partitions} partitions  {topic.about}")
            for key, value in topic.config.items():
                typer.echo(f"    {key}={value}")
        return
    from unproxy.kafka.cluster import create_topics

    made = create_topics(settings, replicas)
    for name in made:
        typer.echo(name)
    typer.echo(f"{len(made)} created at {settings.kafka.bootstrap}" if made else "nothing to create", err=True)


def acls(
    context: typer.Context,
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Only this role, such as sensor or worker; without it all.")
    ] = None,
    principal: Annotated[
        str | None,
        typer.Option(metavar="TYPE:NAME", help="Kafka principal of the role; by default User:unproxy-ROLE."),
    ] = None,
    raw: Annotated[
        str, typer.Option(metavar="TOPIC", help="One raw topic instead of all: what this endpoint may write to.")
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Add the rights to the cluster, as a super user.")] = False,
) -> None:
    """Show the rights of each role on Kafka, or add them to the cluster.

    The rights are shown as commands of kafka-acls.sh. The settings define the topic prefix and the consumer groups.
    Existing rights are kept; no right is removed.
    """
    from unproxy.kafka.acls import command, roles, rules
    from unproxy.local.connect import services

    settings = services(state_of(context)).settings
    if principal and not role:
        raise Fixable("--principal: needs --role, as one principal has one role")
    if principal and not (all(principal.partition(":")) and principal.isprintable()):
        raise Fixable(f"--principal {principal}: is no principal; Kafka writes them as User:NAME")
    wanted = [
        (rule, principal or f"User:unproxy-{name}")
        for name in ([role] if role else roles())
        for rule in rules(settings, name, raw)
    ]
    if not apply:
        for rule, who in wanted:
            typer.echo(f"{command(rule, who, settings.kafka.bootstrap)}  # {rule.why}")
        return
    from unproxy.kafka.cluster import create_acls

    typer.echo(f"{create_acls(settings, wanted)} rights at {settings.kafka.bootstrap}", err=True)
