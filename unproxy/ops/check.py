"""The checks of `unproxy check`: settings, identity files, grants, Kafka and its topics, ClickHouse and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from glob import glob
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType, TopicMetadata

from producers.identity.files import read_file
from producers.sources.source import SourceError
from schemas.columns import columns
from schemas.settings import Settings
from schemas.tables import TABLES
from schemas.topics import Topic, topics
from sinks.migrate import lost_tables, pending
from sinks.retention import Retention, days_in_words, retentions
from unproxy.errors import Failed, KafkaAway
from unproxy.kafka.cluster import ask
from unproxy.query.client import of_settings
from unproxy.wiring import grant_problems, on_tables

KAFKA_SECS_MAX = 5.0


class Finding(NamedTuple):
    """The result of one check."""

    fine: bool
    what: str
    """Description; if the check failed, with the remedy."""


def everything(settings: Settings) -> Iterator[Finding]:
    """Run all checks and yield their findings."""
    yield Finding(True, "settings: every key is known and every value fits")
    yield from _identity(settings)
    yield from _grants(settings)
    yield from _kafka(settings)
    yield from _clickhouse(settings)


def _identity(settings: Settings) -> Iterator[Finding]:
    for path in settings.identity.files:
        try:
            entries, unusable = read_file(path)
        except SourceError as error:
            yield Finding(False, f"identity: {error}")
            continue
        if unusable:
            what = f"{unusable:,} of its lines cannot be used; the log states which and why"
        else:
            what = f"names and addresses: {len(entries):,}"
        yield Finding(not unusable, f"identity: {path}: {what}")


def _grants(settings: Settings) -> Iterator[Finding]:
    grants = settings.inputs.grants
    problems = [
        *grant_problems(settings),
        *(
            f"{name}: no file here matches {pattern}; correct it in its sources, or leave it out"
            for name, grant in grants.items()
            for pattern in grant.sources
            if pattern != "-" and "://" not in pattern and not glob(pattern)
        ),
    ]
    yield from (Finding(False, f"grant {problem}") for problem in problems)
    if grants and not problems:
        yield Finding(True, f"grants: {len(grants):,}, each can match")


def _kafka(settings: Settings) -> Iterator[Finding]:
    bootstrap = settings.kafka.bootstrap
    try:
        admin, seen = ask(settings, KAFKA_SECS_MAX)
    except KafkaAway as error:
        yield Finding(False, f"kafka: {error}")
        return
    yield Finding(True, f"kafka: {bootstrap} answers, {len(seen.brokers)} broker{'s' if len(seen.brokers) > 1 else ''}")
    present = []
    for topic in topics(settings):
        if topic.name not in seen.topics:
            yield Finding(False, f"topic {topic.name}: is missing; run `unproxy topics --create`")
        else:
            present.append(topic)
    configs = _configs(admin, present)
    for topic in present:
        yield from _topic(topic, seen.topics[topic.name], configs[topic.name])


def _configs(admin: AdminClient, wanted: list[Topic]) -> dict[str, dict[str, str] | str]:
    """Return the settings of each topic, or the error if they cannot be read."""
    if not wanted:
        return {}
    asked = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, topic.name) for topic in wanted], request_timeout=KAFKA_SECS_MAX
    )
    found: dict[str, dict[str, str] | str] = {}
    for resource, future in asked.items():
        try:
            found[resource.name] = {key: str(entry.value) for key, entry in future.result().items()}
        except KafkaException as error:
            found[resource.name] = str(error.args[0].str())
    return found


def _topic(topic: Topic, seen: TopicMetadata, config: dict[str, str] | str) -> Iterator[Finding]:
    wrong = []
    if len(seen.partitions) != topic.partitions:
        wrong.append(f"{len(seen.partitions)} partitions instead of {topic.partitions}; see deploy/topics.toml")
    if leaderless := [number for number, part in seen.partitions.items() if part.leader < 0]:
        wrong.append(f"partitions {leaderless} have no leader; look after the brokers")
    if isinstance(config, str):
        wrong.append(f"its settings cannot be read: {config}")
    else:
        wrong.extend(
            f"{key} is {config.get(key)} instead of {value}; run `kafka-configs --alter --topic {topic.name} "
            f"--add-config {key}={value}`"
            for key, value in topic.config.items()
            if config.get(key) != value
        )
    yield from (Finding(False, f"topic {topic.name}: {one}") for one in wrong)
    if not wrong:
        yield Finding(True, f"topic {topic.name}: {topic.partitions} partitions, set as it should be")


def _clickhouse(settings: Settings) -> Iterator[Finding]:
    client = replace(of_settings(settings), database="")
    database = settings.clickhouse.database
    try:
        (row,) = client.rows(
            "SELECT version() AS v, (SELECT count() FROM system.databases WHERE name = {d:String}) AS n",
            {"d": database},
        )
    except Failed as error:
        yield Finding(False, f"clickhouse: {error}")
        return
    yield Finding(True, f"clickhouse: {client.url} answers, version {row['v']}")
    if not row["n"]:
        yield Finding(False, f"database {database}: is missing; run `unproxy migrate`")
        return
    if missing := on_tables(settings, pending):
        yield Finding(False, f"tables: {', '.join(missing)} not applied; run `unproxy migrate`")
    lost = on_tables(settings, lost_tables)
    for name, kind in TABLES.items():
        if name in lost:
            yield Finding(False, f"table {name}: is lost with its rows; restore it, or run `unproxy migrate --lost`")
            continue
        yield _table(settings, name, {column.name: column.clickhouse for column in columns(kind)})
    try:
        kept = on_tables(settings, lambda client, database: retentions(client, database, settings.retention))
    except Failed as error:
        # The writer of the tables may not read system.parts and system.mutations, and has no use for them.
        yield Finding(True, f"retention: cannot be read by this user: {error}")
        return
    yield from (_retention(one) for one in kept if one.months or one.wanted_days or one.differs or one.other_ttl)


def _retention(one: Retention) -> Finding:
    found = f"retention {one.table}: {one.in_words()}"
    if one.differs:
        return Finding(False, f"{found}; the settings state {days_in_words(one.wanted_days)}; run `unproxy migrate`")
    if one.stale_parts and not one.changing:
        return Finding(False, f"{found}; {one.stale_parts} parts have another date; run `unproxy migrate`")
    return Finding(True, f"{found}; ClickHouse is updating its parts" if one.changing else found)


def _table(settings: Settings, name: str, wanted: dict[str, str]) -> Finding:
    client = of_settings(settings)
    found = {
        row["name"]: row["type"]
        for row in client.rows(
            "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String}",
            {"d": client.database, "t": name},
        )
    }
    if not found:
        return Finding(False, f"table {name}: is missing; run `unproxy migrate`")
    missing = [column for column in wanted if column not in found]
    other = [
        f"{column} is {found[column]}, not {kind}" for column, kind in wanted.items() if found.get(column, kind) != kind
    ]
    if missing or other:
        wrong = [*(f"column {column} is missing" for column in missing), *other]
        return Finding(False, f"table {name}: {'; '.join(wrong)}; run `unproxy migrate`")
    return Finding(True, f"table {name}: {len(wanted)} columns as they should be")
