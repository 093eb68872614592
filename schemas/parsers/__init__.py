"""Parsers, one file per sensor. A new file here needs no registration: discovery, contract tests, metrics and docs find it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, lru_cache

from schemas.dialect import UNKNOWN_SENSOR, Dialect, Sensor


@cache
def dialects() -> dict[str, Dialect]:
    """Return every dialect by name: the value DIALECT of each module in the packages here that has one."""
    found = {}
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        dialect = getattr(importlib.import_module(module.name), "DIALECT", None)
        if dialect is None:
            continue
        assert isinstance(dialect, Dialect), f"{module.name}: DIALECT must be a Dialect"
        assert dialect.name not in found, f"two dialects are called {dialect.name}"
        found[dialect.name] = dialect
    return found


@cache
def sensors() -> dict[str, Sensor]:
    """Return every sensor by name. Dialects may share a sensor."""
    declared = [sensor for dialect in dialects().values() for sensor in dialect.sensors]
    found = {sensor.name: sensor for sensor in declared}
    assert all(sensor is found[sensor.name] for sensor in declared), "two sensors have the same name"
    return found


@lru_cache(maxsize=256)
def sensor_of(name: str) -> Sensor:
    """Return the declaration of a sensor, or `UNKNOWN_SENSOR`."""
    return sensors().get(name, UNKNOWN_SENSOR)


@cache
def endpoint_clock_kinds() -> frozenset[str]:
    """Return the kinds of flow ids whose sensors use the clock of the device's endpoint records."""
    return frozenset(sensor.flow_id_kind for sensor in sensors().values() if sensor.on_endpoint_clock)
