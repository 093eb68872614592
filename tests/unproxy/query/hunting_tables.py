"""Tables for hunts: those of the sample, and a database that holds given rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from schemas.settings import CorrelationSettings, Settings
from sinks.clickhouse import ClickHouseSink
from streams.pipeline import Message, Pipeline
from tests.sample import sample
from unproxy import wiring
from unproxy.local.servers.engine import Engine
from unproxy.query.answer import Table
from unproxy.query.client import Client, of_settings
from unproxy.query.hunt import Answer, Hunt, Limits, answered, prepared

Tables = Mapping[str, Sequence[bytes]]

ALWAYS = "3650d"
"""A time range that reaches back to the sample."""


@cache
def sample_tables() -> Tables:
    """Return all versions of the sample's rows by table, as `unproxy up` makes them."""
    pipeline = Pipeline(CorrelationSettings())
    for number, line in enumerate(sample()):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    made = pipeline.drain()
    assert not made.rejects
    return {
        "DeviceNetworkEvents": made.network_events,
        "DeviceEvents": made.device_events,
        "BlockAlerts": [alert for _, alert in made.alerts],
        "DeviceCoverage": made.coverage,
        "ProtectionModes": made.modes,
    }


def settings_with(engine: Engine, database: str, tables: Tables) -> Settings:
    """Return settings of a new database that holds these rows."""
    list(of_settings(Settings(clickhouse=engine.settings(""))).lines(f"CREATE DATABASE {database}", output="Null"))
    settings = Settings(clickhouse=engine.settings(database))
    wiring.migrate(settings)
    sink = ClickHouseSink(settings.clickhouse)
    for table, rows in tables.items():
        sink.write(table, rows, table)
    sink.close()
    return settings


def hunted(client: Client, text: str, **parameters: str) -> Answer:
    """Return the rows of a query in KQL."""
    limits = Limits()
    return answered(client, prepared(client, Hunt(text, parameters, limits=limits)), limits)


def picked(answer: Answer | Table, *names: str) -> list[tuple[object, ...]]:
    """Return these columns of an answer."""
    places = [answer.names.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in answer.rows]
